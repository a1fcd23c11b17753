from __future__ import annotations

import numpy as np
import pytest

from cotbal.balance import Settings, balance
from cotbal.balance.shrinkage import Shrinkage, shrink
from cotbal.errors import ScoresError
from helpers.balance_cases import right_or_wrong, table, with_samples
from helpers.errors import raises


def square(tasks: int, true: float, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """True contributions around 0.3 and the same with noise; the diagonal is 1."""
    generator = np.random.default_rng(seed)
    truth = 0.3 + true * generator.standard_normal((tasks, tasks))
    seen = truth + noise * generator.standard_normal((tasks, tasks))
    np.fill_diagonal(truth, 1.0)
    np.fill_diagonal(seen, 1.0)
    return truth, seen


def test_shrunk_values_are_closer_to_the_truth_on_average() -> None:
    gains = []
    for seed in range(60):
        truth, seen = square(7, 0.1, 0.2, seed)
        shrunk = shrink(seen, np.full((7, 7), 0.04))
        gains.append(np.square(seen - truth).sum() / np.square(shrunk - truth).sum())
    assert np.median(gains) > 2


def test_without_noise_nothing_moves_and_without_signal_all_becomes_one_value() -> None:
    _, seen = square(5, 0.1, 0.0, 1)
    np.testing.assert_allclose(shrink(seen, np.zeros((5, 5))), seen)
    off = ~np.eye(5, dtype=bool)
    pulled = shrink(seen, np.full((5, 5), 50.0))
    np.testing.assert_allclose(pulled[off], seen[off].mean())
    np.testing.assert_array_equal(np.diag(pulled), np.ones(5))


def test_values_that_are_all_the_same_and_certain_stay() -> None:
    """Neither signal nor noise: nothing to divide by."""
    same = np.full((5, 5), 0.25)
    np.testing.assert_allclose(shrink(same, np.zeros((5, 5))), same)
    tiny = np.full((5, 5), 1e-320)
    np.testing.assert_allclose(shrink(same, tiny), same)


def test_noisy_entries_move_more() -> None:
    _, seen = square(6, 0.2, 0.0, 2)
    variances = np.full((6, 6), 0.01)
    variances[0, 1] = 1.0
    pulled, off = shrink(seen, variances), ~np.eye(6, dtype=bool)
    center = pulled[off].mean()
    kept = (pulled - center)[off] / (seen - center)[off]
    assert kept.min() == pytest.approx(((pulled - center) / (seen - center))[0, 1], abs=0.1)


def test_unknown_columns_stay_unknown_and_resamples_are_shrunk_one_by_one() -> None:
    many = np.stack([square(4, 0.1, 0.1, seed)[1] for seed in range(5)])
    many[:, :, 2] = np.nan
    shrinkage = Shrinkage(lambda: enumerate(np.moveaxis(many, 2, 0)), units=4)
    np.testing.assert_allclose(shrinkage.variances, many.var(axis=0))
    columns = [shrinkage.pulled(receiver, many[:, :, receiver]) for receiver in range(4)]
    pulled = np.stack(columns, axis=-1)
    np.testing.assert_array_equal(np.isnan(pulled), np.isnan(many))
    for before, after in zip(many, pulled, strict=True):
        np.testing.assert_allclose(after, shrink(before, shrinkage.variances))
        assert np.ptp(after[:, 0]) < np.ptp(before[:, 0])


def test_balance_with_shrinking_has_weights_closer_to_one() -> None:
    levels = {"a": [0.2, 0.5, 0.3, 0.2], "b": [0.3, 0.4, 0.6, 0.2], "c": [0.1, 0.3, 0.15, 0.4]}
    matrix = with_samples(
        {t: right_or_wrong(row, 80, s, common=0.3) for s, (t, row) in enumerate(levels.items())}
    )
    plain, shrunk = (
        balance(matrix, settings=Settings(shrink=shrink, bootstrap=400)) for shrink in (False, True)
    )
    off = ~np.eye(3, dtype=bool)
    assert np.ptp(shrunk.contribution[off]) < np.ptp(plain.contribution[off])
    assert (shrunk.shrunk, plain.shrunk) == (True, False)
    np.testing.assert_allclose(
        shrunk.outward, [shrunk.contribution[i, off[i]].mean() for i in range(3)]
    )
    np.testing.assert_array_equal(shrunk.difficulty, plain.difficulty)


def test_a_bare_table_shows_no_noise_to_shrink_by() -> None:
    with raises(ScoresError, "no-samples"):
        balance(table([[0.2, 0.4], [0.6, 0.5], [0.3, 0.8]]), settings=Settings(shrink=True))
