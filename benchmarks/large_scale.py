"""Memory and time of `prepare large`, `check` and `plan` on synthetic rows in the sizes of M3IT.

    python benchmarks/large_scale.py WORK --out
    benchmarks/results/large_scale_2-core-epyc_2026-11-24.md

WORK takes about 8 GB and is deleted at the end. Texts have about the lengths of M3IT's, and rows
share images as M3IT's do; images are tiny, but for those of Mocheg, which have the size of
photographs. A killed run resumes where it was. Peak memory is what the kernel says of each process
when it ends (`ru_maxrss`: the files it maps count too). A process inherits the peak of the one that
starts it, so the rows are written by a third one.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from cotbal.benchmarks.large.sets import DataSet, data_sets

LIMIT = 1024  # MiB
ROWS_A_IMAGE = {"coco": 5, "textcap": 5, "visual-dialog": 10, "multi30k": 3}
LENGTHS = {  # characters of inputs and outputs
    "coco": (0, 53),
    "textcap": (0, 64),
    "image-paragraph-captioning": (0, 310),
    "coco-goi": (420, 16),
    "coco-text": (90, 8),
    "imagenet": (180, 18),
    "coco-itm": (330, 4),
    "snli-ve": (110, 6),
    "mocheg": (900, 10),
    "shapes": (40, 4),
    "ocr-vqa": (60, 40),
    "gqa": (55, 30),
    "science-qa": (420, 12),
    "clevr": (110, 20),
    "vcr": (330, 60),
    "visual-dialog": (450, 20),
    "multi30k": (65, 70),
}
LARGE_IMAGE = 100_000  # bytes, of Mocheg's
GROUP = 1000  # rows of a row group, as `datasets` writes them
WORDS = (
    "the",
    "a",
    "man",
    "dog",
    "plays",
    "with",
    "red",
    "ball",
    "on",
    "green",
    "grass",
    "near",
    "old",
    "house",
    "sky",
)


@dataclass(frozen=True)
class Step:
    """What a process took."""

    name: str
    seconds: float
    mebibytes: float
    resumed: bool


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--out", type=Path, help="file of results; printed when there is none")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the rows")
    options = parser.parse_args()
    writing = get_context("spawn").Process(
        target=write_rows, args=(options.work / "raw", options.scale)
    )
    writing.start()
    writing.join()
    if writing.exitcode:
        raise SystemExit("the rows could not be written")
    steps = measure(options.work)
    text = results(steps, options.work, options.scale)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    print(text)
    shutil.rmtree(options.work)


def write_rows(raw: Path, scale: float) -> None:
    base = io.BytesIO()
    Image.new("RGB", (8, 8), "teal").save(base, "JPEG", quality=30)
    for data in data_sets():
        for split, number in (
            ("train", data.train),
            ("validation", data.validation),
            ("test", data.test),
        ):
            path = raw / "m3it" / data.config / f"{split}.parquet"
            if number and not path.exists():
                write_table(path, data, split, max(4, int(number * scale)), base.getvalue())


def write_table(path: Path, data: DataSet, split: str, number: int, base: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    image = pa.list_(pa.string())
    schema = pa.schema(
        {
            "instruction": pa.string(),
            "inputs": pa.string(),
            "image_base64_str": image,
            "outputs": pa.string(),
        }
    )
    with pq.ParquetWriter(part, schema) as writer:
        for start in range(0, number, GROUP):
            numbers = range(start, min(number, start + GROUP))
            writer.write_table(
                pa.Table.from_pylist([row(data, split, n, base) for n in numbers], schema)
            )
    os.replace(part, path)


def row(data: DataSet, split: str, number: int, base: bytes) -> dict[str, Any]:
    inputs, outputs = LENGTHS[data.config]
    image = number // ROWS_A_IMAGE.get(data.config, 1)
    content = jpeg(
        base, f"{data.config} {split} {image}", LARGE_IMAGE if data.config == "mocheg" else 0
    )
    return {
        "instruction": (
            f"Look at the image and say what it shows, in the way of {data.config}, number"
            f" {number % 10}."
        ),
        "inputs": text(number, inputs),
        "image_base64_str": [base64.b64encode(content).decode()],
        "outputs": text(number + 1, outputs),
    }


def jpeg(base: bytes, label: str, size: int) -> bytes:
    """The image `base` with a comment in it, so that it has other bytes and the wanted size."""
    comments = [
        label.encode(),
        *(os.urandom(min(60_000, size - start)) for start in range(0, size, 60_000)),
    ]
    segments = (
        b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment for comment in comments
    )
    return base[:2] + b"".join(segments) + base[2:]


def text(number: int, length: int) -> str:
    if not length:
        return ""
    return " ".join(
        [str(number), *(WORDS[(number + i * i) % len(WORDS)] for i in range(length // 4))]
    )[:length]


def measure(work: Path) -> list[Step]:
    recipe = work / "out/recipe.yaml"
    return list(
        run_steps(
            work,
            {
                "prepare": ["prepare", "large", str(work / "raw"), str(work / "out")],
                "check": ["check", str(recipe)],
                "plan": ["plan", str(recipe), "--out", str(work / "run")],
            },
        )
    )


def run_steps(work: Path, commands: dict[str, list[str]]) -> Iterator[Step]:
    for name, arguments in commands.items():
        note, begun = work / f"{name}.json", work / f"{name}.begun"
        if not note.exists():
            resumed = begun.exists()
            begun.touch()
            seconds, mebibytes = timed(work, name, arguments)
            note.write_text(
                json.dumps({"seconds": seconds, "mebibytes": mebibytes, "resumed": resumed})
            )
        yield Step(name, **json.loads(note.read_text()))


def timed(work: Path, name: str, arguments: list[str]) -> tuple[float, float]:
    """Seconds and peak MiB of one cotbal process; what it prints goes to WORK/<name>.log."""
    begin = time.monotonic()
    environment = {**os.environ, "COTBAL_CACHE": str(work / "cache")}
    with (work / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "cotbal", *arguments], stdout=log, stderr=log, env=environment
        )
        _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{name} failed; see {work / name}.log")
    return time.monotonic() - begin, usage.ru_maxrss / 1024


def results(steps: list[Step], work: Path, scale: float) -> str:
    notes = [json.loads(path.read_text()) for path in sorted((work / "out/data").glob("*.json"))]
    splits = [split for note in notes for split in note["splits"]]
    records, training = (
        sum(split["records"] for split in splits if which in ("all", split["split"]))
        for which in ("all", "train")
    )
    images = sum(1 for _ in (work / "out/images").rglob("*.jpg"))
    highest = max(step.mebibytes for step in steps)
    verdict = "holds" if highest <= LIMIT else "does NOT hold"
    lines = [
        "# Memory and time of the Large Benchmark's size",
        "",
        (
            f"Claim: {training:,} training records ({records:,} in all) on {images:,} images"
            f" are prepared, checked and planned within {LIMIT:,} MiB a process on 2 cores. It"
            f" {verdict}: the highest peak is {highest:,.0f} MiB."
        ),
        "",
        (
            f"- Hardware: {os.cpu_count()} cores, no GPU, {platform.machine()}. Other work ran at"
            " the same time: time is an upper bound, memory is exact."
        ),
        (
            f"- Versions: Python {platform.python_version()}, pyarrow {version('pyarrow')}, Pillow"
            f" {version('pillow')}, ijson {version('ijson')}. One run, share of M3IT's rows"
            f" {scale:g}."
        ),
        (
            f"- Synthetic rows in parquet, {GROUP:,} a row group; tiny images, Mocheg's have"
            f" {LARGE_IMAGE:,} bytes."
        ),
        "- Command: `python benchmarks/large_scale.py WORK`.",
        "",
        "| step | peak memory | wall |",
        "|---|---|---|",
    ]
    for step in steps:
        resumed = " (resumed after a kill: the last part)" if step.resumed else ""
        lines.append(
            f"| `cotbal {step.name}` | {step.mebibytes:,.0f} MiB | {step.seconds / 60:.1f}"
            f" min{resumed} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
