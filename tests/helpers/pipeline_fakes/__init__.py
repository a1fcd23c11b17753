"""A small mixture on disk, and an executor that writes what a worker would write, without a
model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

TASKS = ("ocr", "vqa", "count")
EXECUTOR = "helpers.pipeline_fakes.executor"
TRAIN, VALIDATION, TEST = 64, 80, 40


def write_mixture(
    directory: Path,
    tasks: Sequence[str] = TASKS,
    train: int = TRAIN,
    unbalanced: bool = True,
    **sections: Any,
) -> Path:
    """Records, two images, a checkpoint of one file, and the recipe, whose path is returned."""
    (directory / "images").mkdir(parents=True)
    for name in ("a", "b"):
        Image.new("RGB", (4, 4), "red").save(directory / "images" / f"{name}.png")
    (directory / "base").mkdir()
    (directory / "base" / "config.json").write_text("{}")
    entries: dict[str, Any] = {task: _task(directory, task, train) for task in tasks}
    if unbalanced:
        entries["chat"] = {**_task(directory, "chat", train), "balanced": False}
    content = {
        "name": "small",
        "images": "images",
        "tasks": entries,
        "model": {"checkpoint": "base", "dtype": "float32"},
        "optimization": {"batch_size": 16, "micro_batch_size": 4},
        "portions": {"mini": "1/8"},
        "balance": {"bootstrap": 200},
        **sections,
    }
    recipe = directory / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(content, sort_keys=False))
    return recipe


def _task(directory: Path, task: str, train: int) -> dict[str, Any]:
    sizes = {"train": train, "validation": VALIDATION, "test": TEST}
    for split, size in sizes.items():
        rows = [record(task, split, number) for number in range(size)]
        (directory / f"{task}_{split}.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows)
        )
    return {split: f"{task}_{split}.jsonl" for split in sizes}


def offer_options(path: Path) -> None:
    """Let every record of a file offer its answer and two other texts."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row["options"] = ["x", row["conversations"][1]["value"], "y"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def record(task: str, split: str, number: int) -> dict[str, Any]:
    """One conversation; every third is about an image, of which there are two."""
    image = {"image": "ab"[number % 2] + ".png"} if number % 3 == 0 else {}
    mark = "<image>\n" if image else ""
    turns = [f"{mark}What is {task} {split} {number}?", f"answer {number % 5}"]
    conversation = [
        {"from": who, "value": text} for who, text in zip(("human", "gpt"), turns, strict=True)
    ]
    return {"id": f"{task}_{split}_{number}", **image, "conversations": conversation}
