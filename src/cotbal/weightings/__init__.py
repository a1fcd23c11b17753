"""Weightings: the method that says what the weights are at this optimizer step. One file a method.

A module offers

- `LABEL`: the name that the paper gives to the method;
- `build(tasks, weights, *, seed=0, **options) -> Weighting`: `weights` maps tasks to fixed weights
  and is None for a method that makes its own; `options` are settings of the method, and one that it
  does not have is an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from jaxtyping import Float, Int

from cotbal.errors import CotbalError

Average = Literal["token", "task"]
State = dict[str, Any]  # what JSON can hold
# of two losses: beyond it a softmax would leave the other tasks a weight of exactly 0 in float32
LARGEST_RATIO = 50.0


class Weighting(Protocol):
    """What the trainer asks of a method, and tells it.

    Attributes:
        average: `token` for a mean over all valid tokens, `task` for a mean over tasks of their
            token means.
        starts: the first optimizer step at which a weight can differ from 1; 0 for a method that
            does not wait.
    """

    @property
    def average(self) -> Average:
        """Over what the loss of a step is averaged."""
        ...

    @property
    def starts(self) -> int:
        """Number of steps that the method watches before its weights move."""
        ...

    def weights(self, step: int) -> Float[np.ndarray, " task"]:
        """Weight of every task at optimizer step `step`: positive, mean 1, in the order of the
        tasks of `build`.

        Fixed weights are as they were given, so their mean may be another.
        """
        ...

    def observe(self, losses: Float[np.ndarray, " task"], counts: Int[np.ndarray, " task"]) -> None:
        """Hear of a finished optimizer step, once a step and the same on every rank.

        Args:
            losses: unweighted mean loss of every task over the valid tokens of the whole step; NaN
                where absent.
            counts: number of those tokens; 0 where the task was absent.
        """
        ...

    def state_dict(self) -> State:
        """Everything observed that later weights depend on; empty for a method that does not
        look."""
        ...

    def load_state_dict(self, state: State) -> None:
        """Go on from what `state_dict` returned."""
        ...


@dataclass(frozen=True)
class Static:
    """A method that does not look at losses: the same weights at every step, and nothing to
    remember.
    """

    values: tuple[float, ...]
    average: Average = "token"
    starts: int = 0

    def weights(self, step: int) -> Float[np.ndarray, " task"]:
        """The weights, whatever the step."""
        return np.array(self.values)

    def observe(self, losses: Float[np.ndarray, " task"], counts: Int[np.ndarray, " task"]) -> None:
        """Nothing to learn from it."""

    def state_dict(self) -> State:
        """Nothing to remember."""
        return {}

    def load_state_dict(self, state: State) -> None:
        """Nothing to restore."""


def refuse_weights(method: str, weights: Mapping[str, float] | None) -> None:
    """Stop where weights are given to a method that makes its own and would silently ignore
    them."""
    if weights is not None:
        raise CotbalError(
            f"weighting {method} takes no weights; use the weighting `fixed`, or leave the"
            " weights out"
        )


def refuse_options(method: str, unknown: Mapping[str, Any], known: Sequence[str] = ()) -> None:
    """Stop at settings that the method does not have."""
    if unknown:
        expected = f"only {', '.join(known)}" if known else "no options"
        raise CotbalError(f"weighting {method}: expected {expected}; found {', '.join(unknown)}")


def check_window(method: str, window: int) -> int:
    """The window as it is, if it is a number of steps."""
    if isinstance(window, bool) or not isinstance(window, int) or window < 1:
        raise CotbalError(
            f"weighting {method}: expected a window of at least 1 optimizer step; found {window!r}"
        )
    return window


def checked(values: Float[np.ndarray, " task"], tasks: int) -> Float[np.ndarray, " task"]:
    """The weights of a step as they are, if a loss can be weighed and divided by them.

    Raises:
        CotbalError: the weighting gave something else than one number of 0 or more per task.
    """
    if np.shape(values) != (tasks,) or not (np.isfinite(values) & (values >= 0)).all():
        raise CotbalError(
            f"weighting: expected {tasks} finite weights of 0 or more; found"
            f" {', '.join(f'{value:g}' for value in np.ravel(values))}"
        )
    return values


def observed(
    losses: Float[np.ndarray, " task"], counts: Int[np.ndarray, " task"]
) -> Float[np.ndarray, " task"]:
    """The losses with NaN wherever there is nothing to learn: the task was absent, or its loss is
    no number.
    """
    return np.where((counts > 0) & np.isfinite(losses), losses, np.nan)


def ratio(
    newer: Float[np.ndarray, " task"], older: Float[np.ndarray, " task"]
) -> Float[np.ndarray, " task"]:
    """`newer / older`, at most `LARGEST_RATIO`; NaN where one of them is missing, or where both are
    0.
    """
    known = ~np.isnan(newer) & ~np.isnan(older) & ((newer > 0) | (older > 0))
    high = newer >= LARGEST_RATIO * older  # also where `older` is 0, without dividing by it
    return np.where(
        known, np.where(high, LARGEST_RATIO, newer / np.where(high, 1.0, older)), np.nan
    )


def to_json(values: Float[np.ndarray, "*step task"]) -> list[Any]:
    """Numbers as JSON knows them, with None for NaN."""
    if values.ndim > 1:
        return [to_json(row) for row in values]
    return [None if np.isnan(value) else float(value) for value in values]


def from_json(values: Sequence[Any]) -> Float[np.ndarray, "*step task"]:
    """The array that `to_json` wrote."""
    return np.array(values, dtype=float)
