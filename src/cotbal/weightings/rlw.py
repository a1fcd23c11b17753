"""RLW: random weights at every step (Lin et al. 2021, A Closer Look at Loss Weighting in Multi-Task
Learning).

Taken from the paper: the weights of a step are the softmax of standard normal draws. Ours is times
the number of tasks, so that the mean weight is 1 as everywhere in this library; the default
normalizer makes that factor drop out.

Where we differ from the published code of CoTBal: it draws at every forward pass from the generator
of the process, so that micro-batches and, where random streams part, ranks train with different
weights. We draw from (seed, step) alone: one draw an optimizer step, the same on all ranks, and
nothing to remember for a resumed training. A task's draw goes with its name, so the order of the
tasks does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from cotbal.balance.weights import softmax_weights
from cotbal.weightings import Average, State

LABEL = "RLW"


@dataclass(frozen=True)
class RLW:
    """`T * softmax(z)` with `z` from N(0, 1), drawn at every optimizer step."""

    tasks: tuple[str, ...]
    seed: int
    average: Average = "token"
    starts: int = 0

    def weights(self, step: int) -> Float[np.ndarray, " task"]:
        """The draw of this step."""
        drawn = np.random.default_rng([self.seed, step]).standard_normal(len(self.tasks))
        by_name = dict(zip(sorted(self.tasks), drawn, strict=True))
        return softmax_weights(np.array([by_name[task] for task in self.tasks]), 1.0)

    def observe(self, losses: Float[np.ndarray, " task"], counts: Int[np.ndarray, " task"]) -> None:
        """Chance does not learn."""

    def state_dict(self) -> State:
        """Nothing to remember: seed and step say it all."""
        return {}

    def load_state_dict(self, state: State) -> None:
        """Nothing to restore."""


def build(tasks: Sequence[str], *, seed: int = 0) -> RLW:
    """RLW for these tasks; the seed is that of the run."""
    return RLW(tuple(tasks), seed)
