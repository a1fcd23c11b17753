"""Images and records of one split on disk. Every image has its own random stream, so no split
shares any.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

from PIL import Image

from cotbal.benchmarks.pocket.charts import random_chart, render_chart
from cotbal.benchmarks.pocket.chat import chat
from cotbal.benchmarks.pocket.scenes import random_scene, render_scene
from cotbal.benchmarks.pocket.signs import random_sign, render_sign
from cotbal.benchmarks.pocket.tasks import VISUAL_TASKS
from cotbal.benchmarks.releases.conversation import Asked, Conversation
from cotbal.data.files import write_jsonl


@dataclass(frozen=True)
class Size:
    """Records per task in each split, and how the runs are set up."""

    splits: dict[str, int]
    batch_size: int
    learning_rate: str
    mini: str


SIZES: dict[str, Size] = {
    "demo": Size(
        {"train": 1000, "validation": 400, "test": 1000},
        batch_size=16,
        learning_rate="2.0e-3",
        mini="1/5",
    ),
    # Twice the data of the demo and half its learning rate: there, whether a task's sudden progress
    # comes before the end of the training is luck of the order of the data, and methods differ by
    # less than seeds do.
    "study": Size(
        {"train": 2000, "validation": 1000, "test": 2000},
        batch_size=16,
        learning_rate="1.0e-3",
        mini="1/10",
    ),
    "tiny": Size(
        {"train": 64, "validation": 32, "test": 32},
        batch_size=16,
        learning_rate="2.0e-3",
        mini="1/4",
    ),
}
CHAT_SPLIT = ("train",) * 8 + ("validation", "test")
SOURCES: dict[str, tuple[Callable[[Random], Any], Callable[[Any], Image.Image]]] = {
    "scene": (random_scene, render_scene),
    "chart": (random_chart, render_chart),
    "sign": (random_sign, render_sign),
}


def write_split(directory: Path, split: str, count: int, seed: int) -> None:
    """Write `count` records per task and the images they share: the same scene serves five
    tasks."""
    records: dict[str, list[dict[str, Any]]] = {task.name: [] for task in VISUAL_TASKS}
    (directory / "images" / split).mkdir(parents=True, exist_ok=True)
    for source, (draw, render) in SOURCES.items():
        for index in range(count):
            stream = f"pocket/{seed}/{split}/{source}/{index}"
            shown, image = draw(Random(stream)), f"{split}/{source}_{index:06d}.png"
            render(shown).save(directory / "images" / image, compress_level=1)
            for task in VISUAL_TASKS:
                if task.source == source:
                    asked = task.ask(shown, Random(f"{stream}/{task.name}"))
                    identity = f"{task.name}_{split}_{index:06d}"
                    conversation = Conversation(identity, image, (asked,))
                    records[task.name].append(conversation.record(task.name))
    records["chat"] = []
    for index in range(count):
        asked = _chat(Random(f"pocket/{seed}/{split}/chat/{index}"), split)
        conversation = Conversation(f"chat_{split}_{index:06d}", None, (asked,))
        records["chat"].append(conversation.record("chat"))
    for name, rows in records.items():
        write_jsonl(directory / "data" / f"{name}_{split}.jsonl", rows)


def _chat(rng: Random, split: str) -> Asked:
    """A question of this split: there are a few thousand questions only, so each belongs to one
    split, by checksum.
    """
    while True:
        asked = chat(rng)
        if CHAT_SPLIT[crc32(asked.question.encode()) % len(CHAT_SPLIT)] == split:
            return asked
