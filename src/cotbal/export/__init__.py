"""Weights for somebody else's trainer: one file per trainer, whose name is that of the module.

A module offers `write(order, out) -> Guide`: it writes the rows and the configuration that the
trainer reads into the directory `out`, and says what the user must know to run it. Trainers differ
in what they can carry, see docs/exports.md:

* a weight a message, where the trainer multiplies losses by it;
* otherwise the number of records: a task with the weight 1.6 is shown 1.6 times as often as with
  equal weights.

Either way the numbers are scaled so that their mean over the mixture is 1 (`mean_one`), which keeps
the length of training and the scale of the loss.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cotbal import plugins
from cotbal.data.files import write_text
from cotbal.errors import CotbalError
from cotbal.jobs.rundir import RunDir
from cotbal.recipe.recipe import Recipe

HOW_TO_RUN = "HOW_TO_RUN.md"


@dataclass(frozen=True)
class Order:
    """What is to be exported.

    Attributes:
        recipe: the mixture.
        run: where weights and scores of the recipe lie.
        weights: a file of weights to take instead of those of `run`.
    """

    recipe: Recipe
    run: RunDir
    weights: Path | None = None


@dataclass(frozen=True)
class Guide:
    """What a user must know of one export; the text of HOW_TO_RUN.md.

    Attributes:
        trainer: the trainer and the version that its format was read from.
        table: lines of a Markdown table, one per task or run.
        command: what to type in the export's directory.
        meaning: how the numbers act in the trainer, and how exactly; one sentence each.
        lost: what the export does not carry over; one sentence each.
    """

    trainer: str
    table: tuple[str, ...]
    command: str
    meaning: tuple[str, ...]
    lost: tuple[str, ...]

    @property
    def text(self) -> str:
        """The guide as Markdown."""
        parts = [
            f"# Export for {self.trainer}",
            "\n".join(self.table),
            "## Run, in this directory",
            f"    {self.command}",
            "## What the numbers do",
            _listed(self.meaning),
            "## What is not carried over",
            _listed(self.lost),
        ]
        return "\n\n".join(parts) + "\n"


def _listed(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences) or "Nothing."


def export(order: Order, trainer: str, out: Path) -> Guide:
    """Write everything that `trainer` needs into the new directory `out`, whole or not at all.

    Args:
        trainer: name of a module here, with `-` or `_`; or the dotted path of the user's own.

    Raises:
        CotbalError: no such trainer, `out` holds something already, or the trainer cannot be served
            from this order.
    """
    module = plugins.load("cotbal.export", trainer.replace("-", "_"))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CotbalError(
            f"--out: {out} exists already and was left as it is; give another directory"
        )
    out = out.resolve()
    if out == Path.cwd():
        raise CotbalError(
            "--out: expected the name of a new directory; found the one that you are in"
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


def mean_one(weights: Mapping[str, float], amounts: Mapping[str, float]) -> dict[str, float]:
    """`w_t * sum_s a_s / sum_s (w_s a_s)`: the weights in proportion, their mean over the amounts
    1.

    With valid tokens as amounts, a trainer that divides the weighted sum of losses by the plain
    number of tokens keeps the scale that it has without weights. With records as amounts, these are
    the times that every record of a task is shown so that the number of records stays.

    Raises:
        CotbalError: the amounts are all 0.
    """
    total = sum(amounts.values())
    if not total > 0:
        raise CotbalError(
            f"expected answers with valid tokens in some task; found none in {', '.join(amounts)}"
        )
    factor = total / sum(weight * amounts[task] for task, weight in weights.items())
    return {task: weight * factor for task, weight in weights.items()}
