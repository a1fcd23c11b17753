"""How a report shows the effect of weights: figures, tables and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from markupsafe import Markup

from cotbal.report import figures
from cotbal.report.crowds import MANY
from cotbal.report.figures import Axis, Point
from cotbal.report.formatting import DASH, bracket, listed, number, plural, with_interval
from cotbal.report.heat_maps import Cell, Look, heat_map
from cotbal.report.map_frames import Frame
from cotbal.report.map_images import map_image
from cotbal.report.responses import Frozen, Measured
from cotbal.report.scatter import Cloud, scatter
from cotbal.report.tables import Table, pairs_table
from cotbal.response import Response
from cotbal.response.prediction import Outcome
from cotbal.scores.interval import Interval

SMALLEST_LIMIT = 0.5  # of the colour scale, in %
PERCENT = " %"
NOISE = "95 % interval, noise of training on these validation samples"


def design_sentence(measured: Measured) -> str:
    """What was tried, in words."""
    response, design = measured.response, measured.design
    trials = design.get("runs") if response is None else response.trials
    text = f"{plural(trials or 0, 'trial')} with different {measured.lever.several}"
    if "step" in design:
        text += f" ({design['step']:g} doublings up or down)"
    if "seeds" in design:
        text += f" and {plural(len(design['seeds']), 'training seed')}"
    if "fraction" in design:
        fraction = str(design["fraction"])
        data = "all of the data" if fraction == "1" else f"{fraction} of every task's data"
        text += f", each on {data}"
    return f"{text}, scored on the validation sets."


def sentences(measured: Measured) -> list[str]:
    """The most important results."""
    response = measured.response
    if response is None or measured.headroom is None:
        return [f"The effect of {measured.lever.several} cannot be estimated: {measured.problem}"]
    lines = [own_sentence(response), response.check_sentence]
    if response.fraction_sentence:
        lines.insert(0, response.fraction_sentence)
    if response.mean_sentence:
        lines.append(response.mean_sentence)
    if not np.isnan(measured.headroom.gain.value):
        lines.insert(0, measured.headroom.sentence)
    for task, reason in response.unmeasurable.items():
        lines.append(f"{task} is not measurable with these trials: {reason}.")
    return lines


def summary_sentences(measured: Measured) -> list[str]:
    """The headroom, or why nothing is known about it, and what to expect of such trials."""
    first, *_ = sentences(measured)
    warning = measured.response.fraction_sentence if measured.response else ""
    return [first, warning] if warning and warning != first else [first]


def limit_of(response: Response) -> float:
    """End of the symmetric colour scale: the strongest effect on a measurable task."""
    counted = [name not in response.unmeasurable for name in response.scored]
    effects = np.abs(response.effects[:, counted])
    return max(SMALLEST_LIMIT, float(effects.max(initial=0.0)))


def effect_map(response: Response) -> Markup:
    """Effect of doubling each weight (row) on each score (column)."""
    limit = limit_of(response)
    units, scored = response.tasks, response.scored
    aria = (
        f"Heat map of the effect of doubling {len(units)} {response.lever.several} on"
        f" {len(scored)} scores, in percent"
    )
    lever = response.lever.one
    frame = Frame(units, scored, (f"{lever} of", "score of"), aria)

    if max(len(units), len(scored)) > MANY:
        measurable = [task not in response.unmeasurable for task in scored]
        return map_image(frame, np.where(measurable, response.effects / limit, np.nan))

    def cell(i: int, j: int) -> Cell:
        unit, task = units[i], scored[j]
        effect = response.effect(unit, task)
        text = number(effect.value, 1, signed=True)
        is_own = response.unit_of_task.get(task) == unit
        title = f"{lever} of {unit} on {task}: {with_interval(effect, 1, signed=True)} %"
        if is_own:
            title += f", its own {lever}"
        if task in response.unmeasurable:
            return Cell(text, f"{title}; not measurable", "unknown")
        look: Look = "own" if is_own else "plain"
        return Cell(text, title, look, effect.value / limit, effect.excludes())

    return heat_map(frame, cell)


def own_plot(response: Response) -> Markup | None:
    """Effect of every task's own weight on its score, with the range of what other weights do."""
    points = []
    for task, own_unit in response.unit_of_task.items():
        if task in response.unmeasurable:
            continue
        i = response.scored.index(task)
        effects = dict(zip(response.tasks, response.effects[:, i].tolist(), strict=True))
        others = tuple(effect for unit, effect in effects.items() if unit != own_unit)
        points.append(Point(task, response.effect(own_unit, task), others=others))
    if not points:
        return None
    lever = response.lever
    aria = (
        f"Effect of doubling the own {lever.one} of every task, and of doubling other"
        f" {lever.several}"
    )
    return figures.dots(points, Axis(aria, 0.0, 1, True, PERCENT))


