"""Trainings on two ranks, all in one launch; as a script this file is one rank of it.

Each case gives what `trainer_cases.update` is called with, but for the checkpoint and a directory.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from trainer_cases import TASK_LEVEL, TASKS, WEIGHTS, grouped, pad, rows, update, with_pictures
from transformers.distributed import DistributedConfig

from cotbal.hosts.blank_picture import with_blank_picture
from cotbal.hosts.transformers import with_task_ids
from cotbal.weightings import Weighting, dynamic_average, random_loss

PICTURED = [0, 1, 2, 3, 8, 9, 10, 11]  # in micro-batches of 4 on two ranks: all of rank 0, none of rank 1
SEVERAL = {"max_steps": 4}


def sensitive() -> Weighting:
    """DWA that starts at step 2 and answers to small changes of the losses."""
    return dynamic_average.build(TASKS, None, window=1, temperature=0.005)


def sharded() -> dict[str, Any]:
    """FSDP2 with a unit a layer, by the loader of transformers; accelerate's own plugin needs a GPU."""
    plan = dict.fromkeys(("model.language_model.layers.*", "model.vision_tower.encoder.layers.*"), "free_full_weight")
    return {"loading": {"distributed_config": DistributedConfig(fsdp_size=2, fsdp_plan=plan)}}


def cases() -> dict[str, dict[str, Any]]:
    made: dict[str, dict[str, Any]] = {}
    for micro, accumulation in ((8, 1), (4, 2)):
        cut = {"micro": micro, "accumulation": accumulation}
        made[f"fixed {micro} {accumulation}"] = {**cut, "weighting": WEIGHTS}
        made[f"task_level {micro} {accumulation}"] = {**cut, "weighting": TASK_LEVEL}
        made[f"dynamic {micro} {accumulation}"] = {**cut, "weighting": sensitive(), **SEVERAL}
        made[f"fixed {micro} {accumulation} sharded"] = {**cut, "weighting": WEIGHTS, **sharded()}
    cut = {"micro": 4, "accumulation": 2}
    made["task_level 4 2 sharded"] = {**cut, "weighting": TASK_LEVEL, **sharded()}
    made["dynamic 4 2 sharded"] = {**cut, "weighting": sensitive(), **SEVERAL, **sharded()}
    made["grouped"] = {**cut, "data": grouped()}
    made["pictures"] = {**cut, "data": with_pictures(PICTURED)}
    blank = with_blank_picture(with_task_ids(pad, TASKS), with_pictures([0])[0])
    made["pictures sharded"] = {**cut, "data": with_pictures(PICTURED), "collator": blank, **sharded()}
    made["per_device"] = {**cut, "normalizer": "per_device"}
    made["random"] = {**cut, "weighting": random_loss.build(TASKS, None, seed=5), **SEVERAL}
    made["partial"] = {"micro": 2, "accumulation": 2, "data": rows()[:12], "max_steps": -1, "num_train_epochs": 1}
    return made


if __name__ == "__main__":
    checkpoint, scratch = Path(sys.argv[1]), Path(sys.argv[2])
    torch.distributed.init_process_group("gloo")
    found = {name: update(checkpoint, scratch / "out", **case) for name, case in cases().items()}
    kept = found if os.environ["RANK"] == "0" else {name: {**one, "change": None} for name, one in found.items()}
    torch.save({name: {**one, "check": None} for name, one in kept.items()}, scratch / f"rank{os.environ['RANK']}.pt")
    torch.distributed.destroy_process_group()
