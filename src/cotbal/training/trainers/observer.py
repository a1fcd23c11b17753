"""What a weighting receives of every finished optimizer step, and how its state travels with the
checkpoint.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from transformers import TrainerCallback, TrainerControl, TrainerState

from cotbal.errors import CotbalError
from cotbal.weightings import Weighting

KEY = "cotbal_weighting"  # in `trainer_state.json`; must not be the name of a callback's class
ENOUGH = 10  # steps of a single task at the start of a training, to say so before it is over
Observation = tuple[
    Float[np.ndarray, " task"], Int[np.ndarray, " task"]
]  # mean losses and counts of a step

logger = logging.getLogger(__name__)


class Observer(TrainerCallback):
    """Tells the weighting about every optimizer step, and keeps its state in the state of the
    trainer.

    transformers writes `state.stateful_callbacks` into `trainer_state.json` and reads it before
    `on_train_begin`.

    Args:
        weighting: the method.
        tasks: names, in the order of its weights.
        finish_step: called once an optimizer step; the step's losses over all ranks.
        cancels: whether a step divides by its weighted count, so that the weights do nothing where
            it holds one task.
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
        self._steps = self._alone = 0  # that were seen, and those of them that held one task

    def on_train_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Resume from the checkpoint, or from the beginning when the same trainer trains once
        more."""
        self.weighting.load_state_dict(
            self._saved(state) if state.global_step and self._fresh else self._fresh
        )
        self._steps = self._alone = 0
        if self.weighting.starts >= state.max_steps and state.is_world_process_zero:
            logger.warning(
                "the weights of %s move from step %d on, but this training has %d steps: all"
                " weights stay at 1",
                type(self.weighting).__name__,
                self.weighting.starts,
                state.max_steps,
            )

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Observe the step, and hand over the state before a checkpoint may be written."""
        losses, counts = self.finish_step()
        self.weighting.observe(losses, counts)
        self._steps, self._alone = self._steps + 1, self._alone + int((counts > 0).sum() < 2)
        if self._alone == self._steps == ENOUGH:
            self._warn(state)
        state.stateful_callbacks[KEY] = {"tasks": self.tasks, "state": self.weighting.state_dict()}

    def on_train_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Repeat, at the end of the log, if the weights had little chance to act."""
        if 2 * self._alone > self._steps:
            self._warn(state)

    def _warn(self, state: TrainerState) -> None:
        different = np.ptp(self.weighting.weights(state.global_step)) > 0
        if self.cancels and different and state.is_world_process_zero:
            logger.warning(
                "%d of %d optimizer steps held the tokens of a single task, where the weights do"
                " nothing: take larger steps (batch size, accumulation) or shuffle the rows, or set"
                " normalizer='tokens'",
                self._alone,
                self._steps,
            )

    def _saved(self, state: TrainerState) -> dict[str, Any]:
        saved = state.stateful_callbacks.get(KEY, {"tasks": self.tasks, "state": {}})
        found: dict[str, Any] = saved["state"]
        if found.keys() != self._fresh.keys():
            raise CotbalError(
                f"the checkpoint of step {state.global_step} holds no state of"
                f" {type(self.weighting).__name__}, so its weights would not be those of an"
                " uninterrupted training; resume with the weighting that wrote the checkpoint, or"
                " restart"
            )
        if saved["tasks"] != self.tasks:
            raise CotbalError(
                f"the checkpoint of step {state.global_step} was written for the tasks"
                f" {', '.join(saved['tasks'])}; found {', '.join(self.tasks)}"
            )
        return found
