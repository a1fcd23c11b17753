"""RLW: random weights at every step (Lin et al. 2021, A Closer Look at Loss Weighting in Multi-Task
Learning).

From the paper: the weights of a step are the softmax of standard normal draws; here times the
number of tasks, so that the mean weight is 1. The default normalizer cancels that factor.

The published code of CoTBal draws at every forward pass from the generator of the process, so that
micro-batches and possibly ranks train with different weights. Here draws depend on (seed, step)
alone: one per optimizer step, the same on all ranks, and no state for a resumed training. A draw
belongs to the name of a task, so the order of the tasks does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cotbal.balance.weights import softmax_weights
from cotbal.weightings import Average, Stateless

LABEL = "RLW"


@dataclass(frozen=True)
class RLW(Stateless):
    """`T * softmax(z)` with `z` from N(0, 1), drawn at every optimizer step."""

    tasks: tuple[str, ...]
    seed: int
    average: Average = "token"

    def weights(self, step: int) -> Float[np.ndarray, " task"]:
        """The draw of this step."""
        drawn = np.random.default_rng([self.seed, step]).standard_normal(len(self.tasks))
        by_name = dict(zip(sorted(self.tasks), drawn, strict=True))
        return softmax_weights(np.array([by_name[task] for task in self.tasks]), 1.0)


def build(tasks: Sequence[str], *, seed: int = 0) -> RLW:
    """RLW for these tasks; the seed is that of the run."""
    return RLW(tuple(tasks), seed)
