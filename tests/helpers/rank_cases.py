"""Trainings on several ranks, all in one launch, which is this file as a script.

Each case gives what `trainer_cases.update` is called with, but for the checkpoint and a directory.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor
from transformers import AutoModelForImageTextToText
from transformers.distributed import DistributedConfig

from cotbal.loss import IGNORED
from cotbal.training.trainers.blank_image import with_blank_image
from cotbal.training.trainers.hf import with_task_ids
from cotbal.training.trainers.step import by_task
from cotbal.weightings import Weighting, dwa, rlw
from helpers.trainer_cases import (
    TASK_LEVEL,
    TASKS,
    WEIGHTS,
    InOrder,
    grouped,
    pad,
    rows,
    trainer_of,
    update,
    whole,
    with_images,
)

WITH_IMAGE = [
    0,
    1,
    2,
    3,
    8,
    9,
    10,
    11,
]  # in micro-batches of 4 on two ranks: all of rank 0, none of rank 1
ALL = list(range(16))
SEVERAL = {"max_steps": 4}
PARTIAL = {
    "data": rows()[:12],
    "max_steps": -1,
    "num_train_epochs": 1,
}  # of windows of 8: the second holds 4


def sensitive() -> Weighting:
    """DWA that starts at step 2 and answers to small changes of the losses."""
    return dwa.build(TASKS, window=1, temperature=0.005)


def sharded() -> dict[str, Any]:
    """FSDP2 with a unit a layer, by the loader of transformers; accelerate's own plugin needs a
    GPU.
    """
    plan = dict.fromkeys(
        ("model.language_model.layers.*", "model.vision_tower.encoder.layers.*"), "free_full_weight"
    )
    return {"loading": {"distributed_config": DistributedConfig(fsdp_size=2, fsdp_plan=plan)}}


def cases(ranks: int, extended: bool) -> dict[str, dict[str, Any]]:
    if ranks == 2:
        return of_two_extended() if extended else of_two()
    return of_four()


def of_four() -> dict[str, dict[str, Any]]:
    """With every rank a micro-batch of the step; the masked rows are the whole micro-batch of rank
    1.
    """
    cut = {"micro": 4, "accumulation": 1}
    return {
        "cotbal": {**cut, "weighting": WEIGHTS},
        "tla": {**cut, "weighting": TASK_LEVEL},
        "masked": {**cut, "data": masked(range(4, 8))},
        "dynamic": {**cut, "weighting": sensitive(), **SEVERAL},
        "partial": {"micro": 1, "accumulation": 2, **PARTIAL},
    }


def masked(places: range) -> list[dict[str, Any]]:
    """The rows, those at `places` without a label."""
    labels = [
        {"labels": torch.full_like(row["labels"], IGNORED)} if i in places else {}
        for i, row in enumerate(rows())
    ]
    return [{**row, **one} for row, one in zip(rows(), labels, strict=True)]


def of_two() -> dict[str, dict[str, Any]]:
    made: dict[str, dict[str, Any]] = {}
    cut = {"micro": 4, "accumulation": 2}
    made["cotbal 8 1"] = {"micro": 8, "accumulation": 1, "weighting": WEIGHTS}
    made["cotbal 4 2"] = {**cut, "weighting": WEIGHTS}
    made["tla 4 2"] = {**cut, "weighting": TASK_LEVEL}
    made["dynamic 4 2"] = {**cut, "weighting": sensitive(), **SEVERAL}
    made["cotbal 4 2 sharded"] = {**cut, "weighting": WEIGHTS, **sharded()}
    made["grouped"] = {**cut, "data": grouped()}
    made["images"] = {**cut, "data": with_images(WITH_IMAGE)}
    made["images checkpointed"] = {
        **cut,
        "data": with_images(WITH_IMAGE),
        "gradient_checkpointing": True,
        "ddp_find_unused_parameters": True,  # rank 1 never runs the vision tower
    }
    blank = with_blank_image(with_task_ids(pad, TASKS), with_images([0])[0])
    made["images sharded"] = {
        **cut,
        "data": with_images(WITH_IMAGE),
        "collator": blank,
        **sharded(),
    }
    made["per_device"] = {**cut, "normalizer": "per_device"}
    made["random"] = {**cut, "weighting": rlw.build(TASKS, seed=5), **SEVERAL}
    made["partial"] = {"micro": 2, "accumulation": 2, **PARTIAL}
    return made


def of_two_extended() -> dict[str, dict[str, Any]]:
    more = {"weighting": sensitive(), **SEVERAL, **sharded()}
    return {"dynamic 4 2 sharded": {"micro": 4, "accumulation": 2, **more}}


class Sharding(InOrder):
    """accelerate turns FSDP on in launches on GPUs and the like only; gloo can shard over CPUs as
    well.
    """

    def create_accelerator_and_postprocess(self) -> None:
        if self.args.fsdp:
            self.args.distributed_state.distributed_type = DistributedType.MULTI_GPU
        super().create_accelerator_and_postprocess()


def resumed(checkpoint: Path, directory: Path, **sharding: Any) -> dict[str, dict[str, Any]]:
    """Four steps with a momentum and with DWA in motion: in one go, and the last two again from the
    checkpoint.
    """
    settings = {
        "save_strategy": "steps",
        "save_steps": 2,
        "optim_args": "momentum=0.9",
        "learning_rate": 0.2,
    }
    results = {}
    for way in ("straight", "resumed"):
        model = AutoModelForImageTextToText.from_pretrained(checkpoint)
        model.model.vision_tower.requires_grad_(
            False
        )  # its last layer is never run, so there would be no state of it
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        more = {**SEVERAL, **settings, **sharding}
        trainer = trainer_of(
            model, directory, 4, 2, sensitive(), data=with_images(ALL), kind=Sharding, **more
        )
        trainer.train(
            resume_from_checkpoint=str(directory / "checkpoint-2") if way == "resumed" else None
        )
        change = {name: before[name] - whole(p) for name, p in trainer.model.named_parameters()}
        split = any(isinstance(p, DTensor) for p in trainer.model.parameters())
        results[way] = {
            "change": change,
            "log": [by_task(line) for line in trainer.state.log_history],
            "sharded": split,
        }
    return results


def by_accelerate() -> dict[str, Any]:
    layers = ["LlamaDecoderLayer", "CLIPEncoderLayer"]
    return {"fsdp": True, "fsdp_config": {"version": 2, "transformer_layer_cls_to_wrap": layers}}


def rank(number: int, count: int, checkpoint: Path, out: Path, extended: bool) -> None:
    """One of `count` ranks, with what a launcher would put into its environment."""
    os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(count)}
    os.environ |= {"LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{out}/store", rank=number, world_size=count
    )
    results: dict[str, Any] = {
        name: update(checkpoint, out / "out", **case)
        for name, case in cases(count, extended).items()
    }
    if count == 2:
        results["resuming"] = resumed(checkpoint, out / "parallel")
    if extended:
        results["resuming sharded"] = resumed(checkpoint, out / "sharded", **by_accelerate())
    torch.save(
        {name: {**one, "check": None} for name, one in results.items()}, out / f"rank{number}.pt"
    )
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    base, out, ranks, *more = sys.argv[1:]
    # Forked, so that transformers is imported once for all of them.
    torch.multiprocessing.start_processes(
        rank, (int(ranks), Path(base), Path(out), bool(more)), int(ranks), start_method="fork"
    )
