"""No optimizer step with a gradient that is not finite."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from cotbal.errors import RunError
from cotbal.training.trainers.checkpoints import ExactCheckpoints


class FiniteGradients(ExactCheckpoints):
    """A Trainer that fails before a step would destroy the model."""

    def _diverged(self, what: str, number: int) -> RunError:
        """The error of an optimizer step, counted from 1; all ranks call this."""
        raise NotImplementedError

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """As the Trainer's.

        Raises:
            RunError: the gradient is not finite.
        """
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        # With a scaler of float16 such a gradient is usual, and its step is left out.
        if norm is not None and self.accelerator.scaler is None and not math.isfinite(norm):
            raise self._diverged(f"gradient norm {float(norm)}", self.state.global_step + 1)
        return norm
