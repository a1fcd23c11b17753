"""Tables of final models side by side, and of the cost of every run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cotbal.report.comparison import BASELINE, Comparison, Row
from cotbal.report.contents import Contents, RunContents
from cotbal.report.formatting import DASH, MINUS, count, number, with_interval
from cotbal.report.tables import Table
from cotbal.scores.interval import Interval
from cotbal.weightings import method_label

NAMES = ("task", "split", "metric")  # first columns of a table of test scores
WORDS = frozenset({1, 2})


def model_tables(comparison: Comparison) -> list[Table]:
    """Everything about the models, side by side."""
    tables = []
    if comparison.rows:
        tables.append(final_table(comparison))
    if any(row.differences for row in comparison.rows):
        tables.append(difference_table(comparison))
    if len(comparison.seeds) > 1 and comparison.against:
        tables.append(seed_table(comparison))
    if comparison.against:
        tables.append(change_table(comparison))
    return tables


def variant_tables(contents: Contents, comparison: Comparison) -> list[Table]:
    """The weights that the models of an ablation were trained with; none where there is one set of
    weights at most.
    """
    trained = {run.name: run.weights for run in contents.finals if run.weights}
    shown = [name for name in comparison.methods if name in trained]
    if len(shown) < 2:
        return []
    rows = tuple(
        (task, *(number(trained[name][task]) for name in shown)) for task in contents.tasks
    )
    header = ("task", *map(method_label, shown))
    return [Table("Weights that models were trained with", header, rows)]


def final_table(comparison: Comparison) -> Table:
    """Test scores of the models, means over seeds."""
    methods = comparison.methods
    rows = tuple(
        (row.task, row.split, row.metric, *(_score(row, name) for name in methods))
        for row in comparison.rows
    )
    title = f"Test scores{_over(comparison)}; higher is better"
    header = (*NAMES, *map(method_label, methods))
    if len(methods) <= 2:  # their differences are more informative than the best of a row
        return Table(title, header, rows, words=WORDS)
    best = set()
    for i, row in enumerate(comparison.rows):
        highest = max(row.scores.values())
        best |= {(i, 3 + j) for j, name in enumerate(methods) if row.scores.get(name) == highest}
    return Table(f"{title}, the best of a row is bold", header, rows, frozenset(best), words=WORDS)


def _score(row: Row, method: str) -> str:
    return number(row.scores[method]) if method in row.scores else DASH


def _over(comparison: Comparison) -> str:
    return f", means over {len(comparison.seeds)} seeds" if len(comparison.seeds) > 1 else ""


def difference_table(comparison: Comparison) -> Table:
    """Test scores minus those of EW, on the same samples and seeds."""
    methods = [name for name in comparison.methods if name != BASELINE]
    differences = [[row.differences.get(name) for name in methods] for row in comparison.rows]
    rows = tuple(
        (row.task, row.split, row.metric, *(_change(change, 3) for change in changes))
        for row, changes in zip(comparison.rows, differences, strict=True)
    )
    header = (*NAMES, *(f"{method_label(name)} {MINUS} EW" for name in methods))
    title = (
        f"Differences from EW on the same test samples{_over(comparison)}; bold: the 95 % interval"
        " excludes 0"
    )
    return Table(title, header, rows, _excluding_zero(differences, len(NAMES)), words=WORDS)


def change_table(comparison: Comparison) -> Table:
    """Relative change of every method against the reference: by task, improvement and error."""
    assert comparison.reference is not None
    against = comparison.against
    tasks = list(next(iter(against.values())).per_task)
    lines: list[tuple[str, Sequence[Interval | None]]] = [
        (task, [changes.per_task[task] for changes in against.values()]) for task in tasks
    ]
    averages = [changes.average for changes in against.values()]
    lines.append(("improvement: mean over tasks (Eq. 13)", averages))
    errors = [changes.error for changes in against.values()]
    lines.append(("error: mean of what tasks lost (Eq. 14)", errors))
    if comparison.paired:
        paired = [comparison.paired.get(name) for name in against]
        lines.append(("improvement minus that of EW, seed by seed", paired))
    # An error is never negative, so that its interval says nothing about 0.
    tested = [() if changes is errors else changes for _, changes in lines]
    return Table(
        f"Relative change against {method_label(comparison.reference)}, in % (Eq. 12)"
        f"{_over(comparison)}",
        ("task", *map(method_label, against)),
        tuple((name, *(_change(change, 2) for change in changes)) for name, changes in lines),
        _excluding_zero(tested, 1),
        footer=len(lines) - len(tasks),
    )


def _change(change: Interval | None, digits: int) -> str:
    return DASH if change is None else with_interval(change, digits, signed=True)


def _excluding_zero(
    rows: Sequence[Sequence[Interval | None]], first: int
) -> frozenset[tuple[int, int]]:
    """(row, column) of the changes whose interval excludes 0; `first` is the column of the
    first change.
    """
    cells = set()
    for i, changes in enumerate(rows):
        for j, change in enumerate(changes, first):
            if change is not None and change.excludes():
                cells.add((i, j))
    return frozenset(cells)


def seed_table(comparison: Comparison) -> Table:
    """Improvement of every method in every seed, its mean and deviation, and the same minus that of
    EW.
    """
    assert comparison.reference is not None
    by_seed = {name: np.array(values) for name, values in comparison.by_seed.items()}
    rows = [(method_label(name), *_by_seed(values)) for name, values in by_seed.items()]
    for name in comparison.paired:
        difference = by_seed[name] - by_seed[BASELINE]
        rows.append((f"{method_label(name)} {MINUS} EW", *_by_seed(difference)))
    seeds = [f"seed {seed}" for seed in comparison.seeds]
    title = (
        f"Improvement over {method_label(comparison.reference)} in every training seed, in %"
        " (Eq. 13)"
    )
    header = ("method", *seeds, "mean", "standard deviation")
    return Table(title, header, tuple(rows), footer=len(comparison.paired))


def _by_seed(values: np.ndarray) -> list[str]:
    shown = [number(float(value), 2, signed=True) for value in (*values, values.mean())]
    return [*shown, number(float(values.std(ddof=1)), 2)]


def cost_table(contents: Contents) -> Table:
    """Seconds, records, tokens and memory of every run, with totals of the probes and of the
    curve."""
    rows = [_cost(run) for run in contents.runs]
    totals = [
        _total(name, runs)
        for name, runs in (("all probes", contents.probes), ("whole curve", contents.curve))
        if len(runs) > 1
    ]
    header = (
        "run",
        "status",
        "seconds",
        "training",
        "generating",
        "records",
        "tokens",
        "share of final",
        "peak MiB",
    )
    return Table(
        "Cost of every run",
        header,
        (*rows, *totals),
        footer=len(totals),
        words=frozenset({1}),
    )


def _cost(run: RunContents) -> tuple[str, ...]:
    name = run.label
    if run.kind == "final":
        name = f"final: {run.label.replace(run.name, method_label(run.name), 1)}"
    seconds: Mapping[str, float] = run.outcome.get("seconds", {})
    times = [_seconds(seconds.get(key)) for key in ("total", "training", "generating")]
    records, tokens = count(_size(run, "records")), count(_size(run, "tokens"))
    memory = count(run.outcome.get("peak_memory_mib"))
    share = DASH if "share" not in run.planned else f"{run.planned['share']:.2f}"
    return (name, run.status, *times, records, tokens, share, memory)


def _total(name: str, runs: Sequence[RunContents]) -> tuple[str, ...]:
    seconds = [run.outcome.get("seconds", {}) for run in runs]
    times = [
        _seconds(float(np.sum([of_run.get(key, 0) for of_run in seconds])))
        for key in ("total", "training", "generating")
    ]
    records, tokens = (_sum(_size(run, key) for run in runs) for key in ("records", "tokens"))
    shares = [run.planned["share"] for run in runs if "share" in run.planned]
    share = f"{sum(shares):.2f}" if shares else DASH
    return (name, "", *times, records, tokens, share, "")


def _sum(sizes: Iterable[float | None]) -> str:
    return count(sum(size or 0 for size in sizes))


def _size(run: RunContents, key: str) -> float | None:
    """Records or tokens: those of the outcome, or the planned ones until the run is done."""
    value = run.outcome.get(key, run.planned.get(key))
    return None if value is None else float(value)


def _seconds(value: float | None) -> str:
    if value is None:
        return DASH
    return count(value) if value >= 100 else f"{value:.1f}"
