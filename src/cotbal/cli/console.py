"""What the verbs print for a person: plain tables, one a verb."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cotbal.balance import Balance
from cotbal.balance.agreement import Agreement
from cotbal.balance.improvement import Overall
from cotbal.benchmarks.releases.writing import Expected, SplitSummary
from cotbal.data.checks.check import CheckReport, condensed
from cotbal.data.files import read_json
from cotbal.jobs.display import duration
from cotbal.jobs.forecast import Forecast
from cotbal.jobs.mini import MiniAdvice
from cotbal.jobs.plan import Plan
from cotbal.jobs.rescoring import Rescoring
from cotbal.jobs.status import State
from cotbal.recipe.mixture import Mixture
from cotbal.report import curve_views
from cotbal.report.comparison import Comparison
from cotbal.report.curves import DataCurves
from cotbal.report.flags import flag_table
from cotbal.report.formatting import with_interval
from cotbal.report.summary import seed_notes
from cotbal.report.tables import LEARN_FROM_PROBES
from cotbal.report.tables import Table as Content
from cotbal.scores.interval import SAMPLING_ONLY, Interval, hold_training, interval_name
from cotbal.scores.results import Results
from cotbal.training.run_paths import RunPaths
from cotbal.weightings import method_label

if TYPE_CHECKING:
    from cotbal.benchmarks.judge.budget import Prices, Tokens
    from cotbal.benchmarks.judge.command import Judging
    from cotbal.benchmarks.judge.result import Judged

out = Console(highlight=False)
if not out.is_terminal:  # a file or pipe has no width; do not cut columns to 80
    out = Console(highlight=False, width=160)


def _table(*columns: str, title: str | None = None) -> Table:
    """A table whose first column is a name; others are numbers, and remarks where the header is
    empty.
    """
    table = Table(
        box=None, padding=(0, 2, 0, 0), title=title, title_justify="left", title_style="bold"
    )
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i and column else "left", no_wrap=i == 0)
    return table


def _show(table: Table) -> None:
    """Print a table. Where the terminal is narrow words wrap, and no name or number is cut short:
    lines run over.
    """
    for column in table.columns:
        cells = [Text.from_markup(str(cell)).plain for cell in (column.header, *column.cells)]
        pieces = cells if column.no_wrap else " ".join(cells).split()
        column.min_width = max(map(cell_len, pieces), default=0)
    needed = sum((column.min_width or 0) + 2 for column in table.columns)
    table.width = needed if needed > out.width else None
    out.print(table, crop=False)


def _show_content(content: Content) -> None:
    """A table of the report."""
    table = _table(*content.header)
    for j in content.words:
        table.columns[j].justify = "left"
    for row in content.rows:
        table.add_row(*map(escape, row))
    out.print(f"[bold]{escape(content.title)}[/]", soft_wrap=True)  # wider than a table may be
    _show(table)
    out.print()


def show_prepared(splits: Sequence[SplitSummary]) -> None:
    """What every split of a prepared benchmark holds, what it should hold, and every difference."""
    table = _table("split", "form", "records", "turns", "images", "missing", "dropped", "expected")
    for s in splits:
        expected = "-" if s.expected.records is None else f"{s.expected.records:,}"
        numbers = (f"{count:,}" for count in (s.records, s.turns, s.present, s.missing, s.dropped))
        table.add_row(f"{escape(s.task)} {s.split}", s.form, *numbers, expected)
    _show(table)
    for s in splits:
        if s.differences:
            change = ", ".join(f"{value:+,} {what}" for what, value in s.differences.items())
            out.print(
                f"[yellow]differs[/]  {escape(s.task)} {s.split}: {change} than expected",
                soft_wrap=True,
            )
    if any(s.expected != Expected() for s in splits):  # of data of the user's own nothing is
        total, right = len(splits), sum(not s.differences for s in splits)
        out.print(
            f"\n{right} of {total} splits hold what is expected of them, as far as that is known"
        )


def show_check(found: CheckReport) -> None:
    """Sizes of every split, then warnings and errors; of many of one kind the first few."""
    counts = ["records", "turns", "images", "missing", "broken", "rejected", "dropped"]
    counts += ["valid_tokens", "trained_tokens", "mini"]
    table = _table("task", "split", *(name.replace("_", " ") for name in counts))
    for s in found.tasks:
        cells = [getattr(s, name) for name in counts]
        table.add_row(
            escape(s.task), s.split, *("-" if cell is None else str(cell) for cell in cells)
        )
    _show(table)
    for warning in condensed(found.warnings):
        out.print(f"[yellow]warning[/]  {escape(warning)}", soft_wrap=True)
    for problem in condensed([str(problem) for problem in found.problems]):
        out.print(f"[red]error[/]  {escape(problem)}", soft_wrap=True)
    verdict = f"{len(found.problems)} errors" if found.problems else "no errors"
    out.print(f"\n{verdict}, {len(found.warnings)} warnings")


def show_plan(plan: Plan, warnings: Sequence[str]) -> None:
    """Every run with its cost."""
    table = _table("run", "kind", "records", "valid tokens", "answers", "share of final", "time")
    for p in plan.runs:
        tokens = "-" if p.tokens is None else f"{p.tokens:.0f}"
        time = "-" if p.seconds is None else duration(p.seconds)
        kind = f"final {method_label(p.run.name)}" if p.kind == "final" else p.kind
        table.add_row(
            escape(p.label), kind, str(p.records), tokens, str(p.answers), f"{p.share:.3f}", time
        )
    _show(table)
    out.print(f"\n{plan.sentence()}")
    for warning in warnings:
        out.print(f"[yellow]warning[/]  {escape(warning)}", soft_wrap=True)


def show_forecast(found: Forecast, on: str) -> None:
    """Time from the first start to the last end, and GPU-hours."""
    if found.timed:
        times = [duration(seconds) for seconds in (found.makespan, found.bound)]
        work = f"{found.gpu_time / 3600:.1f} GPU-hours"
    else:
        times = [f"{share:.2f} x one final run" for share in (found.makespan, found.bound)]
        work = f"{found.gpu_time:.2f} in GPU-time of final runs (nothing was timed here yet)"
    out.print(
        f"{found.runs} runs on {found.gpus} GPUs ({on}): {times[0]}, {work}; no order of them ends"
        f" before {times[1]}. Waiting in a queue is not counted."
    )


def show_mini(advice: MiniAdvice) -> None:
    """The elbow of every loss curve, and the mini that holds all of them."""
    if advice.rate is None:
        out.print(
            "\nNo loss bends so far: let the training with equal weights continue, or log more"
            " often."
        )
        return
    table = _table("task", "loss bends at", "records in the mini", title="\nSuggested mini")
    for task, records in advice.records.items():
        at = f"{advice.elbows[task]:.3f} of its data" if task in advice.elbows else "no elbow"
        table.add_row(escape(task), at, str(records))
    _show(table)
    out.print(
        f"portions.mini={advice.rate} holds every elbow (Appendix C of the paper; it advises 1000"
        " records or more)"
    )


def show_balance(result: Balance) -> None:
    """Weights with intervals, what they are made of, and what was flagged."""
    weights = result.part("all")
    table = _table("unit", "weight", interval_name(weights), "outward", "inward", "difficulty", "")
    measures = zip(result.outward, result.inward, result.difficulty, strict=True)
    for unit, weight, numbers in zip(result.units, weights, measures, strict=True):
        cells = ("n/a" if math.isnan(number) else f"{number:.3f}" for number in numbers)
        table.add_row(escape(unit), f"{weight.value:.4f}", *_range_and_verdict(weight, cells))
    _show(table)
    out.print(
        f"{result.form} form, {result.difficulty_form} difficulty, temperature"
        f" {result.temperature:g}"
    )
    _show_evidence(result, weights)
    _show_flags(result)
    for warning in result.warnings:
        out.print(f"[yellow]warning[/]  {escape(warning)}", soft_wrap=True)


def _range_and_verdict(weight: Interval, between: Iterable[str]) -> tuple[str, ...]:
    """Cells of a weight; a verdict only where it does not differ from 1."""
    shown = f"{weight.low:.3f} to {weight.high:.3f}" if weight.has_bounds else "-"
    verdict = weight.verdict(1) if weight.holds_training and not weight.differs(1) else ""
    return (shown, *between, verdict)


def _show_evidence(result: Balance, weights: Sequence[Interval]) -> None:
    """What the weights rest on, and what more evidence would decide."""
    if not result.measurable:
        out.print("Not measurable here: keep equal weights. All weights are 1.", style="bold")
    elif result.has_intervals and not hold_training(weights):
        out.print(f"Intervals: {SAMPLING_ONLY}. {LEARN_FROM_PROBES}", soft_wrap=True)
    for need in result.needs:
        if not result.weight(need.unit).differs(1):
            out.print(f"  {escape(need.sentence())}", soft_wrap=True)


def _show_flags(result: Balance) -> None:
    """A short table; the report and `--json` have the runs and their scores."""
    if not result.flags:
        return
    out.print()
    _show_content(flag_table(result))
    out.print("Runs and scores behind each flag: in the report, and with --json.")


def show_final(mixture: Mixture, paths: RunPaths) -> None:
    """Test scores of a final model."""
    table = _table(
        "task", "split", "metric", "score", title=f"{method_label(paths.root.name)} on test"
    )
    for task in mixture.tasks:
        for split in task.test:
            content: Mapping[str, Mapping[str, Mapping[str, float]]] = read_json(
                paths.scores(task.name, split)
            )
            for metric, entry in content["metrics"].items():
                table.add_row(escape(task.name), split, metric, f"{entry['score']:.4f}")
    _show(table)


def show_rescoring(found: Rescoring) -> None:
    """Scores and weights that differ from those before."""
    changed = [each for each in found.scores if each.before != each.after]
    if changed:
        table = _table("run", "task", "split", "metric", "before", "after", title="Changed scores")
        for each in changed:
            before = "" if each.before is None else f"{each.before:.4f}"
            names = map(escape, (each.run, each.task, each.split, each.metric))
            table.add_row(*names, before, f"{each.after:.4f}")
        _show(table)
    print(f"{len(found.scores)} scores made again, {len(changed)} changed")
    for unit, weight in found.after.items():
        if weight != found.before.get(unit):
            print(f"weight of {unit}: {found.before.get(unit, float('nan')):.4f} -> {weight:.4f}")


def show_overall(found: Mapping[str, Overall], baseline: str) -> None:
    """Eq. 12-14, one line per method."""
    tasks = list(next(iter(found.values())).tasks)
    table = _table(
        "method", "improvement", "error", *tasks, title=f"Relative change against {baseline}, in %"
    )
    for name, each in found.items():
        numbers = (each.improvement, each.error, *each.tasks.values())
        table.add_row(escape(name), *(f"{number:.2f}" for number in numbers))
    _show(table)
    out.print("No intervals: a table of results holds neither samples nor training seeds.")


def show_results(results: Results, warnings: Sequence[str]) -> None:
    """What every method scored, and what to know about these numbers."""
    table = _table("method", *map(str, results.columns))
    for name, row in zip(results.methods, results.values, strict=True):
        table.add_row(escape(name), *(f"{value:.2f}" for value in row))
    _show(table)
    for warning in warnings:
        out.print(f"[yellow]warning[/]  {escape(warning)}", soft_wrap=True)


def show_comparison(found: Comparison) -> None:
    """Improvement and error of every method with their intervals, and the difference from EW."""
    if found.reference is None or not found.against:
        out.print("No method to hold the others against: compare with stl or ew among the methods.")
        return
    reference = method_label(found.reference)
    table = _table(
        "method", "improvement", "error", "improvement - EW", "", title=f"Against {reference}, in %"
    )
    for name, each in found.against.items():
        minus = found.paired.get(name)
        verdict = minus.verdict(name="EW") if minus and minus.holds_training else ""
        shown = (each.average, each.error) if minus is None else (each.average, each.error, minus)
        cells = [with_interval(change, 2, signed=True) for change in shown]
        table.add_row(escape(method_label(name)), *cells, *[""] * (3 - len(cells)), verdict)
    _show(table)
    _show_noise(found.seeds, [each.average for each in found.against.values()])
    for note in seed_notes(found):
        out.print(escape(note), soft_wrap=True)


def _show_noise(seeds: Iterable[int], intervals: Sequence[Interval], learn: str = "") -> None:
    """What the intervals above hold; `learn` says how to measure the noise of training."""
    words = "95 %, over samples and seeds"
    if not hold_training(intervals):
        words = f"{SAMPLING_ONLY}. {learn}".strip()
    out.print(f"seeds: {', '.join(map(str, seeds))}; intervals: {words}", soft_wrap=True)


def show_curve(found: DataCurves) -> None:
    """Scores by fraction of the data with their intervals, and the share of its final score that
    each task reaches with the smallest fraction.
    """
    for content in curve_views.tables(found):
        _show_content(content)
    for sentence in curve_views.sentences(found):
        out.print(escape(sentence), soft_wrap=True)
    _show_noise(found.matrices, curve_views.intervals(found), curve_views.LEARN)
    if found.left_out:
        out.print(
            f"not shown, because not every seed has them: {', '.join(map(escape, found.left_out))}"
        )


def show_agreement(found: Agreement) -> None:
    """Rank correlation, and the difference of every unit's weights."""
    table = _table("unit", "second - first", interval_name(found.differences), "")
    for unit, gap in zip(found.units, found.differences, strict=True):
        verdict = gap.verdict() if gap.differs() else ""
        interval = f"{gap.low:+.3f} to {gap.high:+.3f}"
        table.add_row(escape(unit), f"{gap.value:+.3f}", interval, verdict)
    _show(table)
    out.print(
        f"rank correlation {with_interval(found.correlation, 2)}, largest difference"
        f" {with_interval(found.largest, 2)}, {len(found.units)} units"
    )
    if not hold_training(found.differences):
        out.print(
            f"Intervals: {SAMPLING_ONLY}. To measure that, both directories need replicates or"
            " seeds of their probes (`balance.replicates`, `balance.seeds`).",
            soft_wrap=True,
        )


