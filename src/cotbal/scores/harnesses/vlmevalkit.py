"""VLMEvalKit: `<model>_<dataset>_acc.csv` and `_score.csv`, or `.json`, in a folder named after the
model.

Files in a folder of their own a run (`T<date>_G<commit>`) are read there too. A table with one row
gives one metric a column. In a table with several rows the first column says what a row is about,
and a metric is called `<row>:<column>`, such as `Overall:acc` of MM-Vet or `dev:Overall` of
MMBench. Accuracies of choices are fractions, those of free answers are percentages: numbers are
kept as they stand. Answers and scores of single questions are in Excel files, which are not read.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cotbal.errors import ScoresError
from cotbal.scores.harnesses import Benchmark, Evaluation

SUFFIXES = ("_acc.csv", "_score.csv", "_acc.json", "_score.json")
RUN_FOLDER = re.compile(r"T\d{8}_G\w+")
LABELS = ("split", "Category", "Task&Skill")  # first columns that say what a row is about


def read(directory: Path) -> Evaluation:
    """Every score file of one model.

    Raises:
        ScoresError: none is there, a file cannot be read, or one dataset was scored twice with
            different numbers.
    """
    found: dict[str, Benchmark] = {}
    sources: dict[str, Path] = {}
    for path in sorted(path for path in directory.rglob("*") if path.name.endswith(SUFFIXES)):
        name = _dataset(path)
        benchmark = Benchmark(name, _metrics(path))
        if name in found and found[name].metrics != benchmark.metrics:
            raise ScoresError(
                f"{directory}: {name} was scored twice, with different numbers: {sources[name]} and"
                f" {path}; give the folder of one run"
            )
        found[name], sources[name] = benchmark, path
    if not found:
        raise ScoresError(
            f"{directory}: expected score files of VLMEvalKit (<model>_<dataset>_acc.csv,"
            " _score.csv or .json); found none"
        )
    return Evaluation(directory, found)


def _dataset(path: Path) -> str:
    folder = path.resolve().parent
    model = folder.parent.name if RUN_FOLDER.fullmatch(folder.name) else folder.name
    if not path.name.startswith(f"{model}_"):
        raise ScoresError(
            f"{path}: expected a file named {model}_<dataset>..., after its folder, as VLMEvalKit"
            " names it"
        )
    stem = path.name.removeprefix(f"{model}_")
    return next(stem.removesuffix(suffix) for suffix in SUFFIXES if stem.endswith(suffix))


def _metrics(path: Path) -> dict[str, float]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = (
            [json.loads(text)]
            if path.suffix == ".json"
            else list(csv.DictReader(io.StringIO(text)))
        )
    except (OSError, ValueError, csv.Error) as error:
        raise ScoresError(f"{path}: expected a score file of VLMEvalKit; {error}") from None
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise ScoresError(
            f"{path}: expected a table of scores with a header and a row; found something else"
        )
    metrics: dict[str, float] = {}
    for row in rows:
        label = next((str(row[key]) for key in LABELS if key in row), None)
        prefix = "" if label is None or (len(rows) == 1 and label == "none") else f"{label}:"
        metrics |= {f"{prefix}{key}": value for key, value in _numbers(row).items()}
    if not metrics:
        raise ScoresError(
            f"{path}: expected numbers; found {', '.join(map(str, rows[0]))} without any"
        )
    return metrics


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    numbers = {}
    for key, value in row.items():
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            continue
        if key and key not in LABELS and abs(number) != float("inf") and number == number:  # noqa: PLR0124 - NaN
            numbers[key] = number
    return numbers
