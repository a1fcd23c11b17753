"""lmms-eval (0.7.x): `<date>_results.json` and, with --log_samples,
`<date>_samples_<task>.jsonl`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cotbal.errors import ScoresError
from cotbal.scores.harnesses import Benchmark, Evaluation, Row, is_number, one_model

# Not `*_results.json`: tasks write files of such names into `submissions/`.
RESULTS = re.compile(r"\d{8}_\d{6}_results\.json")


def read(directory: Path) -> Evaluation:
    """The newest result of every task below `directory`.

    Raises:
        ScoresError: no result file, one that is not what lmms-eval writes, or those of several
            models.
    """
    files = []
    for path in sorted(directory.rglob("*_results.json")):
        if RESULTS.fullmatch(path.name):
            files.append(path)
    if not files:
        raise ScoresError(
            f"{directory}: expected the result files of lmms-eval (<date>_results.json); found"
            " none; note that lmms-eval ends without an error when an evaluation fails, so look"
            " into its log"
        )
    files.sort(key=lambda path: path.name)
    contents = {path: _content(path) for path in files}
    one_model(directory, {path: _model(path, content) for path, content in contents.items()})
    benchmarks: dict[str, Benchmark] = {}
    warnings: list[str] = []
    for path, content in contents.items():
        warnings += _limits(path, content)
        for name, benchmark in _benchmarks(path, content).items():
            if name in benchmarks and benchmarks[name].metrics != benchmark.metrics:
                warnings.append(
                    f"{directory}: {name} was evaluated more than once; {path.name} is the newest,"
                    " and read"
                )
            benchmarks[name] = benchmark
    return Evaluation(directory, benchmarks, tuple(warnings))


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ScoresError(f"{path}: expected a result file of lmms-eval; {error}") from None
    kinds = dict.fromkeys(("results", "n-samples", "config"), dict) | {"date": str}
    wrong = [
        key
        for key, kind in kinds.items()
        if not isinstance(content, dict) or not isinstance(content.get(key), kind)
    ]
    if wrong or not all(isinstance(entry, dict) for entry in content["results"].values()):
        raise ScoresError(
            f"{path}: expected a result file of lmms-eval 0.7, with {', '.join(kinds)}; found it"
            f" without {', '.join(wrong) or 'a mapping of metrics a task'}"
        )
    return content


def _model(path: Path, content: Mapping[str, Any]) -> str:
    """Its checkpoint or adapter, as in `--model_args`; else the folder, which lmms-eval names after
    it.
    """
    name = content.get("model_name")
    return name if isinstance(name, str) and name else path.parent.name


def _limits(path: Path, content: Mapping[str, Any]) -> list[str]:
    """A warning where only a part of every benchmark was evaluated."""
    config = content["config"]
    limit = config.get("limit")
    offset = config.get("offset")
    limits = []
    if limit not in (None, -1):
        number = f"{limit:g}" if isinstance(limit, float) else limit
        limits.append(f"limit {number}")
    if offset:
        limits.append(f"offset {offset}")
    if not limits:
        return []
    settings = " and ".join(limits)
    return [f"{path}: evaluated with {settings}, so on a part of every benchmark"]


def _benchmarks(path: Path, content: Mapping[str, Any]) -> dict[str, Benchmark]:
    benchmarks = {}
    for name, entries in content["results"].items():
        metrics = _metrics(path, name, entries)
        if not metrics:  # a group that only holds other tasks
            continue
        directions = _mapping(content.get("higher_is_better"))
        counts = _mapping(content["n-samples"].get(name))
        counted = counts.get("effective")
        benchmarks[name] = Benchmark(
            name,
            metrics,
            _lower_is_better(metrics, _mapping(directions.get(name))),
            counted if isinstance(counted, int) else None,
            _rows(path, name),
        )
    return benchmarks


def _lower_is_better(
    metrics: Mapping[str, float], higher_is_better: Mapping[str, Any]
) -> frozenset[str]:
    lower = []
    for metric in metrics:
        name, _, _ = metric.partition(",")
        if higher_is_better.get(name) is False:
            lower.append(metric)
    return frozenset(lower)


def _mapping(value: Any) -> Mapping[str, Any]:
    """What may be left out is as good as left out where it is of another kind."""
    return value if isinstance(value, dict) else {}


def _metrics(path: Path, task: str, entries: Mapping[str, Any]) -> dict[str, float]:
    """`exact_match,none` is called `exact_match`; standard errors and what is no number are left
    out.
    """
    metrics = {}
    for key, value in entries.items():
        metric, _, kept = key.partition(",")
        if "_stderr" in metric or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if not is_number(value):
            raise ScoresError(
                f"{path}: expected a finite number for {task}, {key}; found {value!s:.40}"
            )
        name = metric if kept in ("none", "") else key
        if name in metrics:
            raise ScoresError(f"{path}: expected every metric of {task} once; found {name} twice")
        metrics[name] = float(value)
    return metrics


def _rows(results: Path, task: str) -> tuple[Row, ...]:
    """The rows of the file of samples beside a result file; empty where there is none."""
    name = results.name.replace("_results.json", f"_samples_{task}.jsonl")
    path = results.parent / name
    try:
        results.with_name(name)  # a task's name must not lead elsewhere
        if not path.exists():
            return ()
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError, RecursionError) as error:
        raise ScoresError(
            f"{path!s:.300}: expected the answers that lmms-eval wrote; {error}"
        ) from None
    # Not splitlines(): JSON may hold other line separators of Unicode inside a text.
    lines = enumerate(text.split("\n"), 1)
    rows = [_row(line, f"{path}, line {number}") for number, line in lines if line]
    return tuple(sorted(rows, key=lambda row: row["doc_id"]))


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ScoresError(f"{where}: expected one JSON value; {error}") from None
    if not isinstance(row, dict) or not isinstance(row.get("doc_id"), int):
        raise ScoresError(
            f"{where}: expected an answer with a doc_id, as lmms-eval writes it; found {line[:60]}"
        )
    return row
