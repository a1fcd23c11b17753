"""The tables of a report, written once: the page and the Markdown show the same cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cotbal.balance import Balance
from cotbal.balance.forms import form_of, rows_of
from cotbal.report.comparison import BASELINE, Comparison, Row
from cotbal.report.contents import Contents, RunContents, TaskScores
from cotbal.report.formatting import MINUS, count, number, with_interval
from cotbal.weightings import method_label

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
        (unit, number(balance.weights[unit]), _bounds(balance, unit), verdict(balance, unit))
        for unit in balance.units
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
    return (
        f"distinguishable from 1: its tokens count {'more' if weight > 1 else 'less'} than the"
        " average"
    )


def parts_table(balance: Balance) -> Table:
    """The parts that the weights are made of."""
    names = ("outward", "inward", "inter", "intra", "all")
    rows = tuple(
        (
            unit,
            *(
                with_interval(balance.parts[name][i], _pair(balance.part_intervals, name, i))
                for name in names
            ),
        )
        for i, unit in enumerate(balance.units)
    )
    header = (
        "unit",
        "outward (Eq. 5)",
        "inward (Eq. 7)",
        "inter (Eq. 8)",
        "intra (Eq. 10)",
        "all (Eq. 11)",
    )
    return Table(
        "Parts of the weights", header, rows, strong=frozenset((i, 5) for i in range(len(rows)))
    )


def measures_table(balance: Balance) -> Table:
    """The three numbers a unit that the parts are computed from."""
    names = ("outward", "inward", "difficulty")
    rows = tuple(
        (
            unit,
            *(
                with_interval(vars(balance)[name][i], _pair(balance.intervals, name, i))
                for name in names
            ),
        )
        for i, unit in enumerate(balance.units)
    )
    header = (
        "unit",
        "outward contribution (Eq. 4)",
        "inward contribution (Eq. 6)",
        "difficulty (Eq. 9)",
    )
    return Table("What was measured", header, rows)


def contribution_table(balance: Balance) -> Table:
    """Contribution, giver by receiver."""
    bounds = None if balance.intervals is None else balance.intervals["contribution"]
    rows = tuple(
        (
            giver,
            *(
                with_interval(c, None if bounds is None else tuple(bounds[i, j]))
                for j, c in enumerate(row)
            ),
        )
        for i, (giver, row) in enumerate(zip(balance.units, balance.contribution, strict=True))
    )
    return Table(
        "Contribution of a giver (row) to a receiver (column), Eq. 3",
        ("giver", *balance.units),
        rows,
    )


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
    values = zip(runs, contents.matrix.values, strict=True)
    rows = [(run, *(DASH if np.isnan(v) else number(v) for v in row)) for run, row in values]
    giver = rows_of(form_of(runs), "real").giver
    own_run = [giver(contents.unit_of(task)) for task in tasks]
    own = {(i, j + 1) for i, run in enumerate(runs) for j in range(len(tasks)) if run == own_run[j]}
    known = {
        task: s for task, s in _validation(contents).items() if contents.metric_of(s) in s.metrics
    }
    if known:
        metrics = {
            task: scores.metrics[contents.metric_of(scores)] for task, scores in known.items()
        }
        constants = {task: metric.constant for task, metric in metrics.items()}
        rows += [
            (
                "best constant answer",
                *(DASH if constants.get(t) is None else number(constants[t]) for t in tasks),
            ),
            ("maximum", *(f"{metrics[t].maximum:g}" if t in metrics else DASH for t in tasks)),
            ("metric", *(contents.metric_of(known[t]) if t in known else DASH for t in tasks)),
            ("samples", *(count(len(known[t].clusters)) if t in known else DASH for t in tasks)),
        ]
    return Table(
        "Score matrix: run (row) by task (column), on the validation sets; higher is better",
        ("run", *tasks),
        tuple(rows),
        frozenset(own),
        footer=len(rows) - len(runs),
    )


def _validation(contents: Contents) -> dict[str, TaskScores]:
    scores = [found for run in contents.probes for found in run.scores.values()]
    return {found.task: found for found in scores if found.split == "validation"}


def model_tables(found: Comparison) -> list[Table]:
    """Everything about the models, side by side."""
    shown = [final_table(found)] if found.rows else []
    if any(row.differences for row in found.rows):
        shown.append(difference_table(found))
    if len(found.seeds) > 1 and found.against:
        shown.append(seed_table(found))
    return shown + ([change_table(found)] if found.against else [])


def variant_tables(contents: Contents, found: Comparison) -> list[Table]:
    """The weights that the models of an ablation were trained with; none where there is one set of
    weights at most.
    """
    trained = {run.name: run.weights for run in contents.finals if run.weights}
    shown = [name for name in found.methods if name in trained]
    rows = tuple(
        (task, *(number(trained[name][task]) for name in shown)) for task in contents.tasks
    )
    title = "Weights that models were trained with"
    return [Table(title, ("task", *map(method_label, shown)), rows)] if len(shown) > 1 else []


def final_table(found: Comparison) -> Table:
    """Test scores of the models, means over seeds."""
    header = ("task", "split", "metric", *map(method_label, found.methods))
    rows = tuple(
        (*_place(row), *(_score(row, name) for name in found.methods)) for row in found.rows
    )
    several = len(found.methods) > 2  # of two, the differences say more
    best = (
        {(i, 3 + j) for i, row in enumerate(found.rows) for j in _best(row, found.methods)}
        if several
        else set()
    )
    return Table(
        f"Test scores{_over(found)}; higher is"
        f" better{', the best of a row is bold' if several else ''}",
        header,
        rows,
        frozenset(best),
        words=frozenset({1, 2}),
    )


def _place(row: Row) -> tuple[str, str, str]:
    return row.task, row.split, row.metric


def _score(row: Row, method: str) -> str:
    return number(row.scores[method]) if method in row.scores else DASH


def _best(row: Row, methods: tuple[str, ...]) -> list[int]:
    highest = max(row.scores.values())
    return [j for j, name in enumerate(methods) if row.scores.get(name) == highest]


def _over(found: Comparison) -> str:
    return f", means over {len(found.seeds)} seeds" if len(found.seeds) > 1 else ""


def difference_table(found: Comparison) -> Table:
    """Test scores minus those of EW, on the same samples and seeds."""
    methods = [name for name in found.methods if name != BASELINE]
    rows, strong = [], set()
    for i, row in enumerate(found.rows):
        differences = [row.differences.get(name) for name in methods]
        cells = (
            DASH if d is None else with_interval(d.value, d.bounds, signed=True)
            for d in differences
        )
        rows.append((*_place(row), *cells))
        strong |= {(i, 3 + j) for j, d in enumerate(differences) if d and d.clear}
    header = ("task", "split", "metric", *(f"{method_label(name)} {MINUS} EW" for name in methods))
    title = (
        f"Differences from EW on the same test samples{_over(found)}; bold: the 95 % interval"
        " leaves out 0"
    )
    return Table(title, header, tuple(rows), frozenset(strong), words=frozenset({1, 2}))


def change_table(found: Comparison) -> Table:
    """Relative change of every method against the reference, and what follows from it."""
    assert found.reference is not None
    methods = list(found.against)
    tasks = list(next(iter(found.against.values())).per_task)
    lines = [(task, [found.against[name].per_task[task] for name in methods]) for task in tasks]
    lines.append(
        ("improvement: mean over tasks (Eq. 13)", [found.against[name].average for name in methods])
    )
    lines.append(
        ("error: mean of what tasks lost (Eq. 14)", [found.against[name].error for name in methods])
    )
    rows = [
        (name, *(with_interval(d.value, d.bounds, 2, True) for d in cells)) for name, cells in lines
    ]
    strong = {
        (i, 1 + j)
        for i, (_, cells) in enumerate(lines[:-1])
        for j, d in enumerate(cells)
        if d.clear
    }
    if found.paired:
        pairs = [found.paired.get(name) for name in methods]
        cells = [DASH if d is None else with_interval(d.value, d.bounds, 2, True) for d in pairs]
        strong |= {(len(rows), 1 + j) for j, d in enumerate(pairs) if d and d.clear}
        rows.append(("improvement minus that of EW, seed by seed", *cells))
    title = f"Relative change against {method_label(found.reference)}, in % (Eq. 12){_over(found)}"
    return Table(
        title,
        ("task", *map(method_label, methods)),
        tuple(rows),
        frozenset(strong),
        footer=len(rows) - len(tasks),
    )


def seed_table(found: Comparison) -> Table:
    """Improvement of every method in every seed, its mean and deviation, and what it is above or
    below EW.
    """
    assert found.reference is not None
    lines = [(method_label(name), np.array(values)) for name, values in found.by_seed.items()]
    lines += [
        (
            f"{method_label(name)} {MINUS} EW",
            np.array(found.by_seed[name]) - found.by_seed[BASELINE],
        )
        for name in found.paired
    ]
    rows = tuple((name, *_by_seed(values)) for name, values in lines)
    header = ("method", *(f"seed {seed}" for seed in found.seeds), "mean", "standard deviation")
    title = (
        f"Improvement over {method_label(found.reference)} in every training seed, in % (Eq. 13)"
    )
    return Table(title, header, rows, footer=len(found.paired))


def _by_seed(values: np.ndarray) -> list[str]:
    shown = [number(float(value), 2, signed=True) for value in (*values, values.mean())]
    return [*shown, number(float(values.std(ddof=1)), 2)]


def cost_table(contents: Contents) -> Table:
    """Seconds, records, tokens and memory of every run, with totals of the probes and of the
    curve."""
    rows = [_cost(run) for run in contents.runs]
    totals = [
        _totals(name, runs)
        for name, runs in (("all probes", contents.probes), ("all amounts", contents.curve))
    ]
    rows += filter(None, totals)
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
        tuple(rows),
        footer=len(rows) - len(contents.runs),
        words=frozenset({1}),
    )


def _totals(name: str, runs: tuple[RunContents, ...]) -> tuple[str, ...]:
    """What runs of one kind cost together; nothing where there are not several."""
    if len(runs) < 2:
        return ()
    sums = [_total(runs, key) for key in ("total", "training", "generating")]
    shares = [run.planned["share"] for run in runs if "share" in run.planned]
    share = f"{sum(shares):.2f}" if shares else DASH
    records, tokens = (
        sum(_planned(run, key) or 0 for run in runs) for key in ("records", "tokens")
    )
    return name, "", *map(_seconds, sums), count(records), count(tokens), share, ""


def _cost(run: RunContents) -> tuple[str, ...]:
    seconds, memory = run.outcome.get("seconds", {}), run.outcome.get("peak_memory_mib")
    share = run.planned.get("share")
    return (
        (
            f"final: {run.label.replace(run.name, method_label(run.name), 1)}"
            if run.kind == "final"
            else run.label
        ),
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