def show_status(states: Sequence[State]) -> None:
    """One line per run."""
    table = _table("run", "kind", "state", "")
    colours = {
        "done": "green",
        "failed": "red",
        "running": "cyan",
        "queued": "blue",
        "unknown": "yellow",
        "interrupted": "yellow",
        "missing": "dim",
    }
    for s in states:
        table.add_row(escape(s.run), s.kind, f"[{colours[s.state]}]{s.state}[/]", escape(s.detail))
    _show(table)


def show_estimate(judging: Judging, prices: Prices | None) -> None:
    """Requests and their cost, before the first is sent."""
    estimate, judge = judging.estimate, judging.judge
    orders = ", both orders" if judge.swap else ""
    out.print(f"Judge: {escape(judge.model)} at {escape(judge.base_url)}{orders}")
    out.print(f"{estimate.requests} requests to send, {estimate.settled} are settled already")
    if estimate.requests:
        expected, most = _tokens(estimate.expected, prices), _tokens(estimate.most, prices)
        out.print(f"about {expected}; at most {most}", soft_wrap=True)
    if prices is not None and judging.spent.input:
        out.print(f"spent here before, at these prices: ${prices.of(judging.spent):.4f}")
    for remark in judging.remarks:
        out.print(f"[yellow]warning[/]  {escape(remark)}", soft_wrap=True)


def _tokens(tokens: Tokens, prices: Prices | None) -> str:
    text = f"{tokens.input:.0f} tokens read and {tokens.output:.0f} written"
    return text if prices is None else f"{text}, ${prices.of(tokens):.4f}"


def show_judged(results: Mapping[str, Judged], usd: float | None) -> None:
    """Relative scores, by category where there are several."""
    table = _table(
        "answers", "category", "pairs", "left out", "rating", "of reference", "relative score"
    )
    left_out = 0
    for name, judged in results.items():
        categories = judged.categories()
        left_out += categories[-1].left_out
        for c in categories:
            ratings = (f"{c.answers:.2f}", f"{c.references:.2f}", f"{c.score:.1f}")
            table.add_row(escape(name), escape(c.name), str(c.pairs), str(c.left_out), *ratings)
    _show(table)
    if left_out:
        text = (
            f"{left_out} answers got no ratings and are not counted; their ids are `left_out` in"
            " the files of scores"
        )
        out.print(f"[yellow]warning[/]  {text}", soft_wrap=True)
    if usd is not None:
        out.print(f"spent here in all: ${usd:.4f}")
