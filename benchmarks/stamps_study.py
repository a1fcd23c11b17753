"""A part of the benchmark `stamps` that two cores can train several times: fewer tasks, fewer
records per task.

    cotbal prepare stamps DIR && cotbal prepare stamps-base DIR
    python benchmarks/stamps_study.py DIR
    cotbal compare DIR/study.yaml --methods stl,ew,cotbal --seeds 0,1,2 --threads 1 --out RUN

Writes `DIR/study.yaml` and the first records of every split as `DIR/study/<task>_<split>.jsonl`;
nothing else changes.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

TASKS = ("detail_caption", "region_caption", "general_vqa", "ocr_qa")
RECORDS = {"train": 256, "validation": 160, "test": 240}
MINI = "1/8"  # 32 records; the paper's 1/32 would be 8


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path, help="what `cotbal prepare stamps` wrote")
    parser.add_argument("--tasks", default=",".join(TASKS))
    for split, records in RECORDS.items():
        parser.add_argument(
            f"--{split}", type=int, default=records, help=f"records per task, {records} by default"
        )
    given = parser.parse_args()
    records = {split: getattr(given, split) for split in RECORDS}
    print(write_study(given.directory, given.tasks.split(","), records))


def write_study(directory: Path, tasks: list[str], records: dict[str, int]) -> Path:
    """Cut the files of these tasks and write the recipe that names them; return its path."""
    whole: dict[str, Any] = yaml.safe_load((directory / "recipe.yaml").read_text(encoding="utf-8"))
    (directory / "study").mkdir(exist_ok=True)
    chosen = {}
    for name in tasks:
        chosen[name] = dict(whole["tasks"][name])
        for split, number in records.items():
            chosen[name][split] = f"study/{name}_{split}.jsonl"
            cut(directory / whole["tasks"][name][split], directory / chosen[name][split], number)
    portions = {**whole["portions"], "mini": MINI}
    study = directory / "study.yaml"
    recipe = {**whole, "name": "stamps-study", "tasks": chosen, "portions": portions}
    study.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return study


def cut(source: Path, target: Path, number: int) -> None:
    """The first `number` lines of a file."""
    with source.open(encoding="utf-8") as lines:
        target.write_text("".join(islice(lines, number)), encoding="utf-8")


if __name__ == "__main__":
    main()
