"""Tables of final models side by side, and of the cost of every run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cotbal.recipe.runs import UNTRAINED
from cotbal.report.comparison import BASELINE, Comparison, SeedNoise
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
    if comparison.only_evaluated and comparison.only_evaluated.against:
        tables.append(only_evaluated_table(comparison.only_evaluated))
    if comparison.seed_noise:
        tables.append(seed_noise_table(comparison))
    return tables


def variant_tables(contents: Contents, comparison: Comparison) -> list[Table]:
    """The weights, and the sampling ratios, that models were trained with, where there are several
    sets of weights, or ratios.
    """
    runs = {run.name: run for run in contents.finals}
    shown = [runs[name] for name in comparison.methods if name in runs]
    ratios = {run.name: run.sampled for run in shown if run.sampled}
    weights = {run.name: run.weights for run in shown if run.weights and not run.ratios}
    tables = []
    if len(weights) > 1:
        tables.append(_numbers_table("Weights that models were trained with", contents, weights))
    if ratios:
        title = "Sampling ratios that models were trained with"
        tables.append(_numbers_table(title, contents, ratios))
    return tables


def _numbers_table(
    title: str, contents: Contents, trained: Mapping[str, Mapping[str, float]]
) -> Table:
    """One number per trained task and method."""
    rows = []
    for task in contents.tasks:
        if task in contents.only_evaluated:
            continue
        numbers = [by_task.get(task, 1.0) for by_task in trained.values()]  # 1: not balanced
        rows.append((task, *map(number, numbers)))
    return Table(title, ("task", *map(method_label, trained)), tuple(rows))


def final_table(comparison: Comparison) -> Table:
    """Test scores of the models, means over seeds. The best is not marked: another seed may have
    another one.
    """
    rows = []
    for row in comparison.rows:
        cells = []
        for method in comparison.methods:
            score = row.scores.get(method)
            cells.append(DASH if score is None else number(score))
        rows.append((row.task, row.split, row.metric, *cells))
    title = f"Test scores{_over(comparison)}; higher is better"
    header = (*NAMES, *map(method_label, comparison.methods))
    return Table(title, header, tuple(rows), words=WORDS)


def _over(comparison: Comparison) -> str:
    """End of a title: how many seeds its numbers are means over; empty with one."""
    seeds = len(comparison.seeds)
    if seeds < 2:
        return ""
    return f", means over {seeds} seeds"


def difference_table(comparison: Comparison) -> Table:
    """Test scores minus those of EW, on the same samples and seeds."""
    methods = [name for name in comparison.methods if name != BASELINE]
    header = list(NAMES)
    for name in methods:
        header.append(_minus_baseline(name))
    rows = []
    differences: list[Interval] = []
    for row in comparison.rows:
        differences += row.differences.values()
        cells = []
        for name in methods:
            difference = row.differences.get(name)
            cells.append(_change(difference, digits=3))
        rows.append((row.task, row.split, row.metric, *cells))
    title = f"Differences from EW on the same test samples{_over(comparison)}"
    note = _note(comparison, differences)
    return Table(title, tuple(header), tuple(rows), words=WORDS, note=note)


def _minus_baseline(method: str) -> str:
    label = method_label(method)
    return f"{label} {MINUS} EW"


def _note(comparison: Comparison, changes: Iterable[Interval]) -> str:
    """What the brackets hold, and what is bold."""
    note = interval_note(changes)
    has_verdicts = len(comparison.seeds) > 1
    if note and has_verdicts:
        return f"{note} Bold: differs significantly from 0."
    return note


def change_table(comparison: Comparison) -> Table:
    """Relative change of every method against the reference: by task, improvement and error."""
    assert comparison.reference is not None
    against = list(comparison.against.values())
    tasks = list(against[0].per_task)
    rows = []
    for task in tasks:
        changes = [of_method.per_task[task] for of_method in against]
        rows.append((task, *map(_change, changes)))
    improvements = [of_method.average for of_method in against]
    rows.append(("improvement: mean over tasks (Eq. 13)", *map(_change, improvements)))
    errors = []
    for of_method in against:
        # Not bold: it is never negative, so that its interval says nothing about 0.
        errors.append(with_interval(of_method.error, digits=2, signed=True))
    rows.append(("error: mean of what tasks lost (Eq. 14)", *errors))
    if comparison.paired:
        paired = [comparison.paired.get(name) for name in comparison.against]
        rows.append(("improvement minus that of EW, seed by seed", *map(_change, paired)))
    reference = method_label(comparison.reference)
    title = f"Relative change against {reference}, in % (Eq. 12){_over(comparison)}"
    return Table(
        title,
        header=("task", *map(method_label, comparison.against)),
        rows=tuple(rows),
        footer=len(rows) - len(tasks),
        note=_note(comparison, improvements),
    )


def only_evaluated_table(comparison: Comparison) -> Table:
    """Relative change on every task that is only evaluated, beside the score of the reference."""
    assert comparison.reference is not None
    against = list(comparison.against.values())
    rows = []
    for task in against[0].per_task:
        scores = [r.scores[comparison.reference] for r in comparison.rows if r.task == task]
        score = float(np.mean(scores))
        changes = [of_method.per_task[task] for of_method in against]
        rows.append((task, number(score), *map(_change, changes)))
    reference = method_label(comparison.reference)
    title = (
        f"Tasks that are only evaluated: relative change against {reference}, in % (Eq. 12)"
        f"{_over(comparison)}"
    )
    header = ("task", f"score of {reference}", *map(method_label, comparison.against))
    intervals = [change for of_method in against for change in of_method.per_task.values()]
    return Table(title, header, tuple(rows), note=_note(comparison, intervals))


def _change(change: Interval | None, digits: int = 2) -> str:
    """Bold where it differs significantly from 0."""
    if change is None:
        return DASH
    text = with_interval(change, digits, signed=True)
    return Strong(text) if change.differs() else text


def noise_range(noise: SeedNoise) -> str:
    """Standard deviation of the mean over tasks: a number, or `low to high`."""
    low = number(noise.low, 1)
    high = number(noise.high, 1)
    if low == high:
        return low
    return f"{low} to {high}"


def seed_noise_table(comparison: Comparison) -> Table:
    """How much another training seed changes each task, beside a comparison with one seed."""
    noise = comparison.seed_noise
    assert noise is not None
    rows = []
    for task, deviation in noise.per_task.items():
        rows.append((task, number(deviation, 1)))
    rows.append(("mean over tasks", noise_range(noise)))
    title = "Difference of two trainings that differ in the seed alone, in %"
    note = f"From {noise.source}."
    if number(noise.low, 1) != number(noise.high, 1):
        note += " The mean is lower if tasks vary independently, higher if they vary together."
    if noise.left_out:
        tasks = listed(noise.left_out)
        reference = method_label(comparison.reference or "")
        note += f" Without {tasks}, where {reference} did not score above 0."
    header = ("task", "standard deviation")
    return Table(title, header, tuple(rows), footer=1, note=note)


def seed_table(comparison: Comparison) -> Table:
    """Improvement of every method in every seed, its mean and deviation, and the same minus that of
    EW.
    """
    assert comparison.reference is not None
    rows = []
    by_seed = {}
    for name, improvements in comparison.by_seed.items():
        values = np.array(improvements)
        by_seed[name] = values
        rows.append((method_label(name), *_by_seed(values)))
    for name in comparison.paired:
        difference = by_seed[name] - by_seed[BASELINE]
        rows.append((_minus_baseline(name), *_by_seed(difference)))
    seeds = [f"seed {seed}" for seed in comparison.seeds]
    reference = method_label(comparison.reference)
    title = f"Improvement over {reference} in every training seed, in % (Eq. 13)"
    header = ("method", *seeds, "mean", "standard deviation")
    return Table(title, header, tuple(rows), footer=len(comparison.paired))


def _by_seed(values: np.ndarray) -> list[str]:
    """Cells of a row: the values, their mean and their standard deviation."""
    mean = values.mean()
    deviation = float(values.std(ddof=1))
    cells = []
    for value in (*values, mean):
        cells.append(number(float(value), 2, signed=True))
    cells.append(number(deviation, 2))
    return cells


def cost_table(contents: Contents) -> Table:
    """Seconds, records, tokens and memory of every run, with totals of the probes, of the
    curve and of the trials."""
    rows = [_cost(run) for run in contents.runs]
    totals = []
    if len(contents.probes) > 1:
        totals.append(_total("all probes", contents.probes))
    if len(contents.curve) > 1:
        totals.append(_total("whole curve", contents.curve))
    if len(contents.trials) > 1:
        totals.append(_total("all trials", contents.trials))
    sizes = ("records", "tokens", "share of final", "peak MiB")
    return Table(
        "Cost of every run",
        header=("run", "status", "seconds", "training", "generating", *sizes),
        rows=(*rows, *totals),
        footer=len(totals),
        words=frozenset({1}),
    )


def _cost(run: RunContents) -> tuple[str, ...]:
    name = run.label
    if run.kind == "final" and run.name != UNTRAINED:
        method = method_label(run.name)
        label = run.label.replace(run.name, method, 1)
        name = f"final: {label}"
    seconds: Mapping[str, float] = run.outcome.get("seconds", {})
    times = [_seconds(seconds.get(key)) for key in TIMES]
    records = count(_size(run, "records"))
    tokens = count(_size(run, "tokens"))
    share = _share([run])
    memory = count(run.outcome.get("peak_memory_mib"))
    return (name, run.status, *times, records, tokens, share, memory)


def _total(name: str, runs: Sequence[RunContents]) -> tuple[str, ...]:
    times = []
    for key in TIMES:
        total = _total_time(runs, key)
        times.append(_seconds(total))
    records = sum(_size(run, "records") or 0 for run in runs)
    tokens = sum(_size(run, "tokens") or 0 for run in runs)
    return (name, "", *times, count(records), count(tokens), _share(runs), "")


def _share(runs: Sequence[RunContents]) -> str:
    """Share of the final training that these runs planned, or a dash where none did."""
    shares = [run.planned["share"] for run in runs if "share" in run.planned]
    if not shares:
        return DASH
    total = sum(shares)
    return f"{total:.2f}"


def _total_time(runs: Sequence[RunContents], key: str) -> float:
    total = 0.0
    for run in runs:
        seconds = run.outcome.get("seconds", {})
        total += float(seconds.get(key, 0))
    return total


def _size(run: RunContents, key: str) -> float | None:
    """Records or tokens: those of the outcome, or the planned ones until the run is done."""
    planned = run.planned.get(key)
    value = run.outcome.get(key, planned)
    return None if value is None else float(value)


def _seconds(value: float | None) -> str:
    if value is None:
        return DASH
    if value >= 100:
        return count(value)
    return f"{value:.1f}"
