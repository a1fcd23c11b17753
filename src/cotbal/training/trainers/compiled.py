"""Compile the layers of the language model when a training begins."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import TrainerCallback

from cotbal.training.trainers.forward import unwrapped

BACKEND = "inductor"


class CompileCallback(TrainerCallback):
    """Compiles the language model in place at the first forward pass of the first optimizer step.

    The checks of a training come before: they run the model in other modes, for which it would be
    compiled separately. Names of parameters and saved checkpoints are those of the plain model, and
    the head stays outside, so it is still computed in chunks. One compilation serves all lengths of
    rows.
    """

    def __init__(self) -> None:
        self._is_due = True

    def on_step_begin(self, *_: Any, model: nn.Module, **__: Any) -> None:
        """Compile once."""
        if self._is_due:
            self._is_due = False
            decoder: Any = unwrapped(model)
            decoder.get_decoder().compile(dynamic=True, backend=BACKEND)
