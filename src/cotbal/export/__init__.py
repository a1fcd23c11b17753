"""Weights for other trainers: one file per trainer, whose name is that of the module.

A module offers `write(order, out) -> Guide`: it writes rows and configuration of the trainer into
the directory `out`, and returns what a user must know to run it. Trainers differ in what they
support, see docs/exports.md:

* a weight per message, where the trainer multiplies losses by it;
* otherwise the number of records: a task with weight 1.6 is shown 1.6 times as often as with equal
  weights.

In both cases the numbers are scaled so that their mean over the mixture is 1 (`mean_one`), which
keeps the length of training and the scale of the loss.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from cotbal import plugins
from cotbal.data.files import require_new_directory, write_text
from cotbal.errors import CotbalError
from cotbal.jobs.rundir import RunDir
from cotbal.recipe.recipe import Recipe

HOW_TO_RUN = "HOW_TO_RUN.md"
_GUIDE = """\
# Export for {trainer}

{table}

## Run in this directory

    {command}

## Effect of the numbers

{meaning}

## Not transferred

{lost}
"""


@dataclass(frozen=True)
class Order:
    """What is to be exported.

    Attributes:
        recipe: the mixture.
        run: directory with weights and scores of the recipe.
        weights: a file of weights in place of those of `run`.
    """

    recipe: Recipe
    run: RunDir
    weights: Path | None = None


@dataclass(frozen=True)
class Guide:
    """What a user must know of an export; the text of HOW_TO_RUN.md.

    Attributes:
        trainer: name and version of the format.
        table: a Markdown table with a line per task or run.
        command: to be run in the export's directory.
        meaning: effect of the numbers in the trainer and how exact it is; a Markdown list.
        lost: what is not transferred; a Markdown list.
    """

    trainer: str
    table: str
    command: str
    meaning: str
    lost: str

    @property
    def text(self) -> str:
        """The guide as Markdown."""
        return _GUIDE.format(**{name: text.strip() for name, text in vars(self).items()})


def export(order: Order, trainer: str, out: Path) -> Guide:
    """Write everything that `trainer` needs into the new directory `out`, completely or not at all.

    Args:
        trainer: name of a module here, with `-` or `_`; or the dotted path of a user's own.

    Raises:
        CotbalError: unknown trainer, `out` is not a new directory, or the order does not suit the
            trainer.
    """
    module = plugins.load("cotbal.export", trainer.replace("-", "_"))
    require_new_directory(out)
    out = out.resolve()
    if out == Path.cwd():
        raise CotbalError(
            "--out: expected the name of a new directory; found the current directory",
            "existing-output",
        )
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        guide: Guide = module.write(order, part)
        write_text(part / HOW_TO_RUN, guide.text)
        part.rename(out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return guide
