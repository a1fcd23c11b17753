"""`cotbal outcome`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from cotbal.cli import console
from cotbal.cli.options import AsJson

if TYPE_CHECKING:
    from cotbal.response.prediction import Outcome, Verdict
    from cotbal.scores.interval import Interval


def outcome(
    prediction: Annotated[
        Path, typer.Argument(help="`prediction-<goal>.json`, which `cotbal steer --out` wrote.")
    ],
    finals: Annotated[
        Path,
        typer.Argument(
            help="CSV with columns `seed`, `weight:<task>` (or `ratio:<task>`) and `score:<task>`:"
            " for every training seed one model with the weights of the prediction, and one with"
            " equal weights."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Compare a frozen prediction of `cotbal steer` with final models of your own trainer: what
    every task gained or lost, whether that is inside the predicted interval, and which floors hold.
    """
    from cotbal.response import compare_with_outcomes, read_finals, read_prediction

    frozen = read_prediction(prediction)
    table = read_finals(finals, frozen)
    verdict = compare_with_outcomes(frozen, table.changes)
    floors = {guard["task"]: float(guard["floor"]) for guard in frozen["guards"]}
    if as_json:
        console.print_json(_content(verdict, floors, table.seeds))
    else:
        _show(frozen, verdict, floors)


def _content(
    verdict: Verdict, floors: Mapping[str, float], seeds: tuple[str, ...]
) -> dict[str, Any]:
    from cotbal.response.prediction import mean_over_seeds

    tasks = {}
    for one in verdict.outcomes:
        observed = mean_over_seeds(one.changes)
        tasks[one.task] = {
            "predicted": one.predicted.to_json(),
            "observed": observed.to_json(),
            "inside": one.inside,
            "floor": floors.get(one.task),
            "floor_kept": _kept(observed, floors.get(one.task)),
        }
    return {"seeds": list(seeds), "coverage": verdict.coverage, "tasks": tasks}


def _show(frozen: Mapping[str, Any], verdict: Verdict, floors: Mapping[str, float]) -> None:
    from cotbal.response.prediction import mean_over_seeds

    seeds = verdict.outcomes[0].seeds
    several = f"{seeds} seed{'s' if seeds > 1 else ''}"
    table = console.table(
        "task",
        "predicted, %",
        f"interval for {several}",
        "outcome, %",
        "inside",
        "floor, %",
        "kept",
    )
    for one in verdict.outcomes:
        observed = mean_over_seeds(one.changes)
        floor = floors.get(one.task)
        predicted = f"{one.predicted.low:+z.1f} to {one.predicted.high:+z.1f}"
        table.add_row(
            escape(one.task),
            f"{one.predicted.value:+z.1f}",
            predicted,
            _bracketed(observed),
            "yes" if one.inside else "no",
            "-" if floor is None else f"{floor:+z.1f}",
            _kept(observed, floor) or "-",
        )
    console.show(table)
    for sentence in (*_sentences(frozen, verdict.outcomes), _held(seeds)):
        console.out.print(escape(sentence), soft_wrap=True)


def _sentences(frozen: Mapping[str, Any], outcomes: tuple[Outcome, ...]) -> list[str]:
    """How many outcomes are inside, and what became of the goal."""
    from cotbal.response.choice import MEAN, WORST

    inside = sum(one.inside for one in outcomes)
    sentences = [
        f"\n{inside} of {len(outcomes)} outcomes are inside the 95 % prediction intervals of"
        f" {frozen['date']}."
    ]
    counted = frozen.get("counted", ())
    in_goal = [one for one in outcomes if one.task in counted]
    if frozen["goal"] != WORST and in_goal and len(in_goal) == len(counted):
        changed = _bracketed(_mean_of(in_goal))
        predicted = frozen["gain"]["value"]
        what = "the mean over tasks" if frozen["goal"] == MEAN else frozen["goal"]
        sentences.append(f"Goal ({what}): {changed} %, predicted {predicted:+z.1f} %.")
    return sentences


def _mean_of(outcomes: list[Outcome]) -> Interval:
    """The mean change of several tasks, over seeds."""
    from cotbal.response.prediction import mean_over_seeds

    by_seed = zip(*(one.changes for one in outcomes), strict=True)
    return mean_over_seeds([sum(changes) / len(changes) for changes in by_seed])


def _held(seeds: int) -> str:
    """What the intervals hold."""
    if seeds == 1:
        return "One seed shows no noise of training: outcomes have no interval, floors no verdict."
    return (
        "In brackets: 95 % t intervals over the seeds. They hold the noise of the final trainings,"
        " on these samples."
    )


def _bracketed(interval: Interval) -> str:
    value = f"{interval.value:+z.1f}"
    if not interval.has_bounds:
        return value
    return f"{value} [{interval.low:+z.1f}, {interval.high:+z.1f}]"


def _kept(observed: Interval, floor: float | None) -> str | None:
    """Whether a floor holds, noise counted; None where there is nothing to say."""
    if floor is None or not observed.has_bounds:
        return None
    if observed.low >= floor:
        return "yes"
    return "no" if observed.high < floor else "not clear"
