"""`cotbal init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cotbal.errors import CotbalError


def init(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("recipe.yaml"),
) -> None:
    """Write a commented starter recipe."""
    from cotbal.recipe.starter import STARTER

    if path.exists():
        raise CotbalError(
            f"{path} exists already and was left as it is; give another name", "existing-output"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(STARTER, encoding="utf-8")
    print(f"Wrote {path}. Fill in your tasks, then: cotbal check {path}")
