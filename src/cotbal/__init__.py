"""cotbal: task weights with confidence intervals for fine-tuning vision-language models on many
tasks.

The public names below are imported when they are first used, so `import cotbal` is free of torch.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cotbal.balance import Balance, Settings
    from cotbal.response import choose_weights, fit_response, read_trials
    from cotbal.scores.matrix import ScoreMatrix, read_scores
    from cotbal.scores.weights_file import read_task_weights
    from cotbal.training.trainers.hf import TaskWeightedTrainer, with_task_ids
    from cotbal.training.trainers.trl import TaskWeightedSFTTrainer

__all__ = [
    "Balance",
    "ScoreMatrix",
    "Settings",
    "TaskWeightedSFTTrainer",
    "TaskWeightedTrainer",
    "choose_weights",
    "fit_response",
    "read_scores",
    "read_task_weights",
    "read_trials",
    "with_task_ids",
]

_PUBLIC = {  # name -> module, imported when the name is first used
    "Balance": "cotbal.balance",
    "ScoreMatrix": "cotbal.scores.matrix",
    "Settings": "cotbal.balance",
    "TaskWeightedSFTTrainer": "cotbal.training.trainers.trl",
    "TaskWeightedTrainer": "cotbal.training.trainers.hf",
    "choose_weights": "cotbal.response",
    "fit_response": "cotbal.response",
    "read_scores": "cotbal.scores.matrix",
    "read_task_weights": "cotbal.scores.weights_file",
    "read_trials": "cotbal.response",
    "with_task_ids": "cotbal.training.trainers.hf",
}

# On CPUs bitsandbytes asks for a package that would fetch code from the hub, and does without: one
# line that nobody needs to read. It is said when bitsandbytes is imported, which peft does by
# itself, so it is hidden first of all.
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(
    lambda line: "kernels-community" not in line.getMessage()
)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
