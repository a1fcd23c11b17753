"""Scalarizers of TorchJD as weightings (https://torchjd.org): `torchjd:STCH` is its class `STCH`.

A scalarizer maps the losses of all tasks to one number, so the weight of a task is the derivative
of that number with respect to its loss. Coefficients are needed before the forward pass of a step,
so the derivative is taken at the losses of the last finished step.

| | TorchJD | here |
|---|---|---|
| losses | of the current batch | of the last optimizer step |
| absent task | needs a loss | its last loss; before the first one, the mean of the others |
| scale of the weights | the scalarizer's | mean 1 |
| small losses | as they are | at least 1/50 of the largest loss, so that no weight is infinite |
| learned parameters (UW, IMTL-L) | by the optimizer of the model | by gradient descent with `lr` |

Torch is imported with the first training step, not where a training is planned.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from cotbal.errors import CotbalError, MissingDependency, near
from cotbal.weightings import (
    LARGEST_RATIO,
    Average,
    State,
    checked,
    from_json,
    observed,
    to_json,
)

if TYPE_CHECKING:
    from torch import Tensor

LABEL = "TorchJD"
LR = 0.02  # about a hundred steps until the parameters of UW have followed a changed loss
SUPPORTED: dict[str, dict[str, float]] = {  # scalarizer -> options with their defaults
    "GeometricMean": {},
    "IMTLL": {"lr": LR},
    "STCH": {"mu": 0.1},
    "UW": {"lr": LR},
}
NEGATIVE = "it can give a task a negative weight, which would raise its loss"
NOT_SUPPORTED = {
    "COSMOS": NEGATIVE,
    "Constant": "use the weighting `cotbal` with --weights",
    "DWA": "use the weighting `dwa`, whose windows are part of a checkpoint",
    "FAMO": "it needs the losses of the same batch after the update, a second forward pass",
    "Mean": "use the weighting `ew`",
    "PBI": NEGATIVE,
    "Random": "use the weighting `rlw`",
    "Sum": "use the weighting `ew`",
}
AGGREGATOR = "the aggregators of TorchJD need the gradient of every task"
SMALLEST_LOSS = 1e-6
SMALLEST_WEIGHT = 1e-6  # of a mean of 1; a smooth maximum gives exactly 0 to small losses


class Scalarized:
    """Derivatives of a scalarizer at the last losses, scaled to a mean of 1.

    Args:
        scalarizer: makes the scalarizer, a module that maps a vector of losses to a number; called
            when it is first needed. Everything that it learns must be in its `state_dict()`.
        tasks: number of tasks.
        lr: learning rate of the parameters of the scalarizer. No parameter moves by more than this
            in a step.
    """

    average: Average = "token"
    starts: int = 1

    def __init__(self, scalarizer: Callable[[], Any], tasks: int, *, lr: float = LR) -> None:
        self._make = scalarizer
        self._lr = lr
        self._losses: Float[np.ndarray, " task"] = np.full(tasks, np.nan)

    @cached_property
    def _scalarizer(self) -> Any:
        return self._make().double()

    def weights(self, step: int) -> Float[np.ndarray, " task"]:
        """From the last losses; 1 for every task before the first ones."""
        if np.isnan(self._losses).all():
            return np.ones(len(self._losses))
        import torch

        values = self._values().requires_grad_()
        with torch.enable_grad():
            (slopes,) = torch.autograd.grad(self._scalarizer(values), values)
        weights = checked(slopes.numpy(), len(values))
        weights = np.maximum(weights / weights.mean(), SMALLEST_WEIGHT)
        return weights / weights.mean()

    def observe(self, losses: Float[np.ndarray, " task"], counts: Int[np.ndarray, " task"]) -> None:
        """Keep the losses of the step, and move the parameters of the scalarizer."""
        current = observed(losses, counts)
        self._losses = np.where(np.isnan(current), self._losses, current)
        parameters = list(self._scalarizer.parameters())
        if not parameters or np.isnan(self._losses).all():
            return
        import torch

        with torch.enable_grad():
            slopes = torch.autograd.grad(self._scalarizer(self._values()), parameters)
        with torch.no_grad():
            for parameter, slope in zip(parameters, slopes, strict=True):
                parameter.sub_(self._lr * slope.clamp(-1, 1))

    def _values(self) -> Tensor:
        import torch

        filled = np.where(np.isnan(self._losses), np.nanmean(self._losses), self._losses)
        smallest = max(filled.max() / LARGEST_RATIO, SMALLEST_LOSS)
        return torch.tensor(np.maximum(filled, smallest), dtype=torch.float64)

    def state_dict(self) -> State:
        """The last losses, and the parameters of the scalarizer."""
        learned = self._scalarizer.state_dict()
        return {
            "losses": to_json(self._losses),
            "scalarizer": {name: value.tolist() for name, value in learned.items()},
        }

    def load_state_dict(self, state: State) -> None:
        """Resume with these losses and parameters."""
        import torch

        self._losses = from_json(state["losses"])
        learned = state["scalarizer"].items()
        self._scalarizer.load_state_dict(
            {name: torch.tensor(value, dtype=torch.float64) for name, value in learned}
        )


def build(tasks: Sequence[str], *, variant: str, **options: float) -> Scalarized:
    """The scalarizer called `variant` for these tasks; `SUPPORTED` lists its options.

    Raises:
        CotbalError: the scalarizer is not supported, or an option is unknown or not positive.
        MissingDependency: TorchJD is not installed.
    """
    _check_variant(variant)
    name = f"weighting torchjd:{variant}"
    known = SUPPORTED[variant]
    if unknown := [option for option in options if option not in known]:
        expected = f"only {', '.join(known)}" if known else "no options"
        raise CotbalError(
            f"{name}: expected {expected}; found {', '.join(unknown)}", "unknown-option"
        )
    for option, value in options.items():
        if isinstance(value, bool) or not 0 < value < float("inf"):
            raise CotbalError(
                f"{name}: expected a positive {option}; found {value!r}", "invalid-option"
            )
    if importlib.util.find_spec("torchjd") is None:
        raise MissingDependency(name, "torchjd")
    chosen = {**known, **options}
    lr = chosen.pop("lr", LR)
    return Scalarized(lambda: _scalarizer(variant, len(tasks), chosen), len(tasks), lr=lr)


def _check_variant(variant: str) -> None:
    if variant in SUPPORTED:
        return
    meant = near(variant, tuple(SUPPORTED)) or f"; {AGGREGATOR}"
    reason = f": {NOT_SUPPORTED[variant]}" if variant in NOT_SUPPORTED else meant
    raise CotbalError(
        f"weighting torchjd: expected one of {', '.join(SUPPORTED)}; found {variant!r}{reason}",
        "unknown-name",
    )


def _scalarizer(variant: str, tasks: int, options: dict[str, float]) -> Any:
    from torchjd import scalarization

    learned = "lr" in SUPPORTED[variant]  # one parameter per task
    make = getattr(scalarization, variant)
    return make(tasks) if learned else make(**options)
