"""Weightings: methods that give the weights of an optimizer step, one file per method.

The name of the file is the name of the method in recipes, on the command line and in run
directories. What follows a colon is its variant: `steer:ocr` is `steer` for the goal `ocr`. A
module offers

- `LABEL`: name of the method in the paper;
- `build(tasks, ...) -> Weighting`, with `weights` (task -> weight) for a method with fixed weights,
  `seed` for one that draws at random, `variant` for one that has variants, and a keyword parameter
  with a default for every option of the recipe (`weightings.dwa.window`);
- `SUPPORTED` (all variants) or `EXAMPLES` (some), where one has to be named: they are tested.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from jaxtyping import Float, Int

from cotbal import plugins
from cotbal.errors import CotbalError

STL = "stl"  # method of the comparison: for every task a model trained on that task alone
Average = Literal["token", "task"]
State = dict[str, Any]  # JSON
NO_OPTIONS = ("tasks", "weights", "seed", "variant")  # parameters that a recipe does not set
# Of two losses. Above it a softmax would give other tasks a weight of exactly 0 in float32.
LARGEST_RATIO = 50.0


class Weighting(Protocol):
    """Interface between the trainer and a method."""

    @property
    def average(self) -> Average:
        """`token`: mean over all valid tokens; `task`: mean over tasks of their token means."""
        ...

    @property
    def starts(self) -> int:
        """The first optimizer step at which a weight can differ from 1."""
        ...

    def weights(self, step: int) -> Float[np.ndarray, " task"]:
        """Weight of every task at an optimizer step, in the order of the tasks of `build`.

        Positive; the mean is 1, except for fixed weights.
        """
        ...

    def observe(self, losses: Float[np.ndarray, " task"], counts: Int[np.ndarray, " task"]) -> None:
        """Called after every optimizer step, with the same values on every rank.

        Args:
            losses: unweighted mean loss of every task over the valid tokens of the step; NaN for
                an absent task.
            counts: number of these tokens.
        """
        ...

    def state_dict(self) -> State:
        """Everything observed that later weights depend on; may be empty."""
        ...

    def load_state_dict(self, state: State) -> None:
        """Resume from what `state_dict` returned."""
        ...


class Stateless:
    """A method whose weights do not depend on losses."""

    starts: int = 0

    def observe(self, losses: Float[np.ndarray, " task"], counts: Int[np.ndarray, " task"]) -> None:
        """No effect."""

    def state_dict(self) -> State:
        """Empty."""
        return {}

    def load_state_dict(self, state: State) -> None:
        """No effect."""


@dataclass(frozen=True)
class Static(Stateless):
    """The same weights at every step."""

    values: tuple[float, ...]
    average: Average = "token"

    def weights(self, step: int) -> Float[np.ndarray, " task"]:
        """The weights."""
        return np.array(self.values)


def fixed_weights(tasks: Sequence[str], weights: Mapping[str, float]) -> Static:
    """Fixed weights, in the order of `tasks`.

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
            f" {', '.join(errors)}",
            "invalid-weights",
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
    """The method called `name` (a file of this package, or a dotted path, and after a colon its
    variant), for these tasks.

    Args:
        weights: task -> weight, for a method with fixed weights.
        seed: of the run, for a method that draws at random.
        options: settings of the method.

    Raises:
        CotbalError: no such method, missing weights, or unsupported weights or options.
    """
    build = _builder(name)
    takes = inspect.signature(build).parameters
    arguments = dict(options or {})
    _check_options(name, takes, arguments)
    _check_weights(name, takes, weights)
    if "weights" in takes:
        arguments["weights"] = weights
    if "seed" in takes:
        arguments["seed"] = seed
    if variant := name.partition(":")[2]:
        arguments["variant"] = variant
    weighting: Weighting = build(tasks, **arguments)
    return weighting


def _builder(name: str) -> Callable[..., Weighting]:
    """The function `build` of a method.

    Raises:
        CotbalError: no such method, or it has no variants or one has to be named.
    """
    method, _, variant = name.partition(":")
    build: Callable[..., Weighting] = plugins.load("cotbal.weightings", method).build
    parameter = inspect.signature(build).parameters.get("variant")
    if variant and parameter is None:
        raise CotbalError(f"weighting {method} has no variants; found {name!r}", "unknown-name")
    if not variant and parameter is not None and parameter.default is parameter.empty:
        raise CotbalError(
            f"weighting {method}: expected a variant after a colon, {method}:<name>", "unknown-name"
        )
    return build


