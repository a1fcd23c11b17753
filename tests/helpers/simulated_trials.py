"""Trials of a mixture whose response is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from cotbal.response import Trials, two_level_design
from cotbal.response.coordinates import doublings
from cotbal.response.departure import Departure


def trials_of(
    effects: Float[np.ndarray, "task score"],
    curvature: Float[np.ndarray, " score"] | float = -0.5,
    noise: Float[np.ndarray, " score"] | float = 0.0,
    seed: int = 0,
    names: Sequence[str] = (),
    share: float = 0.0,
) -> Trials:
    """A balanced design at 0.75 doublings, scored by a response in % per doubling and, times the
    departure from equal weights, in % per squared doubling.

    Args:
        share: of the curvature that is due to the score's own weight.
    """
    tasks = tuple(names) or tuple("abcdefghijklmnopqrstuvwxyz"[: len(effects)])
    generator = np.random.default_rng(seed)
    design = two_level_design(tasks)
    z = doublings(design.weights)
    levels = generator.normal(0, 3, (2, effects.shape[1]))
    departure = Departure(np.eye(len(tasks)), share)
    changes = z @ effects + departure(z) * np.asarray(curvature)
    changes = changes + levels[list(design.seeds)]
    changes += generator.standard_normal(changes.shape) * noise
    seeds = tuple(map(str, design.seeds))
    return Trials(tasks, tasks, design.weights, 0.5 * (1 + changes / 100), seeds)


def drawn_effects(
    tasks: int, seed: int = 0, own_effect: float = 2.0
) -> Float[np.ndarray, "task score"]:
    """Own effects around `own_effect`, cross effects around what makes raising all weights change
    nothing.
    """
    generator = np.random.default_rng([seed, tasks])
    effects = generator.normal(0, 0.5, (tasks, tasks))
    np.fill_diagonal(effects, generator.normal(own_effect, 1, tasks))
    return effects - effects.mean(axis=0)
