"""`cotbal plan`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from cotbal.cli import console
from cotbal.cli.options import AsJson, On, Out, Ratios, RecipeArguments

if TYPE_CHECKING:
    from cotbal.jobs.encodings import Encodings
    from cotbal.jobs.forecast import Forecast
    from cotbal.jobs.mini import MiniAdvice
    from cotbal.jobs.next_step import Advice
    from cotbal.jobs.plan import Plan, Prepared
    from cotbal.jobs.resolution import Resolution


def plan(
    source: RecipeArguments,
    out: Out = None,
    weighting: Annotated[list[str], typer.Option(help="Methods of final models.")] = ["cotbal"],  # noqa: B006
    ratios: Ratios = None,
    suggest_mini: Annotated[
        bool,
        typer.Option(
            "--suggest-mini", help="Suggest the size of a mini from the loss curves so far."
        ),
    ] = False,
    next_step: Annotated[
        bool,
        typer.Option(
            "--next",
            help="From the scores so far: what one more replicate, one more seed, larger minis or"
            " more validation samples would cost, and how much each would narrow the intervals.",
        ),
    ] = False,
    gpus: Annotated[
        int | None,
        typer.Option(
            "--gpus", min=1, help="Also predict the time of all runs on this number of GPUs."
        ),
    ] = None,
    trials: Annotated[
        bool, typer.Option("--trials", help="Plan the trials of `cotbal response` instead.")
    ] = False,
    on: On = "processes",
    as_json: AsJson = False,
) -> None:
    """Show every run with its records, tokens and share of the final run's cost, before anything is
    spent.
    """
    from cotbal import plugins
    from cotbal.jobs.encodings import encodings
    from cotbal.jobs.forecast import forecast, shares_answers
    from cotbal.jobs.mini import suggest_mini as suggest
    from cotbal.jobs.next_step import advise, expected
    from cotbal.jobs.resolution import resolution

    plugins.load("cotbal.jobs.executors", on)
    prepared = source.plan_trials(out) if trials else source.plan(out, weighting, ratios)
    resolved = resolution(prepared) if trials else None
    extras = _Extras(
        half_width=expected(prepared),
        predicted=forecast(prepared, gpus) if gpus else None,
        advice=suggest(prepared) if suggest_mini else None,
        next_steps=advise(prepared) if next_step else None,
        resolved=resolved,
        encodings=encodings(prepared),
        shares_answers=shares_answers(prepared, on),
    )
    if as_json:
        console.print_json(_content(prepared, extras, on))
    else:
        _show(prepared, extras, on)


@dataclass(frozen=True)
class _Extras:
    """What the plan shows beside the runs; None where it was not asked for."""

    half_width: float | None
    predicted: Forecast | None
    advice: MiniAdvice | None
    next_steps: Advice | None
    resolved: Resolution | None
    encodings: Encodings | None
    shares_answers: bool


def _content(prepared: Prepared, extras: _Extras, on: str) -> dict[str, Any]:
    content = {**prepared.plan.to_json(), "warnings": list(prepared.warnings)}
    content["expected_half_width"] = extras.half_width
    content["shares_answers"] = extras.shares_answers
    if extras.encodings is not None:
        content["images"] = extras.encodings.to_json()
    if extras.advice is not None:
        advice = extras.advice
        rate = None if advice.rate is None else str(advice.rate)
        content["mini"] = {"elbows": advice.elbows, "rate": rate, "records": advice.records}
    if extras.predicted is not None:
        content["forecast"] = {"on": on, **vars(extras.predicted)}
    if extras.next_steps is not None:
        content["next"] = extras.next_steps.to_json()
    if extras.resolved is not None:
        content["resolution"] = extras.resolved.to_json()
    return content


def _show(prepared: Prepared, extras: _Extras, on: str) -> None:
    show_plan(prepared.plan, prepared.warnings)
    show_expected(extras.half_width, prepared.recipe.trainings)
    if extras.encodings is not None:
        console.out.print(extras.encodings.sentence(), soft_wrap=True)
    if extras.shares_answers:
        console.out.print(
            "workers that have no run left help to answer the questions of the last runs",
            soft_wrap=True,
        )
    if extras.resolved is None:
        show_passes(prepared)
    else:
        show_resolution(extras.resolved)
    if extras.predicted is not None:
        show_forecast(extras.predicted, on)
    if extras.advice is not None:
        show_mini(extras.advice)
    if extras.next_steps is not None:
        show_advice(extras.next_steps)


def show_plan(plan: Plan, warnings: Sequence[str]) -> None:
    """Every run with its cost."""
    from cotbal.jobs.display import duration
    from cotbal.weightings import method_label

    table = console.table(
        "run", "kind", "records", "valid tokens", "answers", "share of final", "time"
    )
    for p in plan.runs:
        tokens = "-" if p.tokens is None else f"{p.tokens:.0f}"
        time = "-" if p.seconds is None else duration(p.seconds)
        kind = f"final {method_label(p.run.name)}" if p.kind == "final" else p.kind
        table.add_row(
            escape(p.label), kind, str(p.records), tokens, str(p.answers), f"{p.share:.3f}", time
        )
    console.show(table)
    console.out.print(f"\n{plan.sentence()}")
    console.warn(warnings)


def show_passes(prepared: Prepared) -> None:
    """How often runs with sampling ratios show the records of every task; runs that show them alike
    share a line.
    """
    from cotbal.recipe.ratios import passes
    from cotbal.recipe.runs import held

    runs_of: dict[str, list[str]] = {}
    for planned in prepared.plan.runs:
        run = planned.run
        if run.sampled is not None:
            times = passes(run.sampled, held(run, prepared.inputs.sizes))
            listed = ", ".join(f"{task} {value:.2f}" for task, value in times.items())
            runs_of.setdefault(listed, []).append(planned.label)
    for listed, labels in runs_of.items():
        names = "; ".join(labels)
        console.out.print(f"passes per epoch of {escape(names)}: {escape(listed)}", soft_wrap=True)


def show_expected(half_width: float | None, trainings: int) -> None:
    """How well the planned probes are expected to tell the weights.

    Args:
        trainings: of the probe that is trained most often.
    """
    from cotbal.scores.interval import SAMPLING_ONLY

    if half_width is None:
        return
    console.out.print(
        f"expected half-width of the 95 % interval of a weight: about {half_width:.2f} (median, for"
        " gains and noise as on `pocket`)",
        soft_wrap=True,
    )
    if trainings == 1:
        console.out.print(
            f"every probe is trained once, so intervals will hold {SAMPLING_ONLY}; set"
            " balance.replicates to 3 to include the noise of training",
            soft_wrap=True,
        )


def show_resolution(resolved: Resolution) -> None:
    """What the planned trials can show."""
    table = console.table(
        "task",
        "noise of a run, %",
        "smallest detectable effect, %",
        title=(
            f"\nWhat the trials can show: effect of doubling a {resolved.lever.one}, in % of the"
            " score"
        ),
    )
    for task, noise in resolved.noise.items():
        table.add_row(escape(task), f"{noise:.1f}", f"{resolved.slopes[task]:.1f}")
    console.show(table)
    for sentence in (resolved.trials, resolved.source, *resolved.remarks):
        console.out.print(escape(sentence), soft_wrap=True)


def show_advice(advice: Advice) -> None:
    """What every possible next step costs, and how much it would narrow the weights."""
    table = console.table(
        "step",
        "change",
        "half-width",
        "of doubtful",
        "cost",
        "gain per cost",
        "",
        title="\nExpected half-width of the 95 % interval of a weight (median) after one more step",
    )
    now = (advice.half_width, advice.doubtful_half_width)
    table.add_row("now", "", *map(_number, now), "", "", "")
    for step in advice.steps:
        numbers = (step.half_width, step.doubtful_half_width, step.cost, step.gain)
        decided = f"would decide {', '.join(step.decides)}" if step.decides else ""
        table.add_row(step.step, escape(step.change), *map(_number, numbers), escape(decided))
    console.show(table)
    if advice.doubtful:
        console.out.print(f"doubtful (may be 1): {escape(', '.join(advice.doubtful))}")
    console.out.print(
        "cost: training records over those of a final run; samples and mini rerun all probes"
    )
    if advice.assumed_noise:
        console.out.print(
            "no run was trained twice, so the noise of training is assumed to be that of `pocket`"
        )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def show_forecast(forecast: Forecast, on: str) -> None:
    """Time from the first start to the last end, and GPU-hours."""
    from cotbal.jobs.display import duration
    from cotbal.report.formatting import plural

    if forecast.timed:
        times = [duration(seconds) for seconds in (forecast.makespan, forecast.bound)]
        work = f"{forecast.gpu_time / 3600:.1f} GPU-hours"
    else:
        times = [f"{share:.2f} x one final run" for share in (forecast.makespan, forecast.bound)]
        work = f"{forecast.gpu_time:.2f} in GPU-time of final runs (nothing was timed here yet)"
    console.out.print(
        f"{plural(forecast.runs, 'run')} on {plural(forecast.gpus, 'GPU')} ({on}): {times[0]},"
        f" {work}; no order of them ends before {times[1]}. Waiting in a queue is not counted."
    )


def show_mini(advice: MiniAdvice) -> None:
    """The elbow of every loss curve, and the mini that holds all of them."""
    if advice.rate is None:
        console.out.print(
            "\nNo loss bends so far: let the training with equal weights continue, or log more"
            " often."
        )
        return
    table = console.table("task", "loss bends at", "records in the mini", title="\nSuggested mini")
    for task, records in advice.records.items():
        at = f"{advice.elbows[task]:.3f} of its data" if task in advice.elbows else "no elbow"
        table.add_row(escape(task), at, str(records))
    console.show(table)
    console.out.print(
        f"portions.mini={advice.rate} holds every elbow (Appendix C of the paper; it advises 1000"
        " records or more)"
    )
