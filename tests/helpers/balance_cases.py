"""Score matrices for the tests of balancing, and Eq. 3-11 written a second time, as plain loops
over plain lists.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from cotbal.scores.matrix import Samples, ScoreMatrix, matrix_of_samples, stacked

LETTERS = "abcdefghij"


def table(values: Sequence[Sequence[float]], tasks: Sequence[str] | None = None) -> ScoreMatrix:
    """A bare table: the first row is `mini`, row 1 + i is `full:<task i>`."""
    names = tuple(tasks or LETTERS[: len(values[0])])
    return ScoreMatrix(
        ("mini", *(f"full:{name}" for name in names)), names, np.array(values, dtype=float)
    )


def with_samples(columns: Mapping[str, np.ndarray], **more: Mapping[str, object]) -> ScoreMatrix:
    """A matrix from the samples of every task `[run, sample]`; `clusters`, `maximum` and `constant`
    by task.
    """
    samples = {
        task: Samples(
            values=values,
            clusters=np.asarray(more.get("clusters", {}).get(task, np.arange(values.shape[1]))),
            maximum=float(more.get("maximum", {}).get(task, 1.0)),  # type: ignore[arg-type]
            constant=more.get("constant", {}).get(task),  # type: ignore[arg-type]
        )
        for task, values in columns.items()
    }
    return matrix_of_samples(("mini", *(f"full:{task}" for task in columns)), samples)


def right_or_wrong(
    levels: Sequence[float], samples: int, seed: int, common: float = 1.0
) -> np.ndarray:
    """Scores 0 or 1 `[run, sample]` that are right with chance `levels[run]`.

    `common` is the share of samples whose luck is one for all runs, so that the runs get the same
    ones right.
    """
    generator = np.random.default_rng(seed)
    shared = generator.uniform(size=samples)
    luck = np.where(
        generator.uniform(size=samples) < common,
        shared,
        generator.uniform(size=(len(levels), samples)),
    )
    return (luck < np.array(levels)[:, None]).astype(float)


def replicated_minis(
    matrix: ScoreMatrix, replicates: int = 3, noise: float = 0.04, seed: int = 0
) -> ScoreMatrix:
    """The table with further rows `mini#2`, ...: its mini with normal noise in every cell."""
    generator = np.random.default_rng(seed)
    parts = [matrix]
    for number in range(2, replicates + 1):
        mini = matrix.rows(["mini"])
        moves = noise * generator.standard_normal(mini.values.shape)
        samples = {
            task: replace(column, values=column.values + moves[:, [j]])
            for j, (task, column) in enumerate(mini.samples.items())
        }
        parts.append(ScoreMatrix((f"mini#{number}",), mini.tasks, mini.values + moves, samples))
    return stacked(parts)


@st.composite
def healthy(draw: st.DrawFn, least: int = 2, most: int = 6) -> list[list[float]]:
    """Rows of a table in which every task gains clearly from its own data."""
    tasks = draw(st.integers(least, most))
    mini = draw(st.lists(st.floats(0.05, 0.5), min_size=tasks, max_size=tasks))
    gain = draw(st.lists(st.floats(0.1, 0.45), min_size=tasks, max_size=tasks))
    share = draw(st.lists(st.floats(-0.5, 1.2), min_size=tasks * tasks, max_size=tasks * tasks))
    rows = [mini]
    for i in range(tasks):
        rows.append(
            [mini[j] + gain[j] * (1.0 if i == j else share[i * tasks + j]) for j in range(tasks)]
        )
    return rows


def plain_contribution(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    """Eq. 3."""
    mini, full = rows[0], rows[1:]
    tasks = range(len(mini))
    return [[(full[i][j] - mini[j]) / (full[j][j] - mini[j]) for j in tasks] for i in tasks]


def plain_outward(c: Sequence[Sequence[float]]) -> list[float]:
    """Eq. 4."""
    t = len(c)
    return [sum(c[i][j] for j in range(t) if j != i) / (t - 1) for i in range(t)]


def plain_inward(c: Sequence[Sequence[float]]) -> list[float]:
    """Eq. 6."""
    t = len(c)
    return [sum(c[i][j] for i in range(t) if i != j) / (t - 1) for j in range(t)]


def plain_difficulty(rows: Sequence[Sequence[float]]) -> list[float]:
    """Eq. 9."""
    return [(rows[1 + i][i] - rows[0][i]) / rows[1 + i][i] for i in range(len(rows[0]))]


def plain_softmax(values: Sequence[float], temperature: float) -> list[float]:
    """Eq. 5, 7 and 10."""
    powers = [math.exp(value / temperature) for value in values]
    return [len(values) * power / sum(powers) for power in powers]


def plain_parts(rows: Sequence[Sequence[float]], temperature: float) -> dict[str, list[float]]:
    """Eq. 3-11."""
    c = plain_contribution(rows)
    outward = plain_softmax(plain_outward(c), temperature)
    inward = plain_softmax([-value for value in plain_inward(c)], temperature)
    intra = plain_softmax(plain_difficulty(rows), temperature)
    inter = [(a + b) / 2 for a, b in zip(outward, inward, strict=True)]
    everything = [(a + b) / 2 for a, b in zip(inter, intra, strict=True)]
    return {"outward": outward, "inward": inward, "inter": inter, "intra": intra, "all": everything}
