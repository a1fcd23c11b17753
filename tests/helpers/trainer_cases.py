"""Rows that are hard on a weighted loss, and one training with SGD whose update is the gradient."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForImageTextToText, TrainingArguments

from cotbal.loss import IGNORED
from cotbal.training.trainers.hf import TaskWeightedTrainer, with_task_ids
from cotbal.training.trainers.step import by_task
from cotbal.weightings import Static

TASKS = ("a", "b", "c")
WEIGHTS = Static((0.4, 1.7, 0.9))
EQUAL = Static((1.0, 1.0, 1.0))
TASK_LEVEL = Static((1.0, 1.0, 1.0), "task")
IMAGE, PATCHES = 2, 36  # id of the placeholder and number of places of an image in pocket
SIZE = 48  # of pocket's images


def rows(count: int = 16) -> list[dict[str, Any]]:
    """Rows of very different lengths; neighbours share a task, so that small micro-batches hold one
    task.
    """
    generator = torch.Generator().manual_seed(1)
    made = []
    for i in range(count):
        length = 6 + int(torch.randint(0, 14, (1,), generator=generator))
        ids = torch.randint(20, 300, (length,), generator=generator)
        labels = ids.clone()
        labels[: 2 + i % 4] = IGNORED
        if i == 5:
            labels[:] = IGNORED
        made.append({"input_ids": ids, "labels": labels, "task": TASKS[(i * 3) // count]})
    return made


def grouped(count: int = 16) -> list[dict[str, Any]]:
    """The rows sorted by length, with a task for every third: what a length-grouped sampler makes
    of a mixture.
    """
    made = sorted(rows(count), key=lambda row: len(row["input_ids"]))
    return [{**row, "task": TASKS[(i * 3) // count]} for i, row in enumerate(made)]


def with_images(image: list[int], count: int = 16) -> list[dict[str, Any]]:
    """The rows, those named in `image` with one image in front."""
    made = rows(count)
    generator = torch.Generator().manual_seed(2)
    for i in image:
        pixels = torch.randn(3, SIZE, SIZE, generator=generator)
        front = torch.full((PATCHES,), IMAGE)
        made[i]["input_ids"] = torch.cat([front, made[i]["input_ids"]])
        made[i]["labels"] = torch.cat([torch.full_like(front, IGNORED), made[i]["labels"]])
        made[i]["pixel_values"] = pixels
    return made


def pad(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Padded on the right; images one behind the other."""
    longest = max(len(row["input_ids"]) for row in batch)
    fill = {"input_ids": 0, "labels": IGNORED}
    out = {
        key: torch.stack(
            [
                torch.nn.functional.pad(row[key], (0, longest - len(row[key])), value=value)
                for row in batch
            ]
        )
        for key, value in fill.items()
    }
    lengths = torch.tensor([len(row["input_ids"]) for row in batch])
    images = [row["pixel_values"] for row in batch if "pixel_values" in row]
    out |= {"pixel_values": torch.stack(images)} if images else {}
    return {**out, "attention_mask": (torch.arange(longest) < lengths[:, None]).long()}


class InOrder(TaskWeightedTrainer):
    """Rows in the order given, so that only the cutting differs."""

    def _get_train_sampler(self, *args: Any) -> torch.utils.data.Sampler:
        return torch.utils.data.SequentialSampler(self.train_dataset)


class Spy:
    """A weighting that writes down what it hears; its weights tell the step."""

    average = "token"
    starts = 0

    def __init__(self) -> None:
        self.observed: list[tuple[np.ndarray, np.ndarray]] = []
        self.asked: list[int] = []

    def weights(self, step: int) -> np.ndarray:
        self.asked.append(step)
        return np.array([1.0 + step, 1.0, 1.0])

    def observe(self, losses: np.ndarray, counts: np.ndarray) -> None:
        self.observed.append((losses.copy(), counts.copy()))

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def arguments(directory: Path, micro: int, accumulation: int, **more: Any) -> Any:
    settings: dict[str, Any] = {
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": accumulation,
        "max_steps": 1,
        "learning_rate": 1.0,
        "optim": "sgd",
        "max_grad_norm": 0.0,
        "lr_scheduler_type": "constant",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_steps": 1,
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
    }
    return more.pop("config", TrainingArguments)(str(directory), **{**settings, **more})


def trainer_of(
    model: Any,
    directory: Path,
    micro: int,
    accumulation: int,
    weighting: Any = WEIGHTS,
    **more: Any,
) -> InOrder:
    """A trainer; what is in `more` goes to it where it is its own, and to the arguments
    otherwise."""
    names = ("normalizer", "chunked_head", "eval_dataset", "callbacks")
    options = {key: more.pop(key) for key in names if key in more}
    data, collator = (
        more.pop("data", None) or rows(),
        more.pop("collator", None) or with_task_ids(pad, TASKS),
    )
    return more.pop("kind", InOrder)(
        model=model,
        args=arguments(directory, micro, accumulation, **more),
        train_dataset=data,
        data_collator=collator,
        tasks=TASKS,
        weighting=weighting,
        **options,
    )


def whole(parameter: torch.Tensor) -> torch.Tensor:
    """A copy of all of a parameter, also where it is sharded over ranks."""
    tensor = parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter
    return tensor.detach().clone()


def update(
    checkpoint: Path,
    directory: Path,
    micro: int,
    accumulation: int,
    weighting: Any = WEIGHTS,
    **more: Any,
) -> dict[str, Any]:
    """What SGD with learning rate 1 subtracts in its steps: after one step, the gradient."""
    model = AutoModelForImageTextToText.from_pretrained(checkpoint, **more.pop("loading", {}))
    before = {name: whole(p) for name, p in model.named_parameters()}
    trainer = trainer_of(model, directory, micro, accumulation, weighting, **more)
    trainer.train()
    change = {name: before[name] - whole(p) for name, p in model.named_parameters()}
    log = [by_task(line) for line in trainer.state.log_history]
    return {"change": change, "log": log, "check": trainer.self_check}


@cache
def plain(
    checkpoint: Path, micro: int, accumulation: int, weighting: Any = WEIGHTS
) -> dict[str, Any]:
    """The update without any other setting, computed once; not to be changed."""
    with tempfile.TemporaryDirectory() as directory:
        return update(checkpoint, Path(directory), micro, accumulation, weighting)


def flat(result: dict[str, Any]) -> torch.Tensor:
    return torch.cat([value.flatten() for value in result["change"].values()])


def distance(a: dict[str, Any], b: dict[str, Any]) -> float:
    return float((flat(a) - flat(b)).norm() / flat(b).norm())
