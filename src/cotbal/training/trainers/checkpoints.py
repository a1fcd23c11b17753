"""Partial checkpoints from which a training resumes exactly, whole or sharded.

DeepSpeed needs no help with the update: it divides gradients by the number of ranks, as data
parallelism does, and the Trainer does not divide by the micro-batches of a step. So coefficients of
the whole step are right as they are, which `tests/unit/trainers/test_zero.py` checks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import Trainer

from cotbal.data.files import read_json, write_json
from cotbal.errors import CotbalError
from cotbal.training.trainers.trained_weights import (
    load_shards,
    load_trained,
    save_shards,
    save_trained,
)

SCHEDULER = "scheduler.pt"  # as the Trainer calls it
ZERO = "zero.json"  # stage and ranks, which DeepSpeed's own files hold in ways that differ by stage


class ExactCheckpoints(Trainer):
    """A Trainer that keeps what it has trained as `trained_weights` does.

    Under FSDP2 that replaces accelerate's files, which with LoRA leave out the parts trained in
    full, and otherwise hold the frozen ones too. DeepSpeed's own files are exact; FSDP1 is left to
    the Trainer.
    """

    @property
    def sharded(self) -> bool:
        """Whether a rank holds a part of the parameters only."""
        return (
            self.is_fsdp_enabled
            or self.zero_stage == 3
            or any(isinstance(parameter, DTensor) for parameter in self.model.parameters())
        )

    @property
    def zero_stage(self) -> int:
        """Stage of DeepSpeed ZeRO, 0 without it."""
        if not self.is_deepspeed_enabled:
            return 0
        return int(self.accelerator.state.deepspeed_plugin.zero_stage)

    @property
    def by_fsdp2(self) -> bool:
        """Whether accelerate has sharded them, by FSDP2."""
        return bool(self.is_fsdp_enabled and self.accelerator.is_fsdp2)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if not self.args.should_save or self.args.save_only_model:
            return
        checkpoint = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
        if self.is_deepspeed_enabled:
            save_zero(checkpoint, self.zero_stage, self.args.world_size)
        elif not self.sharded:
            save_trained(self.model, checkpoint)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As the Trainer's, but DeepSpeed does not write a partial checkpoint of stage 3 twice."""
        if not _internal_call or self.zero_stage != 3 or self._saves_16_bit_model:
            super().save_model(output_dir, _internal_call)
        elif self.args.should_save:
            Path(output_dir or self.args.output_dir).mkdir(parents=True, exist_ok=True)

    @property
    def _saves_16_bit_model(self) -> bool:
        """Whether stage 3 also writes an ordinary model file."""
        return bool(self.accelerator.state.deepspeed_plugin.zero3_save_16bit_model)

    def _prepare_for_training(
        self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: str | None
    ) -> Any:
        if resume_from_checkpoint is not None and self.is_deepspeed_enabled:
            check_zero(Path(resume_from_checkpoint), self.zero_stage, self.args.world_size)
        return super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.by_fsdp2:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        save_shards(self.model, self.optimizer, Path(output_dir))
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER)

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        if self.by_fsdp2:
            return  # comes with the optimizer
        if self.sharded:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            load_trained(self.model, Path(resume_from_checkpoint))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if not self.by_fsdp2 or checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        load_shards(self.model, self.optimizer, Path(checkpoint))
        self.lr_scheduler.load_state_dict(
            torch.load(Path(checkpoint) / SCHEDULER, weights_only=True)
        )

    def _load_best_model(self) -> None:
        if self.by_fsdp2:
            load_shards(self.model, None, Path(self.state.best_model_checkpoint))
        elif self.sharded or self.is_deepspeed_enabled or self.args.save_only_model:
            super()._load_best_model()
        else:
            load_trained(self.model, Path(self.state.best_model_checkpoint))


def save_zero(checkpoint: Path, stage: int, ranks: int) -> None:
    """Write whose the files of DeepSpeed in a partial checkpoint are; called by the first rank."""
    write_json(checkpoint / ZERO, {"stage": stage, "ranks": ranks})


def check_zero(checkpoint: Path, stage: int, ranks: int) -> None:
    """Require the stage and the number of ranks that DeepSpeed wrote its files with."""
    path = checkpoint / ZERO
    written = read_json(path) if path.exists() else None
    if written != {"stage": stage, "ranks": ranks}:
        by = f"stage {written['stage']} on {written['ranks']} ranks" if written else f"no {ZERO}"
        raise CotbalError(
            f"{checkpoint}: expected a checkpoint of ZeRO stage {stage} on {ranks} ranks; found"
            f" {by}. Resume with the configuration of accelerate that the training began with, or"
            " restart without this checkpoint",
            "other-sharding" if written else "incomplete-checkpoint",
        )
