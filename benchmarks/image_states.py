"""What it costs to recognise the images of a run: seconds for many images, beside the search for
missing ones, which every command does.

    python benchmarks/image_states.py DIRECTORY [images [KiB]]

Writes the images (random bytes) into the directory first, unless they are there.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cotbal.data.reading.image_states import ImageStates
from cotbal.data.reading.images import problems_of_images
from cotbal.data.reading.records import Records, open_records


def main(directory: Path, count: int, kib: int) -> None:
    names = [f"{number:06d}.jpg" for number in range(count)]
    records = prepared(directory, names, kib)
    images = directory / "images"
    lines = {
        "missing images": lambda: problems_of_images(images, names, decode=False),
        "first command": lambda: entries(records, images, directory / "fresh"),
        "later commands and workers": lambda: entries(records, images, directory / "kept"),
        "digest_images: true": lambda: entries(records, images, directory / "kept", whole=True),
    }
    entries(records, images, directory / "kept")
    for what, work in lines.items():
        wall, cpu = seconds(work)
        print(f"{what}: {wall:.1f} s, {cpu:.1f} s of CPU")


def prepared(directory: Path, names: list[str], kib: int) -> Records:
    """The records of as many images, one each."""
    images, source = directory / "images", directory / "records.jsonl"
    images.mkdir(parents=True, exist_ok=True)
    content = os.urandom(kib * 1024)
    for number, name in enumerate(names):
        if not (images / name).exists():
            (images / name).write_bytes(number.to_bytes(8, "big") + content)
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A frog."}]
    rows = ({"id": name, "image": name, "conversations": turns} for name in names)
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return open_records(source, directory / "cache")


def entries(records: Records, images: Path, kept: Path, whole: bool = False) -> None:
    """The entries of an identity, as a command computes and keeps them."""
    states = ImageStates(images, kept, whole)
    states.entries("task.train", records, np.arange(len(records)))
    states.save()


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Wall time and processor time."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    given = [*map(int, sys.argv[2:]), *(100_000, 100)[len(sys.argv[2:]) :]]
    main(Path(sys.argv[1]), *given)
