"""Images and records of one split on disk. Every image has its own random stream, so no split
shares any.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

from PIL import Image

from cotbal.benchmarks.pocket.charts import random_chart, render_chart
from cotbal.benchmarks.pocket.chat import chat
from cotbal.benchmarks.pocket.mixes import Record, TaskData
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
        {"train": 1000, "validation": 400, "test": 2000},
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


def write_split(
    directory: Path, split: str, count: int, seed: int, mix: Mapping[str, TaskData]
) -> None:
    """Write the images of a split, one of every source per record, and what a mix asks about
    them: the same scene serves five tasks.
    """
    records = _drawn(directory / "images", split, count, seed, mix)
    records["chat"] = [_chat_record(split, index, seed) for index in range(count)]
    if split == "train":
        for name, data in mix.items():
            records[name] = data.training(records[name], Random(f"pocket/{seed}/mix/{name}"))
    for name, rows in records.items():
        write_jsonl(directory / "data" / f"{name}_{split}.jsonl", rows)


def _drawn(
    images: Path, split: str, count: int, seed: int, mix: Mapping[str, TaskData]
) -> dict[str, list[Record]]:
    """Draw the images and return a record of every visual task and image."""
    asks = {}
    for task in VISUAL_TASKS:
        data = mix.get(task.name, TaskData())
        asks[task.name] = data.ask or task.ask
    records: dict[str, list[Record]] = {task.name: [] for task in VISUAL_TASKS}
    (images / split).mkdir(parents=True, exist_ok=True)
    for source, (draw, render) in SOURCES.items():
        for index in range(count):
            stream = f"pocket/{seed}/{split}/{source}/{index}"
            shown = draw(Random(stream))
            image = f"{split}/{source}_{index:06d}.png"
            render(shown).save(images / image, compress_level=1)
            for task in VISUAL_TASKS:
                if task.source == source:
                    asked = asks[task.name](shown, Random(f"{stream}/{task.name}"))
                    identity = f"{task.name}_{split}_{index:06d}"
                    conversation = Conversation(identity, image, (asked,))
                    records[task.name].append(conversation.record(task.name))
    return records


def _chat_record(split: str, index: int, seed: int) -> Record:
    asked = _chat(Random(f"pocket/{seed}/{split}/chat/{index}"), split)
    return Conversation(f"chat_{split}_{index:06d}", None, (asked,)).record("chat")


def _chat(rng: Random, split: str) -> Asked:
    """A question of this split: there are a few thousand questions only, so each belongs to one
    split, by checksum.
    """
    while True:
        asked = chat(rng)
        if CHAT_SPLIT[crc32(asked.question.encode()) % len(CHAT_SPLIT)] == split:
            return asked