def _check_options(
    name: str, takes: Mapping[str, inspect.Parameter], options: Mapping[str, Any]
) -> None:
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values()):
        return
    known = [option for option in takes if option not in NO_OPTIONS]
    unknown = [option for option in options if option not in known]
    if unknown:
        expected = f"only {', '.join(known)}" if known else "no options"
        raise CotbalError(
            f"weighting {name}: expected {expected}; found {', '.join(unknown)}", "unknown-option"
        )


def _check_weights(
    name: str, takes: Mapping[str, inspect.Parameter], weights: Mapping[str, float] | None
) -> None:
    if "weights" not in takes:
        if weights is not None:
            raise CotbalError(
                f"weighting {name} takes no weights; use the weighting `cotbal`, or leave the"
                " weights out",
                "unexpected-weights",
            )
    elif weights is None and takes["weights"].default is inspect.Parameter.empty:
        raise CotbalError(
            f"weighting {name} needs weights: run `cotbal balance`, or give a file with --weights",
            "missing-weights",
        )


def takes_weights(name: str) -> bool:
    """Whether a method has fixed weights."""
    return "weights" in inspect.signature(_builder(name)).parameters


def check_window(method: str, window: int) -> int:
    """The window, if it is a number of optimizer steps."""
    if isinstance(window, bool) or not isinstance(window, int) or window < 1:
        raise CotbalError(
            f"weighting {method}: expected a window of at least 1 optimizer step; found {window!r}",
            "invalid-option",
        )
    return window


def checked(values: Float[np.ndarray, " task"], tasks: int) -> Float[np.ndarray, " task"]:
    """The weights of a step.

    Raises:
        CotbalError: they are not one finite number of 0 or more per task.
    """
    is_valid = np.isfinite(values) & (values >= 0)
    if np.shape(values) != (tasks,) or not is_valid.all():
        raise CotbalError(
            f"weighting: expected {tasks} finite weights of 0 or more; found"
            f" {', '.join(f'{value:g}' for value in np.ravel(values))}",
            "invalid-weights",
        )
    return values


def observed(
    losses: Float[np.ndarray, " task"], counts: Int[np.ndarray, " task"]
) -> Float[np.ndarray, " task"]:
    """The losses, with NaN for absent tasks and for losses that are not finite."""
    return np.where((counts > 0) & np.isfinite(losses), losses, np.nan)


def ratio(
    newer: Float[np.ndarray, " task"], older: Float[np.ndarray, " task"]
) -> Float[np.ndarray, " task"]:
    """`newer / older`, at most `LARGEST_RATIO`; NaN where one is NaN, or where both are 0."""
    is_missing = np.isnan(newer) | np.isnan(older)
    is_positive = (newer > 0) | (older > 0)
    known = is_positive & ~is_missing
    high = newer >= LARGEST_RATIO * older  # also where `older` is 0, without dividing by it
    ratios = np.where(high, LARGEST_RATIO, newer / np.where(high, 1.0, older))
    return np.where(known, ratios, np.nan)


def to_json(values: Float[np.ndarray, "*step task"]) -> list[Any]:
    """Numbers for JSON, with None for NaN."""
    if values.ndim > 1:
        return [to_json(row) for row in values]
    return [None if np.isnan(value) else float(value) for value in values]


def from_json(values: Sequence[Any]) -> Float[np.ndarray, "*step task"]:
    """The array of `to_json`."""
    return np.array(values, dtype=float)


def method_label(name: str) -> str:
    """The paper's name of a method; `cotbal-inter` becomes `CoTBal (inter)`, and `steer:ocr+vqa`
    becomes `Steer: ocr + vqa`.
    """
    if name == STL:
        return "STL"
    method, colon, variant = name.partition(":")
    if not colon:
        method, _, variant = name.partition("-")
    try:
        label: str = plugins.load("cotbal.weightings", method).LABEL
    except (CotbalError, ImportError, AttributeError):  # a user's module that is not installed
        return name
    if colon:
        return f"{label}: {variant.replace('+', ' + ')}"
    return f"{label} ({variant.replace('-', ' ')})" if variant else label
