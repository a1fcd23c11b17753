"""The tables of a report, written once: the page and the Markdown show the same cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cotbal.balance import Balance
from cotbal.report.comparison import BASELINE, LABELS, OURS, Comparison, Row
from cotbal.report.contents import Contents, RunContents, TaskScores
from cotbal.report.formatting import count, number, with_interval
from cotbal.runs import full_run

DASH = "\N{EN DASH}"


@dataclass(frozen=True)
class Table:
    """Cells as texts.

    Attributes:
        title: what the table shows, with equation numbers.
        header: of every column; the first column names the rows.
        rows: the cells.
        strong: (row, column) of cells that stand out.
        footer: how many of the last rows are not data of the same kind.
        words: columns that hold words rather than numbers.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    strong: frozenset[tuple[int, int]] = frozenset()
    footer: int = 0
    words: frozenset[int] = frozenset()


def weights_table(balance: Balance) -> Table:
    """Weights and what can be said about them."""
    rows = tuple(
        (unit, number(balance.weights[unit]), _bounds(balance, unit), verdict(balance, unit)) for unit in balance.units
    )
    title = f"Weights, Eq. 11 (mean 1), at temperature {balance.temperature:.3g}"
    return Table(title, ("unit", "weight", "95 % interval", "in words"), rows, words=frozenset({3}))


def _bounds(balance: Balance, unit: str) -> str:
    bounds = balance.weight_interval(unit)
    return DASH if bounds is None else f"[{number(bounds[0])}, {number(bounds[1])}]"


def verdict(balance: Balance, unit: str) -> str:
    """What the weight of `unit` means, in words."""
    weight, clear = balance.weights[unit], balance.distinguishable(unit)
    if clear is None:
        return "no interval, because the table of scores holds no samples"
    if not clear:
        return "not distinguishable from 1"
    return f"distinguishable from 1: its tokens count {'more' if weight > 1 else 'less'} than the average"


def parts_table(balance: Balance) -> Table:
    """The parts that the weights are made of."""
    names = ("outward", "inward", "inter", "intra", "all")
    rows = tuple(
        (unit, *(with_interval(balance.parts[name][i], _pair(balance.part_intervals, name, i)) for name in names))
        for i, unit in enumerate(balance.units)
    )
    header = ("unit", "outward (Eq. 5)", "inward (Eq. 7)", "inter (Eq. 8)", "intra (Eq. 10)", "all (Eq. 11)")
    return Table("Parts of the weights", header, rows, strong=frozenset((i, 5) for i in range(len(rows))))


def measures_table(balance: Balance) -> Table:
    """The three numbers a unit that the parts are computed from."""
    names = ("outward", "inward", "difficulty")
    rows = tuple(
        (unit, *(with_interval(vars(balance)[name][i], _pair(balance.intervals, name, i)) for name in names))
        for i, unit in enumerate(balance.units)
    )
    header = ("unit", "outward contribution (Eq. 4)", "inward contribution (Eq. 6)", "difficulty (Eq. 9)")
    return Table("What was measured", header, rows)


def contribution_table(balance: Balance) -> Table:
    """Contribution, giver by receiver."""
    bounds = None if balance.intervals is None else balance.intervals["contribution"]
    rows = tuple(
        (giver, *(with_interval(c, None if bounds is None else tuple(bounds[i, j])) for j, c in enumerate(row)))
        for i, (giver, row) in enumerate(zip(balance.units, balance.contribution, strict=True))
    )
    return Table("Contribution of a giver (row) to a receiver (column), Eq. 3", ("giver", *balance.units), rows)


def _pair(intervals: object, name: str, index: int) -> tuple[float, float] | None:
    if intervals is None:
        return None
    assert isinstance(intervals, dict)
    low, high = intervals[name][index]
    return float(low), float(high)


