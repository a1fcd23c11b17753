"""A training under DeepSpeed ZeRO: its partial checkpoints, and parameters of which a rank holds a
part (stage 3).

The update needs no help: DeepSpeed divides gradients by the number of ranks, as data parallelism
does, and the Trainer has it not divide by the micro-batches of a step. So the coefficients of the
whole step are right as they are, which `tests/unit/trainers/test_zero.py` holds to.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cotbal.data.files import read_json, write_json
from cotbal.errors import CotbalError

FILE = (  # beside the files of DeepSpeed, which say it of themselves in ways that differ by stage
    "zero.json"
)


def stage_of(trainer: Any) -> int:
    """Stage of ZeRO that a trainer of transformers uses, 0 without DeepSpeed."""
    return (
        int(trainer.accelerator.state.deepspeed_plugin.zero_stage)
        if trainer.is_deepspeed_enabled
        else 0
    )


def gathers_to_save(trainer: Any) -> bool:
    """Whether stage 3 is to write an ordinary model file beside its parts
    (`zero3_save_16bit_model`).
    """
    return bool(trainer.accelerator.state.deepspeed_plugin.zero3_save_16bit_model)


def note_zero(checkpoint: Path, stage: int, ranks: int) -> None:
    """Say whose the files of DeepSpeed in a partial checkpoint are; the first rank does."""
    write_json(checkpoint / FILE, {"stage": stage, "ranks": ranks})


def expect_zero(checkpoint: Path, stage: int, ranks: int) -> None:
    """DeepSpeed reads its files on as many ranks as wrote them, and in the same stage.

    Raises:
        CotbalError: it could not read these.
    """
    if not (checkpoint / FILE).exists():
        raise CotbalError(
            f"{checkpoint} holds no {FILE}: the part before was made without DeepSpeed, or was cut"
            " off; continue with the configuration of accelerate that it began with, or restart"
            " without this checkpoint"
        )
    found = read_json(checkpoint / FILE)
    if found != {"stage": stage, "ranks": ranks}:
        raise CotbalError(
            f"{checkpoint}: expected a part made by ZeRO stage {stage} on {ranks} ranks; found"
            f" stage {found['stage']} on {found['ranks']}. Resume as it began, or restart without"
            " this checkpoint"
        )


def is_partitioned(tensor: Tensor) -> bool:
    """Whether ZeRO-3 has shared a parameter out."""
    return hasattr(tensor, "ds_id")


def size_of(parameter: Tensor) -> int:
    """Values of a parameter, those on other ranks included."""
    return int(parameter.ds_numel if is_partitioned(parameter) else parameter.numel())  # type: ignore[attr-defined]


def gathered(parameter: Tensor) -> Tensor:
    """A copy of all of a parameter that ZeRO-3 has sharded; all ranks ask for it together."""
    from deepspeed.runtime.zero import GatheredParameters

    with GatheredParameters([parameter]), torch.no_grad():
        return parameter.detach().clone()
