"""Scalarizers of TorchJD against their formulas, on losses that are known."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torchjd.scalarization import STCH, UW

from cotbal.errors import CotbalError, MissingDependency
from cotbal.weightings import build_weighting, method_label
from cotbal.weightings.torchjd import LARGEST_RATIO, SUPPORTED, Scalarized
from helpers.errors import raises

TASKS = ("a", "b", "c")
NAN = float("nan")


def watched(rows: list[list[float]], name: str, **options: float) -> Scalarized:
    weighting: Any = build_weighting(f"torchjd:{name}", TASKS, options=options)
    for row in rows:
        weighting.observe(np.array(row), np.array([0 if np.isnan(loss) else 5 for loss in row]))
    return weighting


def scaled(values: list[float]) -> np.ndarray:
    return np.array(values) / np.mean(values)


def test_the_geometric_mean_weighs_by_the_inverse_loss() -> None:
    weights = watched([[9.0, 9.0, 9.0], [1.0, 2.0, 4.0]], "GeometricMean").weights(2)
    np.testing.assert_allclose(weights, scaled([1, 1 / 2, 1 / 4]))


def test_the_smooth_maximum_weighs_by_a_softmax_of_the_losses() -> None:
    weights = watched([[1.0, 2.0, 4.0]], "STCH", mu=0.5).weights(1)
    np.testing.assert_allclose(weights, scaled(list(np.exp(np.array([1.0, 2.0, 4.0]) / 3 / 0.5))))
    assert watched([[1.0, 2.0, 4.0]], "STCH", mu=0.001).weights(1)[0] > 0


@pytest.mark.parametrize(("name", "sign"), [("UW", -0.5), ("IMTLL", 1.0)])
def test_learned_scales_move_by_gradient_descent(name: str, sign: float) -> None:
    """One step from 0: the slope of UW is (1 - L) / 2, that of IMTL-L is L - 1, at most 1."""
    losses = np.array([0.5, 1.5, 8.0])
    weights = watched([losses.tolist()], name, lr=0.1).weights(1)
    slopes = np.clip(sign * (losses - 1), -1, 1)
    scales = -0.1 * slopes
    np.testing.assert_allclose(weights, scaled(list(np.exp(-scales if name == "UW" else scales))))


@pytest.mark.parametrize("name", ["UW", "IMTLL"])
def test_learned_scales_tend_to_the_inverse_loss(name: str) -> None:
    weights = watched([[1.0, 2.0, 4.0]] * 600, name, lr=0.1).weights(600)
    np.testing.assert_allclose(weights, scaled([1, 1 / 2, 1 / 4]), rtol=1e-4)


def test_an_absent_task_keeps_its_last_loss() -> None:
    weights = watched([[1.0, 2.0, 9.0], [NAN, NAN, 4.0]], "GeometricMean").weights(2)
    np.testing.assert_allclose(weights, scaled([1, 1 / 2, 1 / 4]))


def test_before_its_first_loss_a_task_has_the_mean_of_the_others() -> None:
    weights = watched([[1.0, 2.0, NAN]], "GeometricMean").weights(1)
    np.testing.assert_allclose(weights, scaled([1, 1 / 2, 1 / 1.5]))


def test_losses_of_zero_do_not_make_a_weight_infinite() -> None:
    weights = watched([[0.0, 1.0, 1.0]], "GeometricMean").weights(1)
    np.testing.assert_allclose(weights, scaled([LARGEST_RATIO, 1, 1]))
    np.testing.assert_array_equal(watched([[0.0] * 3], "GeometricMean").weights(1), 1)


def test_weights_are_those_of_the_class_itself() -> None:
    """The gradient of the scalarizer's number is the sum of the weighted gradients of the losses,
    up to the scale.
    """
    losses = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64, requires_grad=True)
    (slopes,) = torch.autograd.grad(STCH(0.5)(losses), losses)
    weights = watched([[1.0, 2.0, 4.0]], "STCH", mu=0.5).weights(1)
    np.testing.assert_allclose(weights, scaled(slopes.tolist()))


def test_a_scalarizer_of_the_user() -> None:
    class Squares(torch.nn.Module):
        def forward(self, losses: torch.Tensor) -> torch.Tensor:
            return losses.square().sum()

    weighting = Scalarized(Squares, 2)
    weighting.observe(np.array([1.0, 3.0]), np.array([5, 5]))
    np.testing.assert_allclose(weighting.weights(1), [0.5, 1.5])


def test_negative_weights_are_rejected() -> None:
    class Difference(torch.nn.Module):
        def forward(self, losses: torch.Tensor) -> torch.Tensor:
            return losses[0] - losses[1]

    weighting = Scalarized(Difference, 2)
    weighting.observe(np.array([1.0, 3.0]), np.array([5, 5]))
    with raises(CotbalError, "invalid-weights", "-1"):
        weighting.weights(1)


def test_a_resumed_training_has_the_scales_of_the_first() -> None:
    before = watched([[1.0, 2.0, 4.0]] * 9, "UW")
    after = Scalarized(lambda: UW(3), 3)
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    np.testing.assert_array_equal(after.weights(9), before.weights(9))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("FAMO", "second forward pass"),
        ("COSMOS", "negative weight"),
        ("PBI", "negative weight"),
        ("DWA", "`dwa`"),
        ("Random", "`rlw`"),
        ("Mean", "`ew`"),
        ("Sum", "`ew`"),
        ("Constant", "--weights"),
        ("UPGrad", "gradient of every task"),
        ("GeometricMeen", "did you mean 'GeometricMean'"),
    ],
)
def test_what_does_not_fit_is_rejected_with_a_reason(name: str, said: str) -> None:
    with raises(CotbalError, "unknown-name", name, *SUPPORTED, said):
        build_weighting(f"torchjd:{name}", TASKS)


def test_the_scalarizer_has_to_be_named() -> None:
    with raises(CotbalError, "unknown-name", "torchjd:"):
        build_weighting("torchjd", TASKS)


def test_every_scalarizer_of_the_release_is_known() -> None:
    from torchjd import scalarization

    from cotbal.weightings.torchjd import NOT_SUPPORTED

    assert {*SUPPORTED, *NOT_SUPPORTED} == {*scalarization.__all__} - {"Scalarizer"}


@pytest.mark.parametrize("options", [{"mu": 0}, {"mu": NAN}, {"mu": -1.0}, {"mu": True}])
def test_invalid_options_are_rejected(options: dict[str, float]) -> None:
    with raises(CotbalError, "invalid-option", "torchjd:STCH", "mu"):
        build_weighting("torchjd:STCH", TASKS, options=options)


@pytest.mark.parametrize(("name", "known"), [("STCH", "mu"), ("GeometricMean", "no options")])
def test_options_of_other_scalarizers_are_rejected(name: str, known: str) -> None:
    with raises(CotbalError, "unknown-option", f"torchjd:{name}", known, "lr"):
        build_weighting(f"torchjd:{name}", TASKS, options={"lr": 0.1})


def test_the_package_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchjd", None)
    with raises(MissingDependency, "missing-dependency", "torchjd:UW", "cotbal[torchjd]"):
        build_weighting("torchjd:UW", TASKS)


def test_the_label_names_the_scalarizer() -> None:
    assert method_label("torchjd:STCH") == "TorchJD: STCH"
