"""DWA: more weight where the loss falls slowly (Liu et al. 2019, End-to-End Multi-Task Learning
with Attention).

From the paper: `w_t = T * softmax(r_t / temperature)`, `r_t` the loss of the last period over that
of the period before, temperature 2, equal weights until there are two periods.

The paper's period is an epoch, of which visual instruction tuning often has one; like the published
code of CoTBal, windows are 25 optimizer steps instead. Differences from that code:

| | published code | here |
|---|---|---|
| incomplete windows | filled with ones | equal weights |
| absent task | a loss of 0 | the step is left out |
| losses | of one rank and every forward pass, evaluation included | of the whole optimizer step |
| resuming | windows are lost | windows are in the checkpoint |
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from cotbal.balance.weights import softmax_weights
from cotbal.errors import CotbalError
from cotbal.weightings import (
    Average,
    State,
    check_window,
    from_json,
    observed,
    ratio,
    to_json,
)

LABEL = "DWA"
WINDOW, TEMPERATURE = 25, 2.0


class DWA:
    """Softmax over `mean loss of the newer window / mean loss of the older window`.

    A task that is absent in all of a window keeps its last ratio; before it has one, its weight is
    1.

    Args:
        tasks: number of tasks.
        window: optimizer steps in each of the two windows.
        temperature: the higher, the closer to equal weights.
    """

    average: Average = "token"

    def __init__(self, tasks: int, window: int, temperature: float) -> None:
        self.window = window
        self.temperature = temperature
        self.starts = 2 * window
        self._losses: Float[np.ndarray, "step task"] = np.empty((0, tasks))
        self._ratios: Float[np.ndarray, " task"] = np.full(tasks, np.nan)

    def weights(self, step: int) -> Float[np.ndarray, " task"]:
        """From the last ratios; 1 for every task until both windows are complete."""
        return softmax_weights(self._ratios, self.temperature)

    def observe(self, losses: Float[np.ndarray, " task"], counts: Int[np.ndarray, " task"]) -> None:
        """Move both windows by a step."""
        both = 2 * self.window
        steps = np.vstack([self._losses, observed(losses, counts)])
        self._losses = steps[-both:]
        if len(self._losses) < both:
            return
        older = _mean(self._losses[: self.window])
        newer = _mean(self._losses[self.window :])
        ratios = ratio(newer, older)
        self._ratios = np.where(np.isnan(ratios), self._ratios, ratios)

    def state_dict(self) -> State:
        """The losses in the windows, and the last ratios."""
        return {"losses": to_json(self._losses), "ratios": to_json(self._ratios)}

    def load_state_dict(self, state: State) -> None:
        """Resume with these windows and ratios."""
        self._ratios = from_json(state["ratios"])
        losses = from_json(state["losses"])
        self._losses = losses.reshape(-1, len(self._ratios))  # `[]` has no column per task


def _mean(losses: Float[np.ndarray, "step task"]) -> Float[np.ndarray, " task"]:
    """Mean over the steps with the task; NaN without one."""
    present = ~np.isnan(losses)
    steps = present.sum(axis=0)
    means = np.where(present, losses, 0.0).sum(axis=0) / np.maximum(steps, 1)
    return np.where(steps > 0, means, np.nan)


def build(tasks: Sequence[str], *, window: int = WINDOW, temperature: float = TEMPERATURE) -> DWA:
    """DWA for these tasks, with two windows of `window` optimizer steps.

    Raises:
        CotbalError: the window is not a number of steps, or the temperature is not positive.
    """
    if not 0 < temperature < float("inf"):
        raise CotbalError(
            f"weighting dwa: expected a positive temperature; found {temperature}",
            "invalid-option",
        )
    return DWA(len(tasks), check_window("dwa", window), float(temperature))
