"""Trainings under DeepSpeed ZeRO, all in one launch, which is this file as a script: CHECKPOINT
DIRECTORY RANKS.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from transformers import AutoModelForImageTextToText
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from cotbal.training.trainers.blank_image import with_blank_image
from cotbal.training.trainers.hf import with_task_ids
from cotbal.training.trainers.step import by_task
from cotbal.training.trainers.trained_weights import full_tensor, is_partitioned
from helpers.rank_cases import ALL, SEVERAL, WITH_IMAGE, sensitive
from helpers.trainer_cases import TASKS, InOrder, pad, trainer_of, with_images

STAGES = (1, 2, 3)
CLIP = 0.05  # a fraction of the norm of the gradient


def without_compiling() -> None:
    """DeepSpeed would compile a faster sum over ranks of one machine; without it, it sums by
    gloo."""
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


class Zero(InOrder):
    """On CPUs, and with small parameters sharded too: all of a tiny model are below the
    threshold of stage 3.
    """

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        plugin = self.accelerator.state.deepspeed_plugin
        plugin.deepspeed_config["zero_optimization"]["stage3_param_persistence_threshold"] = 0


def launched(stage: int) -> None:
    """What `accelerate launch` puts into the environment for this stage."""
    os.environ |= {
        "ACCELERATE_USE_DEEPSPEED": "true",
        "ACCELERATE_DEEPSPEED_ZERO_STAGE": str(stage),
    }


def whole(parameter: torch.Tensor) -> torch.Tensor:
    return full_tensor(parameter).detach().clone()


def trained(
    checkpoint: Path, directory: Path, stage: int, resume: Path | None = None, **case: Any
) -> dict[str, Any]:
    """As `trainer_cases.update`."""
    launched(stage)
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    if frozen := case.pop("frozen", False):
        model.model.vision_tower.requires_grad_(False)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    on_cpus = {"kind": Zero, "use_cpu": False, "ddp_backend": "gloo"}
    trainer = trainer_of(
        model, directory, case.pop("micro"), case.pop("accumulation"), **on_cpus, **case
    )
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    split = sum(is_partitioned(p) and p.ds_tensor.numel() < p.ds_numel for p in model.parameters())
    change = {name: before[name] - whole(p) for name, p in model.named_parameters()}
    log = [by_task(line) for line in trainer.state.log_history]
    check = vars(trainer.self_check) if trainer.self_check else None
    assert not frozen or not any(change[name].any() for name in change if "vision_tower" in name)
    trainer.deepspeed.destroy()
    AcceleratorState._reset_state(reset_partial_state=True)
    unset_hf_deepspeed_config()
    return {"change": change, "log": log, "check": check, "split": split / len(before)}


def of_two() -> dict[str, dict[str, Any]]:
    made: dict[str, dict[str, Any]] = {}
    blank = with_blank_image(with_task_ids(pad, TASKS), with_images([0])[0])
    for stage in STAGES:
        made[f"cotbal {stage} by 1"] = {"stage": stage, "micro": 8, "accumulation": 1}
        made[f"clipped {stage} by 2"] = {
            "stage": stage,
            "micro": 4,
            "accumulation": 2,
            "max_grad_norm": CLIP,
        }
        if stage == 1:  # reduces gradients at the end of a step only
            continue
        made[f"cotbal {stage} by 4"] = {"stage": stage, "micro": 2, "accumulation": 4}
        images = {"data": with_images(WITH_IMAGE), "collator": blank}
        made[f"images {stage} by 2"] = {"stage": stage, "micro": 4, "accumulation": 2, **images}
    return made


def of_one() -> dict[str, dict[str, Any]]:
    return {
        f"clipped {s} by 4": {"stage": s, "micro": 4, "accumulation": 4, "max_grad_norm": CLIP}
        for s in STAGES
    }


def resumed(checkpoint: Path, directory: Path, stage: int) -> dict[str, dict[str, Any]]:
    """As `rank_cases.resumed`: four steps in one go, and the last two again from the partial
    checkpoint.
    """
    settings = {
        "save_strategy": "steps",
        "save_steps": 2,
        "optim_args": "momentum=0.9",
        "learning_rate": 0.2,
    }
    cut = {
        "micro": 4,
        "accumulation": 2,
        "data": with_images(ALL),
        "frozen": True,
        **SEVERAL,
        **settings,
    }
    straight = trained(checkpoint, directory, stage, weighting=sensitive(), **cut)
    again = trained(
        checkpoint, directory, stage, directory / "checkpoint-2", weighting=sensitive(), **cut
    )
    return {"straight": straight, "resumed": again}


def rank(number: int, count: int, checkpoint: Path, out: Path) -> None:
    """One of `count` ranks, with what a launcher would put into its environment."""
    warnings.simplefilter("ignore", FutureWarning)  # DeepSpeed calls torch by names of its past
    os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(count)}
    os.environ |= {
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29500",
    }
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{out}/store", rank=number, world_size=count
    )
    without_compiling()
    cases = of_two() if count == 2 else of_one()
    results: dict[str, Any] = {
        name: trained(checkpoint, out / "out", **case) for name, case in cases.items()
    }
    if count == 2:
        results |= {
            f"resuming {stage}": resumed(checkpoint, out / f"resumed{stage}", stage)
            for stage in STAGES
        }
    torch.save(results, out / f"rank{number}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    ranks = int(sys.argv[3])
    # Forked, so that transformers is imported once for all of them.
    torch.multiprocessing.start_processes(
        rank, (ranks, Path(sys.argv[1]), Path(sys.argv[2])), ranks, start_method="fork"
    )