def own_sentence(response: Response) -> str:
    """How many own and cross effects differ from 0, and how large they are."""
    own_effects: list[Interval] = []
    cross_effects: list[Interval] = []
    for task in response.scored:
        if task in response.unmeasurable:
            continue
        for unit in response.tasks:
            is_own = response.unit_of_task.get(task) == unit
            effects = own_effects if is_own else cross_effects
            effects.append(response.effect(unit, task))
    parts = []
    for name, effects in (("own effects", own_effects), ("cross effects", cross_effects)):
        if effects:
            clear = sum(effect.excludes() for effect in effects)
            size = np.median([abs(effect.value) for effect in effects])
            parts.append(f"{clear} of {len(effects)} {name} (median size {number(size, 1)} %)")
    return f"Significantly different from 0: {', '.join(parts)}." if parts else ""


def curvature_plot(response: Response) -> Markup | None:
    """Curvature of every measurable task; None where the fit has none."""
    if not response.curved:
        return None
    points = [
        Point(task, response.curve(task))
        for task in response.scored
        if task not in response.unmeasurable
    ]
    if not points:
        return None
    axis = Axis("Curvature of every score, in percent per squared doubling", 0.0, 1, True, PERCENT)
    return figures.dots(points, axis)


def check_plot(response: Response) -> Markup | None:
    """Predicted against observed changes of left-out trials, measurable tasks alone."""
    check = response.check
    clouds = []
    for i, task in enumerate(response.scored):
        if task in response.unmeasurable:
            continue
        share = number(100 * check.explained[i], 0)
        title = f"{task}: {share} % of the squared changes explained"
        predicted = check.predicted[:, i].tolist()
        observed = check.observed[:, i].tolist()
        points = tuple(zip(predicted, observed, strict=True))
        clouds.append(Cloud(title, points))
    return scatter(clouds) if clouds else None


def tables(measured: Measured) -> list[Table]:
    """All numbers: effects, scores, and one table per prediction."""
    predictions = [prediction_table(frozen) for frozen in measured.predictions]
    return response_tables(measured) + predictions


def response_tables(measured: Measured) -> list[Table]:
    """Effects and scores; empty without a fit."""
    if measured.response is None:
        return []
    return [effect_table(measured.response), score_table(measured.response)]


def effect_table(response: Response) -> Table:
    """The heat map with intervals; of many tasks, the largest and the smallest effects."""
    lever = response.lever
    title = (
        f"Effect of doubling a {lever.one} (row) on a score (column), the other {lever.several}"
        " unchanged, in %"
    )
    noise = f"Shrunk by empirical Bayes. In brackets: {NOISE}."
    if max(len(response.tasks), len(response.scored)) > MANY:
        return _strongest_effects(response, noise)
    rows = []
    for unit in response.tasks:
        effects = [response.effect(unit, task) for task in response.scored]
        rows.append((unit, *_cells(effects)))
    return Table(title, (f"{lever.one} of", *response.scored), tuple(rows), note=noise)


def _strongest_effects(response: Response, noise: str) -> Table:
    def cell(i: int, j: int) -> str:
        effect = response.effect(response.tasks[i], response.scored[j])
        return with_interval(effect, 1, signed=True)

    lever = response.lever
    table = pairs_table(
        f"Effect of doubling a {lever.one} on a score, the other {lever.several} unchanged, in %",
        (f"{lever.one} of", "score of", "effect"),
        (response.tasks, response.scored),
        response.effects,
        cell,
    )
    return replace(table, note=f"{noise} {table.note} All: `effects.csv` beside this report.")