def scores_table(contents: Contents) -> Table:
    """The score matrix, with what the metrics can give at most and what a constant answer gets."""
    assert contents.matrix is not None
    tasks, runs = contents.matrix.tasks, contents.matrix.runs
    rows = [(run, *(number(v) for v in row)) for run, row in zip(runs, contents.matrix.values, strict=True)]
    own_run = [full_run(contents.unit_of(task)) for task in tasks]
    own = {(i, j + 1) for i, run in enumerate(runs) for j in range(len(tasks)) if run == own_run[j]}
    known = _validation(contents)
    if known:
        metrics = {task: scores.metrics[contents.metric_of(scores)] for task, scores in known.items()}
        constants = {task: metric.constant for task, metric in metrics.items()}
        rows += [
            ("best constant answer", *(DASH if constants.get(t) is None else number(constants[t]) for t in tasks)),
            ("maximum", *(f"{metrics[t].maximum:g}" if t in metrics else DASH for t in tasks)),
            ("metric", *(contents.metric_of(known[t]) if t in known else DASH for t in tasks)),
            ("samples", *(count(len(known[t].clusters)) if t in known else DASH for t in tasks)),
        ]
    return Table(
        "Score matrix: run (row) by task (column), on the validation sets; higher is better",
        ("run", *tasks), tuple(rows), frozenset(own), footer=len(rows) - len(runs),
    )  # fmt: skip


def _validation(contents: Contents) -> dict[str, TaskScores]:
    scores = [found for run in contents.probes for found in run.scores.values()]
    return {found.task: found for found in scores if found.split == "validation"}


def final_table(found: Comparison) -> Table:
    """Test scores of the final models."""
    both = {BASELINE, OURS} <= set(found.weightings)
    header = ("task", "split", "metric", *(LABELS.get(name, name) for name in found.weightings))
    rows = tuple(
        (row.task, row.split, row.metric, *(number(row.scores.get(name)) for name in found.weightings))
        + ((_difference(row),) if both else ())
        for row in found.rows
    )
    column = len(header)
    strong = {(i, column) for i, row in enumerate(found.rows) if both and row.difference and row.difference.clear}
    return Table(
        "Final models on the test sets; higher is better",
        (*header, "CoTBal \N{MINUS SIGN} EW") if both else header, rows, frozenset(strong), words=frozenset({1, 2}),
    )  # fmt: skip


def _difference(row: Row) -> str:
    return DASH if row.difference is None else with_interval(row.difference.value, row.difference.bounds, signed=True)


def change_table(found: Comparison) -> Table:
    """Relative change of CoTBal against EW."""
    rows = [(task, with_interval(d.value, d.bounds, 2, True)) for task, d in found.per_task.items()]
    if found.average is not None and found.error is not None:
        rows.append(("mean over tasks (Eq. 13)", with_interval(found.average.value, found.average.bounds, 2, True)))
        rows.append(("error: mean of what tasks lost (Eq. 14)", number(found.error, 2)))
    return Table("Relative change of CoTBal against EW, in % (Eq. 12)", ("task", "change"), tuple(rows), footer=2)


def cost_table(contents: Contents) -> Table:
    """Seconds, records, tokens and memory of every run, with a total of the probes."""
    rows = [_cost(run) for run in contents.runs]
    probes = contents.probes
    if len(probes) > 1:
        sums = [_total(probes, key) for key in ("total", "training", "generating")]
        shares = [run.planned["share"] for run in probes if "share" in run.planned]
        share = f"{sum(shares):.2f}" if shares else DASH
        records, tokens = (sum(_planned(run, key) or 0 for run in probes) for key in ("records", "tokens"))
        rows.append(("all probes", "", *map(_seconds, sums), count(records), count(tokens), share, ""))
    header = ("run", "status", "seconds", "training", "generating", "records", "tokens", "share of final", "peak MiB")
    footer = int(len(probes) > 1)
    return Table("Cost of every run", header, tuple(rows), footer=footer, words=frozenset({1}))


def _cost(run: RunContents) -> tuple[str, ...]:
    seconds, memory = run.outcome.get("seconds", {}), run.outcome.get("peak_memory_mib")
    share = run.planned.get("share")
    return (
        run.name if run.kind == "probe" else f"final: {LABELS.get(run.name, run.name)}",
        run.status,
        *(_seconds(seconds.get(key)) for key in ("total", "training", "generating")),
        count(_planned(run, "records")),
        count(_planned(run, "tokens")),
        DASH if share is None else f"{share:.2f}",
        count(memory),
    )


def _planned(run: RunContents, key: str) -> float | None:
    """What the run really saw, or what was planned until it is done."""
    value = run.outcome.get(key, run.planned.get(key))
    return None if value is None else float(value)


def _total(runs: tuple[RunContents, ...], key: str) -> float:
    return float(np.sum([run.outcome.get("seconds", {}).get(key, 0) for run in runs]))


def _seconds(value: float | None) -> str:
    return DASH if value is None else count(value) if value >= 100 else f"{value:.1f}"
