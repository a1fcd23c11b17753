"""The verb `steer`: from trials to weights for a goal, with guardrails."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from cotbal.cli.options import AsJson, listed
from cotbal.errors import CotbalError

if TYPE_CHECKING:
    from cotbal.jobs.steering import ChoiceFiles, Steered
    from cotbal.response import Choice, Response

NO_FLOOR = "none"


def steer(
    run_directory: Annotated[
        Path | None,
        typer.Argument(help="A run directory with the trials of `cotbal response`."),
    ] = None,
    trials: Annotated[
        Path | None,
        typer.Option(
            help=(
                "A table of trials of any trainer in place of a run directory: CSV with columns"
                " `weight:<task>` and `score:<task>`, optionally `seed` and `ratio:<task>`, one row"
                " per trained model; or a directory with `ratios.csv` and `metrics.csv` of olmix."
            )
        ),
    ] = None,
    goal: Annotated[
        str,
        typer.Option(
            help="mean, worst (raise the lowest score relative to single-task models), or tasks or"
            " groups separated by commas."
        ),
    ] = "mean",
    floor: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                "Largest accepted loss of the tasks that the goal does not name, such as -1%"
                " (default), or of one task: `<task>=-0.5%`; none guards nothing."
            )
        ),
    ] = None,
    max_step: Annotated[
        float, typer.Option(help="Largest change of a weight, in doublings.")
    ] = 1.0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Write `weights-<goal>.json` and `prediction-<goal>.json` there; by default into"
            " `response/` of the run directory, and nowhere for a table.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Choose weights for a goal from the trials of a run directory, or from a table of trials, with
    guardrails for the other tasks. Trains nothing.
    """
    from cotbal.jobs.rundir import RunDir
    from cotbal.jobs.steering import steer as steer_run
    from cotbal.jobs.steering import steer_table

    names = listed(goal)
    wanted: str | Sequence[str] = names[0] if len(names) == 1 else names
    floors = floors_of(floor or ())
    files: ChoiceFiles | None
    if run_directory is not None and trials is None:
        steered, files = steer_run(RunDir(run_directory), wanted, floors, max_step, out)
    elif trials is not None and run_directory is None:
        steered, files = steer_table(trials, wanted, floors, max_step, out)
    else:
        raise CotbalError(
            "steer: expected a run directory or --trials TABLE, and not both", "conflicting-options"
        )
    paths = files.by_title() if files else {}
    if as_json:
        content = {**steered.choice.to_json(), "response": steered.response.to_json()}
        print(json.dumps({**content, "files": paths}, indent=1, ensure_ascii=False))
        return
    _show(steered, run_directory)
    for title, path in paths.items():
        print(f"{title}: {path}")
    if run_directory is not None and out is None:
        _show_next(run_directory, steered.choice)
    _show_next_table(files)


def floors_of(options: Sequence[str]) -> dict[str, float | None]:
    """Task -> floor in %, with `*` for all other tasks; None guards nothing."""
    from cotbal.response.choose import FLOOR

    floors: dict[str, float | None] = {"*": FLOOR}
    for option in options:
        task, _, text = option.rpartition("=")
        number = re.fullmatch(r"([+-]?\d*\.?\d+)\s*%?", text.strip())
        if text.strip() != NO_FLOOR and number is None:
            raise CotbalError(
                f"--floor: expected a percentage such as -1% or chart=-0.5%, or none; found"
                f" {option!r}",
                "invalid-floor",
            )
        floors[task.strip() or "*"] = None if number is None else float(number[1])
    return floors


def _show(steered: Steered, run_directory: Path | None) -> None:
    from cotbal.cli.console import out
    from cotbal.jobs.response import start_sentence
    from cotbal.jobs.rundir import RunDir

    response, choice = steered.response, steered.choice
    out.print(_table(response, choice), crop=False)
    out.print(f"\n{escape(choice.sentence)}", soft_wrap=True)
    if steered.compared is not None:
        out.print(escape(steered.compared.sentence), soft_wrap=True)
    out.print(escape(choice.headroom.sentence), soft_wrap=True)
    out.print(escape(response.check_sentence), soft_wrap=True)
    if response.mean_sentence:
        out.print(escape(response.mean_sentence), soft_wrap=True)
    start = start_sentence(RunDir(run_directory)) if run_directory else ""
    if start:
        out.print(escape(start), soft_wrap=True)
    for task, reason in choice.unguarded.items():
        is_held = response.unit_of_task.get(task) in choice.not_lowered
        consequence = "it is not guarded"
        if is_held:
            free = shlex.quote(f"{task}=none")
            consequence = f"its {choice.lever.one} is not lowered (--floor {free} allows it)"
        _show_unmeasurable(task, reason, f"not part of the mean, and {consequence}")
    for task, reason in choice.uncertain.items():
        _show_unmeasurable(task, reason, "guarded as asked, but its effect is uncertain")
    for warning in choice.warnings:
        out.print(f"[yellow]warning[/]  {escape(warning)}", soft_wrap=True)


def _show_unmeasurable(task: str, reason: str, consequence: str) -> None:
    from cotbal.cli.console import out

    out.print(
        f"[yellow]not measurable[/]  {escape(task)}: {escape(reason)}; {consequence}",
        soft_wrap=True,
    )


def _show_next(run_directory: Path, choice: Choice) -> None:
    """How to train the final model, where there is something to train."""
    from cotbal.cli.console import out
    from cotbal.weightings.steer import method_for

    recipe = run_directory / "recipe.yaml"
    if choice.keep_equal or not recipe.exists():
        return
    methods = f"ew,{method_for(choice.goal)}"
    command = f"cotbal compare {recipe} --methods {methods} --out {run_directory}"
    out.print(f"\nNext: train it beside equal weights: {escape(command)}", soft_wrap=True)


def _show_next_table(files: ChoiceFiles | None) -> None:
    """How to test the prediction with one's own trainer, where a table for that was written."""
    from cotbal.cli.console import out

    if files is None or files.finals is None:
        return
    prediction, finals = escape(str(files.prediction)), escape(str(files.finals))
    out.print(
        f"\nNext: train the models of {finals}, all else alike, and enter their scores."
        f" Then: cotbal outcome {prediction} {finals}",
        soft_wrap=True,
    )


def _table(response: Response, choice: Choice) -> Table:
    """One line per task; changes in % of the score at equal weights."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in (
        "task",
        response.lever.one,
        "effect of doubling it",
        "predicted change, %",
        "95 % interval",
        "floor, %",
        "prediction - 1 SE",
    ):
        table.add_column(column, justify="left" if column == "task" else "right", no_wrap=True)
    guards = {guard.task: guard for guard in choice.guards}
    for task in dict.fromkeys([*response.tasks, *response.scored]):
        weight = f"{choice.weights[task]:.4f}" if task in choice.weights else "-"
        effect = change = interval = floor = bound = "-"
        if task in response.scored:
            expected = choice.changes[task]
            change = f"{expected.value:+z.1f}"
            interval = f"{expected.low:+z.1f} to {expected.high:+z.1f}"
        if task in response.scored and task in response.unit_of_task:
            own_effect = response.effect(response.unit_of_task[task], task)
            effect = f"{own_effect.value:+z.1f} [{own_effect.low:+z.1f}, {own_effect.high:+z.1f}]"
        if task in guards:
            floor = f"{guards[task].floor:+z.1f}"
            bound = f"{guards[task].bound:+z.1f}"
        table.add_row(escape(task), weight, effect, change, interval, floor, bound)
    return table
