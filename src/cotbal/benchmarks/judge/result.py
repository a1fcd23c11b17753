"""From replies to scores: the marks of every pair, the relative score, and the same for every
category.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from cotbal.benchmarks.judge.judge import Judge
from cotbal.benchmarks.judge.kept import BEST, Kept
from cotbal.benchmarks.judge.pairs import Pair
from cotbal.errors import RunError
from cotbal.metrics.judge import relative

ALL = "all"


@dataclass(frozen=True)
class Category:
    """One category, or all pairs.

    Attributes:
        pairs: how many there are.
        left_out: how many of them got no marks.
        answers, references: mean marks.
        score: relative score in percent.
    """

    name: str
    pairs: int
    left_out: int
    answers: float
    references: float
    score: float


@dataclass(frozen=True)
class Judged:
    """The marks of all pairs of a file; NaN where the judge gave none."""

    pairs: tuple[Pair, ...]
    answers: Float[np.ndarray, " pair"]
    references: Float[np.ndarray, " pair"]

    def entry(self, judge: Judge) -> dict[str, Any]:
        """What a file of scores holds of the metric; its maximum is the score of answers that all
        get a 10.
        """
        known = ~np.isnan(self.answers)
        found = relative(self.answers, self.references)
        marks = {"answers": _list(self.answers), "references": _list(self.references)}
        return {
            "score": found.score,
            "maximum": 100 * BEST / float(self.references[known].mean()),
            **found.to_json(),
            "marks": marks,
            "left_out": [
                pair.id for pair, there in zip(self.pairs, known, strict=True) if not there
            ],
            "judge": judge.model,
        }

    def categories(self) -> list[Category]:
        """Every category in order of appearance, where there are several, then all of them
        together.
        """
        names = np.array([pair.category for pair in self.pairs], dtype=object)
        several = list(dict.fromkeys(names.tolist()))
        found = (
            [self._category(name or "(none)", names == name) for name in several]
            if len(several) > 1
            else []
        )
        return [*found, self._category(ALL, np.ones(len(names), dtype=bool))]

    def _category(self, name: str, chosen: np.ndarray) -> Category:
        answers, references = self.answers[chosen], self.references[chosen]
        known = ~np.isnan(answers)
        nothing = float("nan")
        return Category(
            name,
            len(answers),
            int((~known).sum()),
            float(answers[known].mean()) if known.any() else nothing,
            float(references[known].mean()) if known.any() else nothing,
            relative(answers, references).score if known.any() else nothing,
        )


def judged(pairs: Sequence[Pair], judge: Judge, kept: Kept, source: str) -> Judged:
    """The marks of pairs whose requests are all settled; with `swap`, the mean over both orders.

    Raises:
        RunError: none of them has marks.
    """
    answers, references = np.full(len(pairs), np.nan), np.full(len(pairs), np.nan)
    for place, pair in enumerate(pairs):
        found = [kept.marks(ask) for ask in judge.asks(pair)]
        known = [marks for marks in found if marks is not None]
        if len(known) == len(found):  # one order alone would bring back what the swap takes away
            answers[place] = np.mean([marks.answer for marks in known])
            references[place] = np.mean([marks.reference for marks in known])
    if np.isnan(answers).all():
        raise RunError(
            f"{source}: expected marks from {judge.model}; found none in any of its replies: read"
            f" {kept.path}, and give another --model or --prompt"
        )
    return Judged(tuple(pairs), answers, references)


def summary(found: Mapping[str, Judged]) -> dict[str, list[dict[str, Any]]]:
    """Set of answers -> its categories, as `summary.json` holds them."""
    return {
        name: [vars(category) for category in each.categories()] for name, each in found.items()
    }


def _list(values: np.ndarray) -> list[float | None]:
    """NaN as JSON knows it."""
    return [None if np.isnan(value) else float(value) for value in values]
