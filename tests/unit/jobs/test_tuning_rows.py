"""Which records are trained on while steps are timed."""

from __future__ import annotations

from statistics import mean

import pytest

from cotbal.jobs.tuning.rows import UNTIMED, in_steps


def of_step(order: list[int], batch: int, step: int) -> list[int]:
    return order[step * batch : (step + 1) * batch]


def test_the_first_step_has_the_longest_rows() -> None:
    lengths = [(7 * i) % 100 for i in range(100)]
    order = in_steps(lengths, 8, 3)
    assert len(order) == 8 * (UNTIMED + 3 + 1)
    assert sorted(lengths[i] for i in order[:8]) == list(range(92, 100))


def test_timed_steps_have_about_the_same_lengths_as_all_rows() -> None:
    """A few rows are ten times as long as the others."""
    lengths = [100 if i % 10 == 0 else 10 + i % 5 for i in range(200)]
    order = in_steps(lengths, 20, 4)
    mixed = range(1, UNTIMED + 4)
    for step in mixed:
        rows = of_step(order, 20, step)
        assert len(set(rows)) == 20
        assert mean(lengths[i] for i in rows) == pytest.approx(mean(lengths), rel=0.03)
        assert [lengths[i] for i in rows] != sorted(lengths[i] for i in rows)
    assert len({i for step in mixed for i in of_step(order, 20, step)}) == 20 * len(mixed)


def test_few_rows_are_repeated() -> None:
    order = in_steps([3, 5], 4, 2)
    assert order[:4] == [1, 0, 1, 0]
    assert len(order) == 4 * (UNTIMED + 2 + 1)
    assert set(order) == {0, 1}
