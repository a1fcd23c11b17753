"""The page: one HTML file that needs nothing else, no script and no network."""

from __future__ import annotations

import os
import re
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup, escape

from cotbal.balance import Balance
from cotbal.recipe.recipe import Recipe
from cotbal.report import amount_views, figures, losses, tables
from cotbal.report.amounts import AmountCurves
from cotbal.report.comparison import Comparison
from cotbal.report.contents import Contents
from cotbal.report.examples import Example
from cotbal.report.figures import Axis, Point
from cotbal.report.formatting import listed
from cotbal.report.models import models_of
from cotbal.report.stale import stale_scores
from cotbal.report.summary import summary
from cotbal.weightings import method_label

TITLES = {
    "summary": "Summary",
    "flags": "What was flagged",
    "weights": "Weights",
    "parts": "Parts of the weights",
    "contribution": "Contribution",
    "difficulty": "Difficulty",
    "scores": "Score matrix",
    "final": "Final models",
    "amounts": "Score against training amount",
    "losses": "Loss curves",
    "examples": "Validation examples",
    "cost": "Cost",
    "made": "How it was made",
    "licences": "Licences",
}


def page(
    contents: Contents,
    found: Comparison,
    curves: AmountCurves | None,
    examples: dict[str, list[Example]],
) -> str:
    """The report as HTML; every text is escaped by the templates."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cotbal.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": cell, "name": name, "prose": prose}
    parts = {**_parts(contents, found, examples), "amounts": _amounts(curves) if curves else None}
    return environment.get_template("page.html").render(
        contents=contents,
        sections={id: title for id, title in TITLES.items() if parts[id]},
        parts=parts,
        sentences=summary(contents, found),
        missing=_missing(contents, found),
        found=found,
    )


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
    """A message in which what stands between backticks is code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _parts(
    contents: Contents, found: Comparison, examples: dict[str, list[Example]]
) -> dict[str, Any]:
    """What each section shows; a section without anything is left out."""
    balance = contents.balance
    return {
        "summary": True,
        "flags": _flags(contents) if balance or contents.plan else None,
        "weights": (
            balance and {"figure": _weights(balance), "table": tables.weights_table(balance)}
        ),
        "parts": balance and [tables.parts_table(balance), tables.measures_table(balance)],
        "contribution": balance and _contribution(balance),
        "difficulty": balance and _difficulty(balance),
        "scores": tables.scores_table(contents) if contents.matrix else None,
        "final": _finals(contents, found) if found.rows else None,
        "losses": _losses(contents),
        "examples": examples,
        "cost": tables.cost_table(contents) if contents.runs else None,
        "made": _made(contents) if contents.recipe or contents.plan else None,
        "licences": contents.licences,
    }


def _flags(contents: Contents) -> dict[str, Any]:
    balance = contents.balance
    failures = [
        f"{run.name} failed: {run.failure}" for run in contents.runs if run.status == "failed"
    ]
    warnings = [
        *(balance.warnings if balance else ()),
        *contents.plan.get("warnings", []),
        *stale_scores(contents),
        *failures,
    ]
    return {
        "flags": balance.flags if balance else (),
        "warnings": warnings,
        "judged": balance is not None,
    }


def _points(names: tuple[str, ...], values: np.ndarray, bounds: np.ndarray | None) -> list[Point]:
    pairs = [
        None if bounds is None or np.isnan(b[0]) else (float(b[0]), float(b[1]))
        for b in _each(bounds, names)
    ]
    return [
        Point(name, float(value), pair)
        for name, value, pair in zip(names, values, pairs, strict=True)
    ]


def _each(bounds: np.ndarray | None, names: tuple[str, ...]) -> np.ndarray:
    return np.full((len(names), 2), np.nan) if bounds is None else bounds


def _weights(balance: Balance) -> Markup:
    bounds = balance.part_intervals["all"] if balance.part_intervals else None
    axis = Axis(
        f"Weights of {len(balance.units)} units with 95 % intervals; the line marks weight 1", 1.0
    )
    return figures.dots(_points(balance.units, balance.parts["all"], bounds), axis)


def _contribution(balance: Balance) -> dict[str, Any]:
    bounds = balance.intervals["contribution"] if balance.intervals else None
    return {
        "figure": figures.heat_map(balance.units, balance.contribution, bounds),
        "legend": figures.heat_map_legend(balance.contribution),
        "table": tables.contribution_table(balance),
    }


def _difficulty(balance: Balance) -> Markup:
    bounds = balance.intervals["difficulty"] if balance.intervals else None
    axis = Axis(f"Difficulty of {len(balance.units)} units with 95 % intervals", 0.0)
    return figures.bars(_points(balance.units, balance.difficulty, bounds), axis)


def _finals(contents: Contents, found: Comparison) -> dict[str, Any]:
    """Tables of the models, and one figure: every method's improvement, or with two methods their
    change by task.
    """
    return {
        "tables": tables.variant_tables(contents, found) + tables.model_tables(found),
        "figure": _changes(found) if found.against else None,
        "by_task": len(found.against) == 1,
        "labels": [method_label(name) for name in found.methods],
        "reference": method_label(found.reference) if found.reference else None,
        "seeds": len(found.seeds),
    }


def _changes(found: Comparison) -> Markup:
    assert found.reference is not None
    reference = method_label(found.reference)
    if len(found.against) > 1:
        axis = Axis(
            f"Improvement of every method over {reference}, in percent, with 95 % intervals",
            0.0,
            2,
            True,
            " %",
        )
        averages = {method_label(name): each.average for name, each in found.against.items()}
        return figures.dots([Point(name, d.value, d.bounds) for name, d in averages.items()], axis)
    method, only = next(iter(found.against.items()))
    aria = (
        f"Relative change of {method_label(method)} against {reference} by task, in percent, with"
        " 95 % intervals"
    )
    points = [Point(task, d.value, d.bounds) for task, d in only.per_task.items()]
    points.append(Point("mean over tasks", only.average.value, only.average.bounds))
    return figures.dots(points, Axis(aria, 0.0, 1, True, " %"))


def _amounts(curves: AmountCurves) -> dict[str, Any]:
    return {
        "panels": amount_views.panels(curves),
        "sentences": amount_views.sentences(curves),
        "tables": amount_views.tables(curves),
        "alone": any(each.alone for each in curves.tasks),
        "seeds": len(curves.matrices),
        "left_out": curves.left_out,
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
    ignored = [run.outcome.get("ignored_generation_settings", {}) for run in contents.runs]
    listed = (f"{name}={value}" for settings in ignored for name, value in settings.items())
    return ", ".join(dict.fromkeys(listed))


def _recipe_text(recipe: Recipe) -> str:
    """The recipe without the folder that holds all data: where it lies on one machine is nobody
    else's business.
    """
    folder = os.path.commonpath([recipe.images, *(task.train for task in recipe.mixture.tasks)])
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


def _missing(contents: Contents, found: Comparison) -> list[str]:
    """What this report does not show, and why."""
    reasons = {
        "the weights and what they are made of, because there is no balance.json": (
            not contents.balance
        ),
        "the score matrix, because there is no scores.csv": not contents.matrix,
        "the final models, because none is done": not found.rows,
        "runs, examples and cost, because there are no runs": not contents.runs,
    }
    waiting = [method_label(name) for name in models_of(contents) if name not in found.methods]
    reasons[f"{listed(waiting)}, because other training seeds of them are done"] = bool(waiting)
    return [reason for reason, holds in reasons.items() if holds]
