"""Weightings: the method that says what the weights are at this optimizer step. One file per
method.

The name of the file is the name of the method in recipes, on the command line and in run
directories. A module offers

- `LABEL`: the name that the paper gives to the method;
- `build(tasks, ...) -> Weighting`. Its other parameters say what the method takes: `weights` for a
  method with fixed weights (task -> weight), `seed` for one that draws at random, and any keyword
  parameter with a default is an option of the recipe (`weightings.dwa.window`).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from jaxtyping import Float, Int

from cotbal import plugins
from cotbal.errors import CotbalError

STL = "stl"  # method of the comparison: for every task a model trained on that task alone
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
        """Resume from what `state_dict` returned."""
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


def fixed_weights(tasks: Sequence[str], weights: Mapping[str, float]) -> Static:
    """Weights fixed before the training, looked up by name and never by position.

    Raises:
        CotbalError: a task has no weight, a weight belongs to no task, or a weight is not a
            positive number.
    """
    missing = [task for task in tasks if task not in weights]
    unknown = [name for name in weights if name not in tasks]
    wrong = [task for task in tasks if not 0 < weights.get(task, 1.0) < float("inf")]
    errors = [f"no weight for {', '.join(missing)}"] if missing else []
    errors += [f"no task {', '.join(unknown)}"] if unknown else []
    errors += [f"{task}: {weights[task]}" for task in wrong]
    if errors:
        raise CotbalError(
            f"weights: expected one positive number for each of {', '.join(tasks)}; found"
            f" {', '.join(errors)}"
        )
    return Static(tuple(float(weights[task]) for task in tasks))


def build_weighting(
    name: str,
    tasks: Sequence[str],
    weights: Mapping[str, float] | None = None,
    *,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Weighting:
    """The method called `name` (a file of this package, or a dotted path), for these tasks.

    Args:
        weights: task -> weight, for a method with fixed weights.
        seed: of the run, for a method that draws at random.
        options: settings of the method.

    Raises:
        CotbalError: no such method, weights or options that it does not take, or weights that it
            lacks.
    """
    build = plugins.load("cotbal.weightings", name).build
    takes = inspect.signature(build).parameters
    arguments = dict(options or {})
    _check_options(name, takes, arguments)
    _check_weights(name, takes, weights)
    if "weights" in takes:
        arguments["weights"] = weights
    if "seed" in takes:
        arguments["seed"] = seed
    weighting: Weighting = build(tasks, **arguments)
    return weighting


def _check_options(
    name: str, takes: Mapping[str, inspect.Parameter], options: Mapping[str, Any]
) -> None:
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values()):
        return
    known = [option for option in takes if option not in ("tasks", "weights", "seed")]
    unknown = [option for option in options if option not in known]
    if unknown:
        expected = f"only {', '.join(known)}" if known else "no options"
        raise CotbalError(f"weighting {name}: expected {expected}; found {', '.join(unknown)}")


def _check_weights(
    name: str, takes: Mapping[str, inspect.Parameter], weights: Mapping[str, float] | None
) -> None:
    if "weights" not in takes:
        if weights is not None:
            raise CotbalError(
                f"weighting {name} takes no weights; use the weighting `cotbal`, or leave the"
                " weights out"
            )
    elif weights is None and takes["weights"].default is inspect.Parameter.empty:
        raise CotbalError(
            f"weighting {name} needs weights: run `cotbal balance`, or give a file with --weights"
        )


def takes_weights(name: str) -> bool:
    """Whether the method called `name` trains with weights that were fixed before."""
    return "weights" in inspect.signature(plugins.load("cotbal.weightings", name).build).parameters


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


def method_label(name: str) -> str:
    """The paper's name of a method; `cotbal-inter` is a variant of `cotbal` and becomes `CoTBal
    (inter)`.
    """
    if name == STL:
        return "STL"
    method, _, variant = name.partition("-")
    try:
        label: str = plugins.load("cotbal.weightings", method).LABEL
    except (
        CotbalError,
        ImportError,
        AttributeError,
    ):  # a module of the user's own that is not here today
        return name
    return f"{label} ({variant.replace('-', ' ')})" if variant else label
