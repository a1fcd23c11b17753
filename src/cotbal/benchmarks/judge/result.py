"""From replies to scores: ratings of every pair, relative scores of all pairs and per category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from cotbal.benchmarks.judge.judge import Judge
from cotbal.benchmarks.judge.pairs import Pair
from cotbal.benchmarks.judge.replies import BEST, Replies
from cotbal.errors import RunError
from cotbal.metrics.judge import relative
from cotbal.scores.matrix import Measured

ALL = "all"


@dataclass(frozen=True)
class Category:
    """One category, or all pairs.

    Attributes:
        pairs: how many there are.
        left_out: how many of them got no ratings.
        answers, references: mean ratings; NaN without any.
        score: relative score in percent; NaN without ratings.
    """

    name: str
    pairs: int
    left_out: int
    answers: float
    references: float
    score: float


@dataclass(frozen=True)
class Judged:
    """The ratings of all pairs of a file; NaN where the judge gave none."""

    pairs: tuple[Pair, ...]
    answers: Float[np.ndarray, " pair"]
    references: Float[np.ndarray, " pair"]

    def entry(self, judge: Judge) -> dict[str, Any]:
        """The metric's entry in a file of scores; its maximum is the score of answers that all get
        a 10.
        """
        known = ~np.isnan(self.answers)
        measured = Measured(*relative(self.answers, self.references))
        return {
            "score": measured.score,
            "maximum": 100 * BEST / float(self.references[known].mean()),
            **measured.to_json(),
            "ratings": {"answers": _list(self.answers), "references": _list(self.references)},
            "left_out": [self.pairs[i].id for i in np.flatnonzero(~known)],
            "judge": judge.model,
        }

    def categories(self) -> list[Category]:
        """Every category in order of appearance, where there are several, then all of them
        together.
        """
        names = np.array([pair.category for pair in self.pairs], dtype=object)
        categories = []
        distinct = dict.fromkeys(names.tolist())
        if len(distinct) > 1:
            categories = [self._category(name or "(none)", names == name) for name in distinct]
        return [*categories, self._category(ALL, np.ones(len(names), dtype=bool))]

    def _category(self, name: str, chosen: Bool[np.ndarray, " pair"]) -> Category:
        answers, references = self.answers[chosen], self.references[chosen]
        known = ~np.isnan(answers)
        left_out = int((~known).sum())
        if not known.any():
            nan = float("nan")
            return Category(name, len(answers), left_out, nan, nan, nan)
        return Category(
            name,
            len(answers),
            left_out,
            float(answers[known].mean()),
            float(references[known].mean()),
            Measured(*relative(answers, references)).score,
        )


def judged(pairs: Sequence[Pair], judge: Judge, replies: Replies, source: str) -> Judged:
    """The ratings of pairs whose requests are all settled; with `swap`, the mean over both orders.

    Raises:
        RunError: none of them has ratings.
    """
    answers = np.full(len(pairs), np.nan)
    references = np.full(len(pairs), np.nan)
    for i, pair in enumerate(pairs):
        requests = judge.requests(pair)
        ratings = [r for r in map(replies.ratings, requests) if r is not None]
        if len(ratings) == len(requests):  # one order alone would restore the bias of the order
            answers[i] = np.mean([r.answer for r in ratings])
            references[i] = np.mean([r.reference for r in ratings])
    if np.isnan(answers).all():
        raise RunError(
            f"{source}: expected ratings from {judge.model}; found none in any of its replies: read"
            f" {replies.path}, and give another --model or --prompt",
            "no-ratings",
        )
    return Judged(tuple(pairs), answers, references)


def summary(judged_sets: Mapping[str, Judged]) -> dict[str, list[dict[str, Any]]]:
    """Set of answers -> its categories, as in `summary.json`."""
    return {name: list(map(vars, answers.categories())) for name, answers in judged_sets.items()}


def _list(values: Float[np.ndarray, " pair"]) -> list[float | None]:
    """The values as JSON: null for NaN."""
    return [None if np.isnan(value) else value for value in values.tolist()]