def _cells(intervals: Sequence[Interval], digits: int = 1) -> list[str]:
    return [with_interval(interval, digits, signed=True) for interval in intervals]


def score_table(response: Response) -> Table:
    """What is known of every score."""
    rows = []
    check = response.check
    for i, task in enumerate(response.scored):
        curve = response.curve(task) if response.curved else None
        rows.append(
            (
                task,
                number(response.level[i]),
                number(response.noise[i], 1),
                DASH if curve is None else with_interval(curve, 1, signed=True),
                number(check.error[i], 1),
                number(check.baseline[i], 1),
                number(100 * check.explained[i], 0),
                "no" if task in response.unmeasurable else "yes",
            )
        )
    header = (
        "task",
        f"score at equal {response.lever.several}",
        "noise of one run, %",
        "curvature, % per squared doubling",
        "error out of sample, %",
        "without effects, %",
        "explained, %",
        "measurable",
    )
    return Table(
        "Every score: noise, curvature, and predictions of trials that were left out",
        header,
        tuple(rows),
        words=frozenset({7}),
        note=f"In brackets: {NOISE}.",
    )


def prediction_table(frozen: Frozen) -> Table:
    """What was predicted, and what came out."""
    header = ["task", frozen.lever.one, "predicted change, %", "floor, %"]
    outcomes: dict[str, Outcome] = {}
    if frozen.verdict is not None:
        outcomes = {outcome.task: outcome for outcome in frozen.verdict.outcomes}
        seeds = plural(len(frozen.seeds), "seed")
        header += [f"interval for {seeds}, %", "outcome, %", "inside"]
    rows = []
    for task in dict.fromkeys([*frozen.weights, *frozen.changes]):
        row = [task, *_predicted_cells(frozen, task)]
        if outcomes:
            row += _outcome_cells(outcomes.get(task))
        rows.append(tuple(row))
    return Table(
        f"Prediction for the goal {frozen.goal}, written {frozen.date[:10]}",
        tuple(header),
        tuple(rows),
        words=frozenset({6}),
        note=prediction_sentence(frozen),
    )


def _predicted_cells(frozen: Frozen, task: str) -> list[str]:
    weight = frozen.weights.get(task)
    change = frozen.changes.get(task)
    floor = frozen.floors.get(task)
    return [
        DASH if weight is None else number(weight),
        DASH if change is None else with_interval(change, 1, signed=True),
        DASH if floor is None else number(floor, 1, signed=True),
    ]


def _outcome_cells(outcome: Outcome | None) -> list[str]:
    if outcome is None:
        return [DASH] * 3
    observed = number(outcome.observed, 1, signed=True)
    inside = "yes" if outcome.inside else "no"
    return [bracket(outcome.predicted, 1, signed=True), observed, inside]


def prediction_sentence(frozen: Frozen) -> str:
    """How the prediction came out."""
    if frozen.verdict is None:
        return frozen.problem or (
            f"No outcome yet: it needs final models with these {frozen.lever.several} and with"
            " equal weights (EW), trained with the same seeds."
        )
    outcomes = frozen.verdict.outcomes
    inside = sum(outcome.inside for outcome in outcomes)
    seeds = listed([str(seed) for seed in frozen.seeds])
    text = (
        f"Test scores against equal weights (EW), training seeds {seeds}: {inside} of"
        f" {plural(len(outcomes), 'outcome')} inside the 95 % prediction intervals"
    )
    if not np.isnan(frozen.verdict.correlation):
        text += f", correlation {number(frozen.verdict.correlation, 2)}"
    return f"{text}. {frozen.problem}".strip()


def outcome_plot(frozen: Frozen, response: Response | None) -> Markup | None:
    """Prediction intervals with what came out, measurable tasks alone; None without outcomes."""
    outcomes = frozen.verdict.outcomes if frozen.verdict else ()
    hidden = response.unmeasurable if response else ()
    points = [
        Point(outcome.task, outcome.predicted, outcome.observed)
        for outcome in outcomes
        if outcome.task not in hidden
    ]
    if not points:
        return None
    aria = f"Predicted and observed changes for the goal {frozen.goal}, in percent"
    return figures.dots(points, Axis(aria, 0.0, 1, True, PERCENT))
