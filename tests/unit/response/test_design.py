"""Balanced two-level designs: orthogonal, mirrored, and honest about what they cannot separate."""

from __future__ import annotations

import numpy as np
import pytest

from cotbal.errors import CotbalError
from cotbal.response import two_level_design
from cotbal.response.hadamard import hadamard
from helpers.errors import raises


def names(count: int) -> list[str]:
    return [f"t{i}" for i in range(count)]


@pytest.mark.parametrize("order", [1, 2, *range(4, 49, 4)])
def test_hadamard_matrices_are_orthogonal(order: int) -> None:
    matrix = hadamard(order)
    assert np.array_equal(matrix.T @ matrix, order * np.eye(order))
    assert set(matrix.ravel().tolist()) <= {1, -1}
    assert (matrix[0] == 1).all()
    assert (matrix[:, 0] == 1).all()


def test_an_order_without_a_construction_is_an_error() -> None:
    with pytest.raises(ValueError, match="6"):
        hadamard(6)


@pytest.mark.parametrize(
    ("tasks", "runs", "error"),
    [(4, 16, 0.25), (7, 16, 0.25), (8, 24, 0.20), (11, 24, 0.20), (15, 32, 0.18), (17, 40, 0.16)],
)
def test_the_standard_error_of_a_slope(tasks: int, runs: int, error: float) -> None:
    """`1 / sqrt(runs)` in units of the noise, times what is gained because the trial with all
    weights up is known without a run: it equals the one with equal weights.
    """
    design = two_level_design(names(tasks))
    assert len(design.signs) == runs
    assert 1 / np.sqrt(runs) == pytest.approx(error, abs=0.006)
    expected = np.sqrt((1 - 1 / tasks) / runs)
    assert design.standard_errors() == pytest.approx(np.full(tasks, expected))
    assert design.aliased == ()


@pytest.mark.parametrize("tasks", range(2, 41))
def test_every_number_of_tasks_has_a_balanced_design(tasks: int) -> None:
    design = two_level_design(names(tasks), seeds=(3, 5))
    assert design.aliased == ()
    assert (design.signs.sum(axis=0) == 0).all(), "every weight is up as often as down"
    moved = np.abs(design.signs).sum(axis=1) > 0
    assert (np.abs(design.signs[moved].sum(axis=1)) < tasks).all(), "no row is all up or all down"
    for first, second in zip(design.signs[moved][::2], design.signs[moved][1::2], strict=True):
        assert np.array_equal(first, -second)
    assert design.seeds[::2] == design.seeds[1::2] or (~moved).sum() == 2
    assert np.nanmax(design.standard_errors()) <= 1 / np.sqrt(len(design.signs) - 2)


def test_a_row_and_its_mirror_image_have_the_same_seed() -> None:
    design = two_level_design(names(5), seeds=(0, 1, 2))
    for i in range(0, len(design.signs) - 2, 2):
        assert design.seeds[i] == design.seeds[i + 1]
    assert set(design.seeds) == {0, 1, 2}


@pytest.mark.parametrize(("tasks", "runs"), [(7, 14), (7, 20), (8, 16), (40, 80), (3, 100)])
def test_any_even_number_of_runs(tasks: int, runs: int) -> None:
    design = two_level_design(names(tasks), runs)
    assert len(design.signs) == runs
    assert design.aliased == ()
    assert not np.isnan(design.standard_errors()).any()


def test_too_few_runs_name_what_is_aliased() -> None:
    design = two_level_design(names(7), 10)
    assert set(design.aliased) >= {"t0", "t1"}
    assert all(task in design.aliasing for task in design.aliased)
    assert "14" in design.aliasing
    aliased = [task in design.aliased for task in design.tasks]
    assert np.isnan(design.standard_errors()).tolist() == aliased


def test_more_runs_and_less_noise_detect_smaller_slopes() -> None:
    few, many = (two_level_design(names(7), runs).detectable(1.0) for runs in (16, 48))
    assert (many < few).all()
    design = two_level_design(names(7))
    assert design.detectable(2.0) == pytest.approx(2 * design.detectable(1.0))


def test_the_smallest_detectable_slope_is_found_in_four_of_five_cases() -> None:
    """A slope of that size, measured with normal noise, has an interval without 0."""
    from cotbal.response import Trials, fit_response

    design = two_level_design(names(4))
    size = float(design.detectable(1.0)[0])
    effects = size * np.outer([1, -1 / 3, -1 / 3, -1 / 3], np.ones(4))
    generator, detected = np.random.default_rng(0), []
    for _ in range(100):
        z = np.log2(design.weights)
        z -= z.mean(axis=1, keepdims=True)
        changes = z @ effects + generator.standard_normal(z.shape)
        seeds = tuple(map(str, design.seeds))
        trials = Trials(design.tasks, design.tasks, design.weights, 1 + changes / 100, seeds)
        response = fit_response(trials)
        detected += [response.slope("t0", score).excludes() for score in design.tasks]
    assert 0.72 <= np.mean(detected) <= 0.9


@pytest.mark.parametrize(
    ("tasks", "options"),
    [
        (["a"], {}),
        (["a", "a"], {}),
        (names(41), {}),
        (["a", "b"], {"runs": 7}),
        (["a", "b"], {"runs": 2}),
        (["a", "b"], {"step": 0.0}),
        (["a", "b"], {"seeds": ()}),
    ],
)
def test_a_design_that_cannot_be(tasks: list[str], options: dict) -> None:
    with raises(CotbalError, "invalid-design"):
        two_level_design(tasks, **options)
