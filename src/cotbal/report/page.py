"""The page: one self-contained HTML file without network access. The only script is that of the
panel of weights, allowed by its hash.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from functools import cache
from itertools import chain
from typing import Any

import jinja2
from markupsafe import Markup, escape

from cotbal.balance import Balance
from cotbal.recipe.recipe import Recipe
from cotbal.report import curve_views, figures, heat_maps, losses, response_views
from cotbal.report.comparison import Comparison
from cotbal.report.contents import Contents
from cotbal.report.crowds import MANY
from cotbal.report.curves import DataCurves
from cotbal.report.examples import Example
from cotbal.report.figures import Axis, Point
from cotbal.report.flags import flag_table, stale_scores
from cotbal.report.formatting import listed, number
from cotbal.report.model_tables import cost_table, model_tables, variant_tables
from cotbal.report.models import models_of
from cotbal.report.panel import panel_of, script, script_hash
from cotbal.report.responses import Measured
from cotbal.report.summary import seed_notes, summary
from cotbal.report.tables import (
    Strong,
    contribution_table,
    measures_table,
    noise_words,
    parts_table,
    scores_table,
    weights_table,
)
from cotbal.scores.interval import SAMPLING_ONLY
from cotbal.weightings import method_label

FEW = 5  # runs that are named one by one
TITLES = {
    "summary": "Summary",
    "flags": "What was flagged",
    "weights": "Weights",
    "parts": "Parts of the weights",
    "contribution": "Contribution",
    "difficulty": "Difficulty",
    "scores": "Score matrix",
    "final": "Final models",
    "response": "Effect of weights",
    "curve": "Score against fraction of the data",
    "losses": "Loss curves",
    "examples": "Validation examples",
    "cost": "Cost",
    "made": "How it was made",
    "licences": "Licences",
}


def page(
    contents: Contents,
    comparison: Comparison,
    curves: DataCurves | None,
    measured: Measured | None,
    examples: dict[str, list[Example]],
) -> str:
    """The report as HTML; every text is escaped by the templates."""
    parts = {
        **dict.fromkeys(TITLES),
        "summary": True,
        "flags": _flags(contents),
        **(_balance(contents.balance) if contents.balance else {}),
        "scores": scores_table(contents, contents.matrix) if contents.matrix else None,
        "final": _finals(contents, comparison) if comparison.rows else None,
        "response": _response(contents, measured) if measured else None,
        "curve": _curve(contents, curves) if curves else None,
        "losses": _losses(contents),
        "examples": examples,
        "cost": cost_table(contents) if contents.runs else None,
        "made": _made(contents) if contents.recipe or contents.plan else None,
        "licences": contents.licences,
    }
    titles = dict(TITLES)
    if measured is not None:
        titles["response"] = f"Effect of {measured.lever.several}"
    template = _templates().get_template("page.html")
    return template.render(
        contents=contents,
        sections={id: title for id, title in titles.items() if parts[id]},
        parts=parts,
        sentences=summary(contents, comparison, measured),
        script=script(),
        script_hash=script_hash(),
        missing=_missing(contents, comparison),
        comparison=comparison,
        sampling_only=SAMPLING_ONLY,
        many=MANY,
    )


@cache
def _templates() -> jinja2.Environment:
    """The templates; each is compiled once per process."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cotbal.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": cell, "name": name, "prose": prose}
    environment.tests["strong"] = lambda text: isinstance(text, Strong)
    return environment


def cell(text: str) -> Markup:
    """A number with its interval below it in small print."""
    value, bracket, rest = text.partition(" [")
    return (
        Markup("{} <small>[{}</small>").format(value, rest)
        if bracket
        else Markup("{}").format(text)
    )


def name(text: str) -> Markup:
    """A name that may break after its separators, and whose equation numbers stay whole."""
    whole = str(escape(text)).replace("Eq. ", "Eq.&nbsp;")
    return Markup(re.sub(r"([_:/.-])(?=\w)", r"\1<wbr>", whole))


