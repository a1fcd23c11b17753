"""Which runs feed the equations: standard, precise difficulty (Eq. 17), simple (Eq. 15, 16),
groups.
"""

from __future__ import annotations

import numpy as np
import pytest

from cotbal.balance import Settings, balance
from cotbal.balance.probes import form_of, form_runs
from cotbal.errors import ScoresError
from cotbal.recipe.mixture import Mixture
from cotbal.recipe.runs import plan_probes
from cotbal.scores.matrix import ScoreMatrix
from helpers.errors import raises

NAN = float("nan")
# base, then a alone, b alone (scored on everything), then their minis (scored on their own task
# alone).
SIMPLE = ScoreMatrix(
    ("base", "solo:a", "solo:b", "solo-mini:a", "solo-mini:b"),
    ("a", "b"),
    np.array([[0.1, 0.2], [0.6, 0.3], [0.2, 0.8], [0.3, NAN], [NAN, 0.6]]),
)
STANDARD = ScoreMatrix(
    ("mini", "full:a", "full:b", "solo:a", "solo:b", "solo-mini:a", "solo-mini:b"),
    ("a", "b"),
    np.array([[0.2, 0.4], [0.7, 0.5], [0.3, 0.8], [0.5, NAN], [NAN, 0.9], [0.1, NAN], [NAN, 0.6]]),
)


def test_simple_form_by_hand() -> None:
    """Eq. 15 and 16, with numbers small enough for paper and pencil."""
    result = balance(SIMPLE)
    assert (result.form, result.difficulty_form) == ("simple", "simple")
    np.testing.assert_allclose(result.contribution, [[1, 1 / 6], [0.2, 1]])
    np.testing.assert_allclose(result.difficulty, [0.5, 0.25])
    assert result.flags == ()


def test_real_and_precise_difficulty_by_hand() -> None:
    """Eq. 9 reads the probes, Eq. 17 models trained on one task alone; contributions stay those of
    the probes.
    """
    real, precise = (
        balance(STANDARD, settings=Settings(difficulty=kind)) for kind in ("real", "precise")
    )
    np.testing.assert_allclose(real.difficulty, [5 / 7, 0.5])
    np.testing.assert_allclose(precise.difficulty, [0.8, 1 / 3])
    np.testing.assert_array_equal(real.contribution, precise.contribution)
    assert real.difficulty_form, precise.difficulty_form == ("real", "precise")


def test_the_form_is_read_off_the_rows() -> None:
    assert form_of(SIMPLE.runs) == "simple"
    assert form_of(STANDARD.runs) == "standard"
    assert form_of(("base", "full:a", "full:b")) == "standard", "only `mini` is missing"
    assert form_of(("mini", "base")) == "standard"
    assert form_of(("full:a",)) == "standard", "so that the message names the row `mini`"


@pytest.mark.parametrize(
    ("form", "difficulty"), [("standard", "real"), ("standard", "precise"), ("simple", "real")]
)
def test_a_form_reads_exactly_the_planned_probes(
    form: str, difficulty: str, grouped: Mixture
) -> None:
    planned = [run.name for run in plan_probes(grouped, form, difficulty)]  # type: ignore[arg-type]
    read = form_runs(form, difficulty, grouped.units).names  # type: ignore[arg-type]
    assert sorted(read) == sorted(planned)


def test_an_empty_cell_that_is_read_is_named() -> None:
    values = SIMPLE.values.copy()
    values[1, 1] = NAN
    with raises(ScoresError, "missing-score", "solo:a on b"):
        balance(ScoreMatrix(SIMPLE.runs, SIMPLE.tasks, values))


def test_an_empty_cell_of_another_seed_is_named() -> None:
    values = SIMPLE.values.copy()
    values[2, 0] = NAN
    with raises(ScoresError, "missing-score", "solo:b on a"):
        balance([SIMPLE, ScoreMatrix(SIMPLE.runs, SIMPLE.tasks, values)])


def test_a_missing_row_is_named() -> None:
    with raises(ScoresError, "missing-row", "solo:a, solo:b, solo-mini:a, solo-mini:b"):
        balance(
            STANDARD.rows(("mini", "full:a", "full:b")), settings=Settings(difficulty="precise")
        )


def test_the_guard_reads_the_runs_of_the_form() -> None:
    values = SIMPLE.values.copy()
    values[1, 0] = 0.05  # a alone scores below the base
    flag = balance(ScoreMatrix(SIMPLE.runs, SIMPLE.tasks, values)).flags[0]
    assert (flag.task, flag.kind) == ("a", "no_gain")
    assert all(part in flag.message for part in ("`solo:a`", "0.050", "`base`", "0.100"))


def test_precise_difficulty_has_its_own_denominator() -> None:
    """A model trained on `a` alone that knows nothing spoils the difficulty of `a`, not its
    contributions.
    """
    values = STANDARD.values.copy()
    values[3, 0] = 0.0
    result = balance(
        ScoreMatrix(STANDARD.runs, STANDARD.tasks, values), settings=Settings(difficulty="precise")
    )
    assert [(flag.task, flag.kind) for flag in result.flags] == [("a", "no_score")]
    assert np.isnan(result.difficulty[0])
    assert result.parts["intra"][0] == 1
    assert not np.isnan(result.contribution).any()


def test_a_group_gives_and_receives_as_one() -> None:
    """Contribution and difficulty a task, averaged inside the group, so that metrics of two scales
    never mix.
    """
    matrix = ScoreMatrix(
        ("mini", "full:ab", "full:c"),
        ("a", "b", "c"),
        np.array([[0.1, 10, 0.2], [0.3, 30, 0.3], [0.2, 15, 0.6]]),
    )
    result = balance(matrix, {"a": "ab", "b": "ab"})
    assert result.units == ("ab", "c")
    np.testing.assert_allclose(result.contribution, [[1, 0.25], [0.375, 1]])
    np.testing.assert_allclose(result.difficulty, [2 / 3, 2 / 3])
