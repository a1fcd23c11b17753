"""Tables of final models side by side, and of the cost of every run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cotbal.report.comparison import BASELINE, Comparison
from cotbal.report.contents import Contents, RunContents
from cotbal.report.formatting import DASH, MINUS, count, listed, number, with_interval
from cotbal.report.tables import Strong, Table, interval_note
from cotbal.scores.interval import Interval
from cotbal.weightings import method_label

NAMES = ("task", "split", "metric")  # first columns of a table of test scores
WORDS = frozenset({1, 2})
TIMES = ("total", "training", "generating")


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
    if comparison.seed_noise:
        tables.append(seed_noise_table(comparison))
    return tables


def variant_tables(contents: Contents, comparison: Comparison) -> list[Table]:
    """The weights that the models of an ablation were trained with; none where there is one set of
    weights at most.
    """
    trained = {run.name: run.weights for run in contents.finals if run.weights}
    shown = [name for name in comparison.methods if name in trained]
    if len(shown) < 2:
        return []
    rows = []
    for task in contents.tasks:
        rows.append((task, *(number(trained[name][task]) for name in shown)))
    header = ("task", *map(method_label, shown))
    return [Table("Weights that models were trained with", header, tuple(rows))]


def final_table(comparison: Comparison) -> Table:
    """Test scores of the models, means over seeds. The best is not marked: another seed may have
    another one.
    """
    methods = comparison.methods
    rows = []
    for row in comparison.rows:
        scores = [number(row.scores[m]) if m in row.scores else DASH for m in methods]
        rows.append((row.task, row.split, row.metric, *scores))
    title = f"Test scores{_over(comparison)}; higher is better"
    return Table(title, (*NAMES, *map(method_label, methods)), tuple(rows), words=WORDS)


def _over(comparison: Comparison) -> str:
    return f", means over {len(comparison.seeds)} seeds" if len(comparison.seeds) > 1 else ""


def difference_table(comparison: Comparison) -> Table:
    """Test scores minus those of EW, on the same samples and seeds."""
    methods = [name for name in comparison.methods if name != BASELINE]
    rows = []
    for row in comparison.rows:
        changes = [_change(row.differences.get(name), 3) for name in methods]
        rows.append((row.task, row.split, row.metric, *changes))
    header = (*NAMES, *(f"{method_label(name)} {MINUS} EW" for name in methods))
    title = f"Differences from EW on the same test samples{_over(comparison)}"
    note = _note(comparison, [d for row in comparison.rows for d in row.differences.values()])
    return Table(title, header, tuple(rows), words=WORDS, note=note)


def _note(comparison: Comparison, changes: Iterable[Interval]) -> str:
    """What the brackets hold, and what is bold."""
    note = interval_note(changes)
    has_verdicts = len(comparison.seeds) > 1
    return f"{note} Bold: differs significantly from 0." if note and has_verdicts else note


def change_table(comparison: Comparison) -> Table:
    """Relative change of every method against the reference: by task, improvement and error."""
    assert comparison.reference is not None
    against = comparison.against.values()
    rows = []
    tasks = list(next(iter(against)).per_task)
    for task in tasks:
        rows.append((task, *(_change(changes.per_task[task]) for changes in against)))
    averages = (_change(changes.average) for changes in against)
    rows.append(("improvement: mean over tasks (Eq. 13)", *averages))
    # Never negative, so that its interval says nothing about 0.
    errors = (with_interval(changes.error, 2, signed=True) for changes in against)
    rows.append(("error: mean of what tasks lost (Eq. 14)", *errors))
    if comparison.paired:
        paired = (_change(comparison.paired.get(name)) for name in comparison.against)
        rows.append(("improvement minus that of EW, seed by seed", *paired))
    title = f"Relative change against {method_label(comparison.reference)}, in % (Eq. 12)"
    header = ["task", *map(method_label, comparison.against)]
    return Table(
        title + _over(comparison),
        tuple(header),
        tuple(rows),
        footer=len(rows) - len(tasks),
        note=_note(comparison, [changes.average for changes in against]),
    )


def _change(change: Interval | None, digits: int = 2) -> str:
    """Bold where it differs significantly from 0."""
    if change is None:
        return DASH
    text = with_interval(change, digits, signed=True)
    return Strong(text) if change.differs() else text


def seed_noise_table(comparison: Comparison) -> Table:
    """How much another training seed changes each task, beside a comparison with one seed."""
    noise = comparison.seed_noise
    assert noise is not None
    rows = [(task, number(value, 1)) for task, value in noise.per_task.items()]
    low, high = number(noise.low, 1), number(noise.high, 1)
    rows.append(("mean over tasks", low if low == high else f"{low} to {high}"))
    title = "Difference of two trainings that differ in the seed alone, in %"
    note = f"From {noise.source}."
    if low != high:
        note += " The mean: if tasks vary independently, and if they vary together."
    if noise.left_out:
        reference = method_label(comparison.reference or "")
        note += f" Without {listed(noise.left_out)}, where {reference} did not score above 0."
    header = ("task", "standard deviation")
    return Table(title, header, tuple(rows), footer=1, note=note)


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
    sizes = ("records", "tokens", "share of final", "peak MiB")
    header = ("run", "status", "seconds", "training", "generating", *sizes)
    cells = (*rows, *totals)
    return Table("Cost of every run", header, cells, footer=len(totals), words=frozenset({1}))


def _cost(run: RunContents) -> tuple[str, ...]:
    name = run.label
    if run.kind == "final":
        name = f"final: {run.label.replace(run.name, method_label(run.name), 1)}"
    seconds: Mapping[str, float] = run.outcome.get("seconds", {})
    times = [_seconds(seconds.get(key)) for key in TIMES]
    records, tokens = count(_size(run, "records")), count(_size(run, "tokens"))
    memory = count(run.outcome.get("peak_memory_mib"))
    share = DASH if "share" not in run.planned else f"{run.planned['share']:.2f}"
    return (name, run.status, *times, records, tokens, share, memory)


def _total(name: str, runs: Sequence[RunContents]) -> tuple[str, ...]:
    times = [_seconds(_total_time(runs, key)) for key in TIMES]
    records = sum(_size(run, "records") or 0 for run in runs)
    tokens = sum(_size(run, "tokens") or 0 for run in runs)
    shares = [run.planned["share"] for run in runs if "share" in run.planned]
    share = f"{sum(shares):.2f}" if shares else DASH
    return (name, "", *times, count(records), count(tokens), share, "")


def _total_time(runs: Sequence[RunContents], key: str) -> float:
    return sum(float(run.outcome.get("seconds", {}).get(key, 0)) for run in runs)


def _size(run: RunContents, key: str) -> float | None:
    """Records or tokens: those of the outcome, or the planned ones until the run is done."""
    value = run.outcome.get(key, run.planned.get(key))
    return None if value is None else float(value)


def _seconds(value: float | None) -> str:
    if value is None:
        return DASH
    return count(value) if value >= 100 else f"{value:.1f}"
