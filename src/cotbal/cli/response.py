"""`cotbal response`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cotbal.cli import console
from cotbal.cli.options import JobOptions, RecipeArguments, StudyOptions, Without, run_directory
from cotbal.cli.plan import show_plan, show_resolution

if TYPE_CHECKING:
    from cotbal.jobs.rundir import RunDir
    from cotbal.response import Response


def response(
    source: RecipeArguments,
    runs: Annotated[
        int | None,
        typer.Option(
            help="Number of trials, even; by default as many as separate all effects: 16 for 4 to 7"
            " tasks, 24 for 8 to 11."
        ),
    ] = None,
    step: Annotated[
        float | None,
        typer.Option(help="Doublings by which weights are raised and lowered; 0.75 by default."),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            help="Training seeds, separated by commas, used by the pairs of trials in turn; by"
            " default that of the recipe and the next."
        ),
    ] = None,
    fraction: Annotated[
        str | None,
        typer.Option(
            help="Fraction of every task's training records that a trial sees, such as 1/4; 1 for"
            " all. By default, all trials together cost 2.5 final runs."
        ),
    ] = None,
    lever: Annotated[
        str | None,
        typer.Option(
            help="What differs between trials: weights (on the loss, default) or ratios (of"
            " sampling)."
        ),
    ] = None,
    *,
    study: Annotated[StudyOptions, Without("seeds")],
    job: Annotated[JobOptions, Without("keep_checkpoints")],
) -> None:
    """Measure what the weight of every task does to every score: train trials with other weights on
    a fraction of the data, and score them on the validation sets. `cotbal steer` then chooses
    weights for a goal.
    """
    from cotbal.jobs.resolution import resolution
    from cotbal.jobs.response import plan_trials, run_trials
    from cotbal.report import write_report

    changes = {
        "runs": runs,
        "step": step,
        "seeds": None if seeds is None else f"[{seeds}]",
        "fraction": fraction,
        "lever": lever,
    }
    given = [f"response.{key}={value}" for key, value in changes.items() if value is not None]
    recipe = source.load(*given)
    options, root = job.to_options(), run_directory(study.out, recipe)
    prepared = plan_trials(recipe, root)
    show_plan(prepared.plan, prepared.warnings)
    show_resolution(resolution(prepared))
    if study.dry_run:
        return
    measured = run_trials(prepared, options)
    page = write_report(root.root)
    show_response(measured, root)
    print(f"\nReport: {page}")


def show_response(measured: Response, root: RunDir) -> None:
    """What the weight of every task does to its own score, how far to trust it, and what to do
    next.
    """
    from cotbal.jobs.response import start_sentence
    from cotbal.scores.interval import significance

    lever = measured.lever
    table = console.table(
        "task",
        f"doubling its {lever.one}, %",
        "95 % interval",
        "noise of a run, %",
        "",
        title=f"\nEffect of every {lever.one} on its own task, in % of the score",
    )
    for task, noise in zip(measured.scored, measured.noise, strict=True):
        change, interval, remark = "-", "-", f"no {lever.one} of its own"
        if task in measured.unit_of_task:
            slope = measured.slope(measured.unit_of_task[task], task)
            change = f"{slope.value:+z.1f}"
            interval = f"{slope.low:+z.1f} to {slope.high:+z.1f}"
            remark = significance(slope.excludes(0), "0")
        if task in measured.unmeasurable:
            remark = "not measurable"
        table.add_row(escape(task), change, interval, f"{noise:.1f}", remark)
    console.show(table)
    for task, reason in measured.unmeasurable.items():
        console.out.print(
            f"[yellow]not measurable[/]  {escape(task)}: {escape(reason)}", soft_wrap=True
        )
    console.out.print(f"\n{escape(measured.check_sentence)}", soft_wrap=True)
    if sentence := start_sentence(root):
        console.out.print(escape(sentence), soft_wrap=True)
    _show_forgetting(measured, root)
    goals = [task for task in measured.unit_of_task if task not in measured.unmeasurable]
    goal = goals[0] if goals else "TASK"
    console.out.print(
        f"\nNext: choose {lever.several} for a goal: cotbal steer {escape(str(root.root))} --goal"
        f" {escape(goal)} --floor -1%",
        soft_wrap=True,
    )


def _show_forgetting(measured: Response, root: RunDir) -> None:
    """What training with equal weights does to the tasks that are only evaluated."""
    from cotbal.jobs.response import untrained_scores

    before = untrained_scores(root)
    for task, level in zip(measured.scored, measured.level, strict=True):
        if before.get(task):
            change = 100 * (level / before[task] - 1)
            console.out.print(
                f"{escape(task)}: {before[task]:.4f} before training, {level:.4f} in trials with"
                f" equal {measured.lever.several} ({change:+z.1f} %)",
                soft_wrap=True,
            )
