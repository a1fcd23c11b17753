"""The verb `steer`: from a table of trials to weights for a goal, with guardrails."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from cotbal.cli.options import AsJson
from cotbal.errors import CotbalError

if TYPE_CHECKING:
    from cotbal.response import Choice, Response

NO_FLOOR = "none"


def steer(
    trials: Annotated[
        Path,
        typer.Option(
            help=(
                "CSV with columns `weight:<task>` and `score:<task>`, optionally `seed` and"
                " `ratio:<task>`, one row per trained model; or a directory with `ratios.csv` and"
                " `metrics.csv` of olmix."
            )
        ),
    ],
    goal: Annotated[
        str,
        typer.Option(help="mean, worst (raise the smallest change), or tasks separated by commas."),
    ] = "mean",
    floor: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                "Largest loss of the tasks that the goal does not name, such as -1%, or of one"
                " task: `<task>=-0.5%`; none guards nothing. -1% by default."
            )
        ),
    ] = None,
    max_step: Annotated[
        float, typer.Option(help="Largest change of a weight, in doublings.")
    ] = 1.0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Also write `weights-<goal>.json` and `prediction-<goal>.json` there."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Weights for a goal from a table of trials, with guardrails for the other tasks; trains
    nothing, needs no recipe and no torch.
    """
    from cotbal.response import choose_weights, fit_response, read_trials

    response = fit_response(read_trials(trials))
    names = [name.strip() for name in goal.split(",") if name.strip()]
    wanted: str | Sequence[str] = names[0] if len(names) == 1 else names
    choice = choose_weights(response, wanted, floors_of(floor or ()), max_step)
    files = {} if out is None else _write(out, response, choice)
    if as_json:
        content = {**choice.to_json(), "response": response.to_json(), "files": files}
        print(json.dumps(content, indent=1, ensure_ascii=False))
    else:
        _show(response, choice)
        for kind, path in files.items():
            print(f"{kind}: {path}")


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


def _write(out: Path, response: Response, choice: Choice) -> dict[str, str]:
    """Write weights and prediction; a prediction that is there already is never replaced."""
    from cotbal.data.files import write_json
    from cotbal.response import freeze, read_prediction
    from cotbal.response.prediction import HASH

    name = re.sub(r"[^\w.+-]+", "-", choice.goal.replace(",", "+"))
    weights, prediction = out / f"weights-{name}.json", out / f"prediction-{name}.json"
    content = freeze(response, choice)
    if prediction.exists():
        before = read_prediction(prediction)
        after = {key: value for key, value in content.items() if key != HASH}
        if {**before, "date": ""} != {**after, "date": ""}:
            raise CotbalError(
                f"{prediction}: holds another prediction, of {before['date']}; a prediction is"
                " never replaced, give another --out",
                "prediction-exists",
            )
    else:
        write_json(prediction, content)
    multipliers = dict(choice.weights)
    written: dict[str, Any] = {"weights": multipliers, "tasks": multipliers}
    if (ratios := choice.ratios(response.reference)) is not None:
        written["ratios"] = ratios
    write_json(weights, written)
    return {"Weights": str(weights), "Prediction": str(prediction)}


def _show(response: Response, choice: Choice) -> None:
    from cotbal.cli.console import out

    out.print(_table(response, choice), crop=False)
    out.print(f"\n{escape(choice.sentence)}", soft_wrap=True)
    out.print(escape(choice.headroom.sentence), soft_wrap=True)
    out.print(escape(response.check_sentence), soft_wrap=True)
    if response.mean_sentence:
        out.print(escape(response.mean_sentence), soft_wrap=True)
    for task, reason in choice.unguarded.items():
        out.print(
            f"[yellow]not measurable[/]  {escape(task)}: {escape(reason)}; neither guarded nor part"
            " of the mean",
            soft_wrap=True,
        )
    for warning in choice.warnings:
        out.print(f"[yellow]warning[/]  {escape(warning)}", soft_wrap=True)


def _table(response: Response, choice: Choice) -> Table:
    """One line per task; changes in % of the score at equal weights."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in (
        "task",
        "weight",
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
            change = f"{expected.value:+.1f}"
            interval = f"{expected.low:+.1f} to {expected.high:+.1f}"
        if task in response.scored and task in response.own:
            own = response.effect(response.own[task], task)
            effect = f"{own.value:+.1f} [{own.low:+.1f}, {own.high:+.1f}]"
        if task in guards:
            floor, bound = f"{guards[task].floor:+.1f}", f"{guards[task].bound:+.1f}"
        table.add_row(escape(task), weight, effect, change, interval, floor, bound)
    return table
