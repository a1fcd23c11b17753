"""IGBv1: more weight where much of the loss is left (Dai et al. 2023, Improvable Gap Balancing,
arXiv 2307.15429).

From the paper: `w_t = T * softmax(L_t / B_t)`, `L_t` the current loss of a task and `B_t` its base,
the mean loss over an early epoch.

Visual instruction tuning often has a single epoch, so the base is the mean over the second window
of 100 optimizer steps, steps 100 to 199, and weights are 1 until it is known. Coefficients are
needed before the forward pass of a step, so `L_t` is the loss of the last finished step. The code
of IGB weights the logarithms of the losses; here losses are weighted, as with every method.
Differences from the published code of CoTBal:

| | published code | here |
|---|---|---|
| absent task | a loss of 0 | its last loss is kept |
| losses | of one rank and every forward pass, evaluation included | of the whole optimizer step |
| resuming | the base is lost | the base is in the checkpoint |
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from cotbal.balance.weights import softmax_weights
from cotbal.weightings import (
    Average,
    State,
    check_window,
    from_json,
    observed,
    ratio,
    to_json,
)

LABEL = "IGBv1"
WINDOW = 100


class IGBv1:
    """Softmax over `loss last observed / base loss`.

    A task that is absent in the window of the base has no base; its weight stays 1.

    Args:
        tasks: number of tasks.
        window: number of optimizer steps before the base, and number of those of the base.
    """

    average: Average = "token"

    def __init__(self, tasks: int, window: int) -> None:
        self.window = window
        self.starts = 2 * window
        self._steps = 0
        # Mean over the steps of the window so far.
        self._base: Float[np.ndarray, " task"] = np.full(tasks, np.nan)
        self._base_steps: Int[np.ndarray, " task"] = np.zeros(tasks, dtype=int)
        self._current: Float[np.ndarray, " task"] = np.full(tasks, np.nan)

    def weights(self, step: int) -> Float[np.ndarray, " task"]:
        """From the last losses; 1 for every task until the base is known."""
        if self._steps < self.starts:
            return np.ones(len(self._base))
        return softmax_weights(ratio(self._current, self._base), 1.0)

    def observe(self, losses: Float[np.ndarray, " task"], counts: Int[np.ndarray, " task"]) -> None:
        """Keep the losses of the step; in the second window, add them to the base."""
        current = observed(losses, counts)
        present = ~np.isnan(current)
        self._current = np.where(present, current, self._current)
        if self.window <= self._steps < self.starts:
            self._base_steps = self._base_steps + present
            before = np.where(np.isnan(self._base), 0.0, self._base)
            mean = before + (current - before) / np.maximum(self._base_steps, 1)
            self._base = np.where(present, mean, self._base)
        self._steps += 1

    def state_dict(self) -> State:
        """Number of steps, the base so far, and the last losses."""
        return {
            "steps": self._steps,
            "base": to_json(self._base),
            "base_steps": self._base_steps.tolist(),
            "current": to_json(self._current),
        }

    def load_state_dict(self, state: State) -> None:
        """Resume from this base and these losses."""
        self._steps = int(state["steps"])
        self._base = from_json(state["base"])
        self._base_steps = np.array(state["base_steps"], dtype=int)
        self._current = from_json(state["current"])


def build(tasks: Sequence[str], *, window: int = WINDOW) -> IGBv1:
    """IGBv1 for these tasks, with a base over the second `window` optimizer steps.

    Raises:
        CotbalError: the window is not a number of steps.
    """
    return IGBv1(len(tasks), check_window("igbv1", window))
