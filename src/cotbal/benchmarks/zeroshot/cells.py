"""What lies on disk: one directory a model and column, done once `done.json` is written; and the
table of all of them.

OUT/<model>/checkpoint/        prepared copy, links to the weights
OUT/<model>/<column>/output/   what lmms-eval wrote
OUT/<model>/<column>/log.txt, done.json
OUT/lmms/                      task files and model that lmms-eval was given
OUT/results.csv                for `cotbal overall`
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cotbal.benchmarks.zeroshot.columns import COLUMNS, OTHERS, ZeroShot
from cotbal.benchmarks.zeroshot.values import remarks
from cotbal.errors import ScoresError
from cotbal.jobs.rundir import read_json, write_json
from cotbal.scores.harnesses import lmms_eval
from cotbal.scores.results import Column, Results


@dataclass(frozen=True)
class Cell:
    """One model on one column."""

    root: Path
    model: str
    column: ZeroShot

    @property
    def path(self) -> Path:
        """Its directory."""
        return self.root / self.model / self.column.name

    @property
    def output(self) -> Path:
        """Where lmms-eval writes."""
        return self.path / "output"

    @property
    def log(self) -> Path:
        """What it printed."""
        return self.path / "log.txt"

    @property
    def done(self) -> dict[str, Any] | None:
        """What `finish` wrote; None while that is missing."""
        path = self.path / "done.json"
        return read_json(path) if path.exists() else None


def finish(cell: Cell, identity: dict[str, Any], whole: bool) -> dict[str, Any]:
    """Read what lmms-eval wrote and mark the cell as done.

    Args:
        whole: whether every question was to be asked.

    Raises:
        ScoresError: a task is missing, or its answers cannot be read.
    """
    evaluation = lmms_eval.read(cell.output)
    missing = [task for task in cell.column.tasks if task not in evaluation.benchmarks]
    if missing:
        there = ", ".join(evaluation.benchmarks)
        raise ScoresError(
            f"{cell.output}: expected results of {', '.join(missing)}; found {there or 'none'}"
        )
    benchmarks = [evaluation.benchmarks[task] for task in cell.column.tasks]
    reading = cell.column.read(benchmarks)
    said = [
        line for b in benchmarks for line in remarks(b, cell.column.questions if whole else None)
    ]
    content = {
        "value": reading.value,
        "warnings": [*evaluation.warnings, *said, *reading.warnings],
        "metrics": {benchmark.name: dict(benchmark.metrics) for benchmark in benchmarks},
        "questions": {benchmark.name: benchmark.questions for benchmark in benchmarks},
        "identity": identity,
    }
    write_json(cell.path / "done.json", content)
    return content


@dataclass(frozen=True)
class Table:
    """All models that were evaluated below one directory.

    Attributes:
        results: the columns that every model has; None where there is none.
        warnings: what is missing, unusual or not comparable.
    """

    results: Results | None
    warnings: tuple[str, ...]


def read_table(root: Path, baseline: str) -> Table:
    """Every model below `root`, the baseline first."""
    known = (*COLUMNS, *OTHERS)
    cells = [Cell(root, path.name, column) for path in sorted(_folders(root)) for column in known]
    found = {(cell.model, cell.column.name): cell.done for cell in cells}
    models = [
        m for m in dict.fromkeys(c.model for c in cells) if any(found[m, c.name] for c in known)
    ]
    models.sort(key=lambda model: model != baseline)
    begun = [column for column in known if any(found[model, column.name] for model in models)]
    columns = [column for column in begun if all(found[model, column.name] for model in models)]
    warnings = [
        f"{model}: not evaluated on {column.name}, so that this column is left out of the table"
        for column in begun
        for model in models
        if not found[model, column.name]
    ]
    for (model, column), done in found.items():
        warnings += [f"{model}, {column}: {line}" for line in (done or {}).get("warnings", ())]
    warnings += _unlike([(m, c, found[m, c.name] or {}) for c in columns for m in models])
    if not columns:
        return Table(None, tuple(warnings))
    values = np.array(
        [[(found[model, column.name] or {})["value"] for column in columns] for model in models]
    )
    named = tuple(Column(column.name, column.metric) for column in columns)
    return Table(Results(tuple(models), named, values), tuple(warnings))


def _folders(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []


def _unlike(cells: Sequence[tuple[str, ZeroShot, dict[str, Any]]]) -> list[str]:
    """Models that were not evaluated in the same way."""
    first: dict[str, tuple[str, dict[str, Any]]] = {}
    said = []
    for model, column, done in cells:
        how = {key: value for key, value in done["identity"].items() if key != "checkpoint"}
        other, before = first.setdefault(column.name, (model, how))
        differing = [key for key in {**before, **how} if before.get(key) != how.get(key)]
        said += [
            f"{column.name}: {model} and {other} were evaluated differently ({key}: {how.get(key)},"
            f" {before.get(key)})"
            for key in differing
        ]
    return said
