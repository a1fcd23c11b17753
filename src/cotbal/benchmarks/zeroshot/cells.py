"""Results on disk: one directory per model and column, done once `done.json` is written; and the
table of all of them.

OUT/<model>/checkpoint/        prepared copy, links to the weights
OUT/<model>/<column>/output/   what lmms-eval wrote
OUT/<model>/<column>/lock         held while lmms-eval runs
OUT/<model>/<column>/job.json     what the evaluation was begun with
OUT/<model>/<column>/log.txt, done.json
OUT/lmms/                      task files and model that lmms-eval was given
OUT/results.csv                for `cotbal overall`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cotbal.benchmarks.zeroshot.columns import COLUMNS, OTHERS, ZeroShot
from cotbal.benchmarks.zeroshot.values import remarks
from cotbal.data.files import as_written, read_json, write_sealed
from cotbal.errors import RunError, ScoresError
from cotbal.scores.harnesses import lmms_eval
from cotbal.scores.results import Column, Results
from cotbal.training.run_paths import Below

Done = Mapping[str, Any]  # content of a `done.json`


@dataclass(frozen=True)
class Cell:
    """One model on one column."""

    out: Path
    model: str
    column: ZeroShot

    output = Below("output")  # written by lmms-eval
    log = Below("log.txt")  # what it printed
    job = Below("job.json")  # what determines its result

    @property
    def root(self) -> Path:
        """Directory of the cell."""
        return self.out / self.model / self.column.name

    @property
    def done(self) -> Done | None:
        """What `finish` wrote; None while that is missing.

        Raises:
            RunError: it is damaged.
        """
        path = self.root / "done.json"
        try:
            return read_json(path) if path.exists() else None
        except RunError as error:
            raise RunError(
                f"{path}: expected a result as it was written; found a damaged file: remove it, and"
                " rerun the command to evaluate this column again",
                error.code,
            ) from None

    def made_from(self) -> dict[str, Any] | None:
        """The identity of what is on disk, finished or not; None where there is nothing.

        Raises:
            RunError: a file is damaged.
        """
        content = self.done or (read_json(self.job) if self.job.exists() else None)
        with as_written(self.root):
            return None if content is None else dict(content["identity"])


def finish(cell: Cell, identity: Mapping[str, Any], whole: bool) -> Done:
    """Read what lmms-eval wrote and mark the cell as done.

    Args:
        whole: whether every question was to be asked.

    Raises:
        ScoresError: a task is missing, or its answers cannot be read.
    """
    evaluation = lmms_eval.read(cell.output)
    missing = [task for task in cell.column.tasks if task not in evaluation.benchmarks]
    if missing:
        present = ", ".join(evaluation.benchmarks) or "none"
        raise ScoresError(
            f"{cell.output}: expected results of {', '.join(missing)}; found {present}",
            "missing-results",
        )
    benchmarks = [evaluation.benchmarks[task] for task in cell.column.tasks]
    reading = cell.column.read(benchmarks)
    warnings = [*evaluation.warnings]
    for benchmark in benchmarks:
        warnings += remarks(benchmark, cell.column.questions if whole else None)
    content = {
        "value": reading.value,
        "warnings": [*warnings, *reading.warnings],
        "metrics": {benchmark.name: dict(benchmark.metrics) for benchmark in benchmarks},
        "questions": {benchmark.name: benchmark.questions for benchmark in benchmarks},
        "identity": identity,
    }
    write_sealed(cell.root / "done.json", content)
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


def read_table(out: Path, baseline: str) -> Table:
    """Every model below `out`, the baseline first."""
    done = _read_done(out)
    if not done:
        return Table(None, ())
    models = sorted(done, key=lambda model: model != baseline)
    columns, warnings = _complete_columns(done, models)
    for model, by_column in done.items():
        for name, content in by_column.items():
            warnings += [f"{model}, {name}: {line}" for line in content["warnings"]]
    for column in columns:
        warnings += _different_settings(column.name, {m: done[m][column.name] for m in models})
    if not columns:
        return Table(None, tuple(warnings))
    values = [done[model][column.name]["value"] for model in models for column in columns]
    named = tuple(Column(column.name, column.metric) for column in columns)
    shape = len(models), len(columns)
    return Table(Results(tuple(models), named, np.reshape(values, shape)), tuple(warnings))


def _complete_columns(
    done: Mapping[str, Mapping[str, Done]], models: Sequence[str]
) -> tuple[list[ZeroShot], list[str]]:
    """The columns that every model has, and warnings about those that only some have."""
    columns = []
    warnings = []
    for column in (*COLUMNS, *OTHERS):
        missing = [model for model in models if column.name not in done[model]]
        if not missing:
            columns.append(column)
        elif len(missing) < len(models):
            warnings += [
                f"{model}: not evaluated on {column.name}, so that this column is left out of the"
                " table"
                for model in missing
            ]
    return columns, warnings


def _read_done(out: Path) -> dict[str, dict[str, Done]]:
    """Model -> column -> content of its `done.json`; models without any are left out."""
    models: dict[str, dict[str, Done]] = {}
    folders = sorted(path for path in out.glob("*") if path.is_dir())
    for folder in folders:
        for column in (*COLUMNS, *OTHERS):
            content = Cell(out, folder.name, column).done
            if content is not None:
                models.setdefault(folder.name, {})[column.name] = content
    return models


def _different_settings(column: str, done: Mapping[str, Done]) -> list[str]:
    """Warnings about models that were evaluated with other settings than the first one."""
    first, *others = done
    warnings = []
    before = _settings(done[first])
    for model in others:
        now = _settings(done[model])
        warnings += [
            f"{column}: {model} and {first} were evaluated differently ({key}: {now.get(key)},"
            f" {before.get(key)})"
            for key in {**before, **now}
            if before.get(key) != now.get(key)
        ]
    return warnings


def _settings(done: Done) -> dict[str, Any]:
    return {key: value for key, value in done["identity"].items() if key != "checkpoint"}
