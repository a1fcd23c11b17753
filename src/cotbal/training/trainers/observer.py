"""Give the weighting every finished optimizer step, and keep its state in the checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from transformers import TrainerCallback, TrainerState

from cotbal.errors import CotbalError
from cotbal.weightings import Weighting

KEY = "cotbal_weighting"  # in `trainer_state.json`; must not be the name of a callback's class
EARLY = 10  # steps, all of a single task: warn now and not only at the end
# Mean losses and counts of a step.
Observation = tuple[Float[np.ndarray, " task"], Int[np.ndarray, " task"]]

logger = logging.getLogger(__name__)


class Observer(TrainerCallback):
    """Calls `weighting.observe`, and keeps `weighting.state_dict()` in the state of the trainer:
    transformers writes `state.stateful_callbacks` into `trainer_state.json` and reads it before
    `on_train_begin`.

    Args:
        tasks: names, in the order of the weights.
        finish_step: called once per optimizer step; the step's losses over all ranks.
        cancels: whether a step divides by its weighted count, so that the weights have no effect
            where it holds one task.
    """

    def __init__(
        self,
        weighting: Weighting,
        tasks: Sequence[str],
        finish_step: Callable[[], Observation],
        cancels: bool,
    ) -> None:
        self.weighting = weighting
        self.tasks = list(tasks)
        self.finish_step = finish_step
        self.cancels = cancels and weighting.average == "token"
        self._fresh = weighting.state_dict()
        self._steps = self._single_task_steps = 0

    def on_train_begin(self, _: Any, state: TrainerState, *__: Any, **___: Any) -> None:
        """Restore the state of the checkpoint, or the initial one where a training starts."""
        resumes = state.global_step and self._fresh
        self.weighting.load_state_dict(self._saved(state) if resumes else self._fresh)
        self._steps = self._single_task_steps = 0
        if self.weighting.starts >= state.max_steps and state.is_world_process_zero:
            logger.warning(
                "the weights of %s change from step %d on, but this training has %d steps: all"
                " weights stay at 1",
                type(self.weighting).__name__,
                self.weighting.starts,
                state.max_steps,
            )

    def on_step_end(self, _: Any, state: TrainerState, *__: Any, **___: Any) -> None:
        """Observe the step, and keep the state before a checkpoint may be written."""
        losses, counts = self.finish_step()
        self.weighting.observe(losses, counts)
        self._steps += 1
        self._single_task_steps += int((counts > 0).sum() < 2)
        if self._single_task_steps == self._steps == EARLY:
            self._warn(state)
        state.stateful_callbacks[KEY] = {"tasks": self.tasks, "state": self.weighting.state_dict()}

    def on_train_end(self, _: Any, state: TrainerState, *__: Any, **___: Any) -> None:
        """Repeat the warning at the end of the log."""
        if 2 * self._single_task_steps > self._steps:
            self._warn(state)

    def _warn(self, state: TrainerState) -> None:
        different = np.ptp(self.weighting.weights(state.global_step)) > 0
        if self.cancels and different and state.is_world_process_zero:
            logger.warning(
                "%d of %d optimizer steps held the tokens of a single task, where the weights have"
                " no effect: take larger steps (batch size, accumulation), shuffle the rows, or set"
                " normalizer='tokens'",
                self._single_task_steps,
                self._steps,
            )

    def _saved(self, state: TrainerState) -> dict[str, Any]:
        saved = state.stateful_callbacks.get(KEY, {"tasks": self.tasks, "state": {}})
        weighting_state: dict[str, Any] = saved["state"]
        if weighting_state.keys() != self._fresh.keys():
            raise CotbalError(
                f"the checkpoint of step {state.global_step} holds no state of"
                f" {type(self.weighting).__name__}; resume with the weighting that wrote the"
                " checkpoint, or restart",
                "other-weighting",
            )
        if saved["tasks"] != self.tasks:
            raise CotbalError(
                f"the checkpoint of step {state.global_step} was written for the tasks"
                f" {', '.join(saved['tasks'])}; found {', '.join(self.tasks)}",
                "other-tasks",
            )
        return weighting_state
