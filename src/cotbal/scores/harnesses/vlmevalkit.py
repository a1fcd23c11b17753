"""VLMEvalKit: `<model>_<dataset>_acc.csv` and `_score.csv`, or `.json`, in a folder named after the
model.

Files in a folder of their own per run (`T<date>_G<commit>`) are read there too. The first column
that holds text alone says what a row is about, and a metric is called `<row>:<column>`, such as
`Overall:acc` of MM-Vet or `dev:Overall` of MMBench; without such a column, or where it says `none`
in the only row, a metric is called after its column. Numbers inside another mapping of a JSON file
are called `<outer>:<inner>`. Accuracies of choices are fractions, those of free answers are
percentages: numbers are unchanged. Answers and scores of single questions are in Excel
files, which are not read.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cotbal.errors import ScoresError
from cotbal.scores.harnesses import Benchmark, Evaluation, is_number, one_model

SUFFIXES = ("_acc.csv", "_score.csv", "_acc.json", "_score.json")
RUN_FOLDER = re.compile(r"T\d{8}_G\w+")


def read(directory: Path) -> Evaluation:
    """Every score file of one model.

    Raises:
        ScoresError: none is there, a file cannot be read, the files are of several models, or one
            dataset was scored twice with different numbers.
    """
    benchmarks: dict[str, Benchmark] = {}
    sources: dict[str, Path] = {}
    paths = sorted(path for path in directory.rglob("*") if path.name.endswith(SUFFIXES))
    one_model(directory, {path: _model(path) for path in paths})
    for path in paths:
        name = _dataset(path)
        benchmark = Benchmark(name, _metrics(path))
        if name in benchmarks and benchmarks[name].metrics != benchmark.metrics:
            raise ScoresError(
                f"{directory}: {name} was scored twice, with different numbers: {sources[name]} and"
                f" {path}; give the folder of one run"
            )
        benchmarks[name], sources[name] = benchmark, path
    if not benchmarks:
        raise ScoresError(
            f"{directory}: expected score files of VLMEvalKit (<model>_<dataset>_acc.csv,"
            " _score.csv or .json); found none"
        )
    return Evaluation(directory, benchmarks)


def _model(path: Path) -> str:
    """The model, after which VLMEvalKit names the folder."""
    folder = path.resolve().parent
    return folder.parent.name if RUN_FOLDER.fullmatch(folder.name) else folder.name


def _dataset(path: Path) -> str:
    model = _model(path)
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
        is_json = path.suffix == ".json"
        named = list(_of_mapping(json.loads(text)) if is_json else _of_table(_table(path, text)))
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise ScoresError(f"{path}: expected a score file of VLMEvalKit; {error}") from None
    metrics: dict[str, float] = {}
    for name, cell in named:
        number = _number(cell)
        if number is None or not name:
            continue
        if name in metrics:
            raise ScoresError(
                f"{path}: expected every metric once; found {name!r} twice, because no two rows or"
                " columns may have the same name"
            )
        metrics[name] = number
    if not metrics:
        names = ", ".join(name for name, _ in named) or "nothing"
        raise ScoresError(f"{path}: expected numbers; found {names} without any")
    return metrics


def _of_mapping(content: Any, outer: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(content, dict):
        raise ValueError(f"expected a mapping of names to numbers; found {content!r:.60}")
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _of_mapping(value, f"{outer}{key}:")
        else:
            yield f"{outer}{key}", value


def _table(path: Path, text: str) -> list[list[str]]:
    """Header and rows, all of the same length; lines without any content are left out."""
    lines = [
        (number, line) for number, line in enumerate(csv.reader(io.StringIO(text)), 1) if any(line)
    ]
    if len(lines) < 2:
        raise ScoresError(f"{path}: expected a table of scores with a header and a row")
    columns = len(lines[0][1])
    for number, line in lines:
        if len(line) != columns:
            raise ScoresError(
                f"{path}, line {number}: expected {columns} cells, as in the header; found"
                f" {len(line)}"
            )
    return [line for _, line in lines]


def _of_table(table: Sequence[Sequence[str]]) -> Iterator[tuple[str, str]]:
    header, *rows = table
    label = _label_column(rows)
    for row in rows:
        alone = label is None or (len(rows) == 1 and row[label] == "none")
        prefix = "" if alone else f"{row[label or 0]}:"
        for i, (column, cell) in enumerate(zip(header, row, strict=True)):
            if i != label and column:
                yield f"{prefix}{column}", cell


def _label_column(rows: Sequence[Sequence[str]]) -> int | None:
    """The first column of text, which names the rows."""
    for i, column in enumerate(zip(*rows, strict=True)):
        if all(map(_is_text, column)):
            return i
    return None


def _is_text(cell: str) -> bool:
    return bool(cell.strip()) and _number(cell) is None


def _number(cell: Any) -> float | None:
    """A finite number, or None; JSON may hold a number as text too."""
    try:
        number = float(cell)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if is_number(number) and not isinstance(cell, bool) else None