def prose(text: str) -> Markup:
    """A message in which text between backticks is code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _flags(contents: Contents) -> dict[str, Any] | None:
    balance = contents.balance
    if not balance and not contents.plan:
        return None
    failures = [
        f"{run.name} failed: {run.failure}" for run in contents.runs if run.status == "failed"
    ]
    warnings = [*contents.plan.get("warnings", []), *stale_scores(contents), *failures]
    if balance is None:
        return {"flags": (), "warnings": warnings, "checked": False}
    return {
        "table": flag_table(balance),
        "flags": balance.flags,
        "warnings": [*balance.warnings, *warnings],
        "checked": True,
    }


def _balance(balance: Balance) -> dict[str, Any]:
    """The sections from the weights to the difficulty."""
    units = balance.units
    weights = Axis(f"Weights of {len(units)} units; the line marks weight 1", 1.0)
    difficulty = Axis(f"Difficulty of {len(units)} units", 0.0)
    return {
        "weights": {
            "noise": noise_words(balance.part("all")),
            "figure": figures.dots(list(map(Point, units, balance.part("all"))), weights),
            "table": weights_table(balance),
        },
        "parts": [parts_table(balance), measures_table(balance)],
        "contribution": _contribution(balance),
        "difficulty": {
            "noise": noise_words(balance.measure("difficulty")),
            "figure": figures.bars(
                list(map(Point, units, balance.measure("difficulty"))), difficulty
            ),
        },
    }


def _contribution(balance: Balance) -> dict[str, Any]:
    units = balance.units
    section: dict[str, Any] = {
        "cells": len(units) <= MANY,
        "limit": number(heat_maps.limit_of(balance.contribution), 2),
        "table": contribution_table(balance),
    }
    if not section["cells"]:
        section["figure"] = heat_maps.contribution_image(units, balance.contribution)
        return section
    contributions = balance.contributions()
    section["figure"] = heat_maps.contribution_map(units, contributions)
    section["noise"] = noise_words(chain(*contributions))
    return section


def _finals(contents: Contents, comparison: Comparison) -> dict[str, Any]:
    """Tables of the models, and one figure: the improvement of every method, or with two methods
    their change by task.
    """
    return {
        "tables": variant_tables(contents, comparison) + model_tables(comparison),
        "figure": _changes(comparison) if comparison.against else None,
        "by_task": len(comparison.against) == 1,
        "labels": [method_label(name) for name in comparison.methods],
        "reference": method_label(comparison.reference) if comparison.reference else None,
        "seeds": len(comparison.seeds),
        "noise": noise_words(changes.average for changes in comparison.against.values()),
        "notes": seed_notes(comparison),
    }


def _changes(comparison: Comparison) -> Markup:
    assert comparison.reference is not None
    reference, against = method_label(comparison.reference), comparison.against
    if len(against) > 1:
        aria = f"Improvement of every method over {reference}, in percent"
        points = [Point(method_label(name), changes.average) for name, changes in against.items()]
        return figures.dots(points, Axis(aria, 0.0, 2, True, " %"))
    method, changes = next(iter(against.items()))
    aria = f"Relative change of {method_label(method)} against {reference} by task, in percent"
    points = [Point(task, change) for task, change in changes.per_task.items()]
    points.append(Point("mean over tasks", changes.average, is_summary=True))
    return figures.dots(points, Axis(aria, 0.0, 1, True, " %"))


def _curve(contents: Contents, curves: DataCurves) -> dict[str, Any]:
    drawn = tuple(curve for curve in curves.tasks if curve.task in contents.drawn)
    shown = replace(curves, tasks=drawn)
    return {
        "panels": curve_views.panels(shown),
        "sentences": curve_views.sentences(shown),
        "tables": curve_views.tables(curves),
        "alone": any(curve.alone for curve in curves.tasks),
        "seeds": len(curves.matrices),
        "noise": noise_words(curve_views.intervals(curves)),
        "learn": curve_views.LEARN if len(curves.matrices) == 1 else "",
        "left_out": curves.left_out,
    }


def _response(contents: Contents, measured: Measured) -> dict[str, Any]:
    """Figures and tables of the effect of weights; figures are None without a fit."""
    response = measured.response
    drawn: dict[str, Any] = dict.fromkeys(("map", "limit", "own", "curvature", "check"))
    if response is not None:
        drawn = {
            "map": response_views.effect_map(response),
            "limit": number(response_views.limit_of(response), 1),
            "own": response_views.own_plot(response),
            "curvature": response_views.curvature_plot(response),
            "check": response_views.check_plot(response),
        }
    predictions = []
    for frozen in measured.predictions:
        plot = response_views.outcome_plot(frozen, response)
        table = response_views.prediction_table(frozen)
        predictions.append({"goal": frozen.goal, "plot": plot, "table": table})
    return {
        **drawn,
        "cells": response is not None and max(len(response.tasks), len(response.scored)) <= MANY,
        "lever": measured.lever,
        "design": response_views.design_sentence(measured),
        "sentences": response_views.sentences(measured),
        "tables": response_views.response_tables(measured),
        "noise": response_views.NOISE,
        "panel": panel_of(contents, measured),
        "groups": response is not None and not set(response.tasks) <= set(response.scored),
        "predictions": predictions,
        "unreadable": measured.unreadable,
    }


def _losses(contents: Contents) -> dict[str, list[Markup]] | None:
    panels = {
        "probes": losses.probe_panels(contents),
        "finals": losses.final_panels(contents),
        "weights": losses.weight_panels(contents),
    }
    return panels if any(panels.values()) else None


def _made(contents: Contents) -> dict[str, Any]:
    return {
        "versions": _versions(contents),
        "seeds": _seeds(contents),
        "ignored": _ignored_settings(contents),
        "recipe": _recipe_text(contents.recipe) if contents.recipe else "",
    }


def _ignored_settings(contents: Contents) -> str:
    """Generation settings of the checkpoint that the runs left out, in the order of first use."""
    ignored: dict[str, None] = {}  # an ordered set
    for run in contents.runs:
        for name, value in run.outcome.get("ignored_generation_settings", {}).items():
            ignored[f"{name}={value}"] = None
    return ", ".join(ignored)


def _recipe_text(recipe: Recipe) -> str:
    """The recipe without the folder that holds all data: its path on one machine is private."""
    folders = [task.folder for task in recipe.mixture.tasks]
    folder = os.path.commonpath([recipe.images, *folders])
    if folder == os.path.dirname(folder):  # the root of the file system: there is no such folder
        return recipe.to_yaml()
    return recipe.to_yaml().replace(folder + os.sep, "").replace(folder, ".")


def _versions(contents: Contents) -> dict[str, str]:
    versions: dict[str, str] = dict(contents.plan.get("versions", {}))
    for run in contents.runs:
        for name, version in run.outcome.get("versions", {}).items():
            known = versions.setdefault(name, version)
            if version not in known.split(", "):
                versions[name] = f"{known}, {version}"
    return versions


def _seeds(contents: Contents) -> dict[str, int]:
    if not contents.recipe:
        return {}
    file = contents.recipe.file
    return {
        "order of the data and training": file.optimization.seed,
        "portions": file.portions.seed,
        "bootstrap": file.balance.seed,
    }


def _missing(contents: Contents, comparison: Comparison) -> list[str]:
    """What this report does not show, and why."""
    hidden = len(contents.tasks) - len(contents.drawn)
    waiting = [method_label(name) for name in models_of(contents) if name not in comparison.methods]
    damaged = [run.label for run in contents.runs if run.damaged]
    more = [f"{len(damaged) - FEW} others"] if len(damaged) > FEW else []
    reasons = {
        "the weights and what they are computed from, because there is no balance.json": (
            not contents.balance
        ),
        "the score matrix, because there is no scores.csv": not contents.matrix,
        "the final models, because none is done": not comparison.rows,
        "runs, examples and cost, because there are no runs": not contents.runs,
        f"{listed(waiting)}, trained with other seeds only": bool(waiting),
        f"loss curves, score curves and examples of {hidden} tasks with weights in the middle": (
            hidden > 0 and bool(contents.runs)
        ),
        f"the losses of {listed(damaged[:FEW] + more)}: expected training.jsonl as the training"
        " wrote it; found another file or none (`cotbal verify`)": bool(damaged),
    }
    return [reason for reason, holds in reasons.items() if holds]
