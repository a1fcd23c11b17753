"""Final runs whose tasks are sampled by ratios: plan, cost, names and files."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotbal.data.files import read_json
from cotbal.errors import CotbalError, RecipeError, RunError
from cotbal.jobs import pipeline
from cotbal.jobs.execute import Options
from cotbal.jobs.inputs import open_inputs
from cotbal.jobs.plan import Prepared, make_plan
from cotbal.jobs.rundir import RunDir
from cotbal.recipe.recipe import load_recipe
from cotbal.recipe.runs import Run, cost, curve_runs, drawn, portion_size
from cotbal.report import write_report
from helpers.errors import raises
from helpers.pipeline_fakes import EXECUTOR, TRAIN

OPTIONS = Options(executor=EXECUTOR)
WEIGHTS = {"ocr": 1.5, "vqa": 0.5, "count": 1.0}


@pytest.fixture
def steered(tmp_path: Path) -> Path:
    """As `cotbal steer` writes it."""
    return written(tmp_path / "weights-ocr.json", WEIGHTS)


def written(path: Path, weights: dict[str, float]) -> Path:
    path.write_text(json.dumps({"weights": weights, "tasks": weights, "ratios": weights}))
    return path


def job(path: Path, ratios: Path, *overrides: str) -> Prepared:
    return pipeline.plan(load_recipe(path, overrides), RunDir(path.parent / "run"), (), ratios)


def test_the_plan_shows_what_the_run_costs(recipe_path: Path, steered: Path) -> None:
    plan = job(recipe_path, steered).plan
    planned = plan.named("ratios:ocr")
    assert planned.run.weighting == "ew"
    assert planned.run.ratios == {**WEIGHTS, "chat": 1.0}
    assert (planned.kind, planned.records, planned.share) == ("final", 4 * TRAIN, 1.0)
    entry = next(run for run in plan.to_json()["runs"] if run["name"] == "ratios:ocr")
    assert entry["ratios"] == {**WEIGHTS, "chat": 1.0}
    assert next(run for run in plan.to_json()["runs"] if run["name"] == "mini")["ratios"] is None


def test_the_run_is_apart_from_every_other(recipe_path: Path, steered: Path) -> None:
    root = RunDir(recipe_path.parent / "run")
    pipeline.train(pipeline.plan(load_recipe(recipe_path), root, ("ew",)), "ew", OPTIONS)
    paths = pipeline.train(job(recipe_path, steered), "ratios:ocr", OPTIONS)
    assert paths.root == recipe_path.parent / "run" / "final" / "ratios-ocr"
    content = read_json(paths.job)
    assert content["weights"] is None
    assert content["run"]["ratios"] == {**WEIGHTS, "chat": 1.0}
    assert content["keep_checkpoint"] is True
    plan = read_json(recipe_path.parent / "run" / "plan.json")
    assert {"ew", "ratios:ocr"} <= {run["name"] for run in plan["runs"]}
    assert "ratios:ocr" in write_report(recipe_path.parent / "run").read_text()


def test_other_ratios_under_the_same_name_are_noticed(recipe_path: Path, steered: Path) -> None:
    pipeline.train(job(recipe_path, steered), "ratios:ocr", OPTIONS)
    written(steered, {**WEIGHTS, "ocr": 1.4})
    with raises(RunError, "changed-settings", "run.ratios"):
        pipeline.train(job(recipe_path, steered), "ratios:ocr", OPTIONS)


def test_members_of_a_group_share_a_ratio(recipe_path: Path, tmp_path: Path) -> None:
    file = written(tmp_path / "weights.json", {"reading": 2.0, "count": 1.0})
    grouped = ("tasks.ocr.group=reading", "tasks.vqa.group=reading")
    ratios = job(recipe_path, file, *grouped).plan.named("ratios").run.ratios
    assert ratios == {"ocr": 2.0, "vqa": 2.0, "count": 1.0, "chat": 1.0}


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("weights.json", "ratios"),
        ("weights-ocr+vqa.json", "ratios:ocr+vqa"),
        ("my best/mine: 2.json", "ratios:mine-2"),
    ],
)
def test_names(file: str, name: str) -> None:
    assert pipeline.ratios_run_name(Path(file)) == name


def test_weights_of_other_units_are_rejected(recipe_path: Path, tmp_path: Path) -> None:
    file = written(tmp_path / "weights.json", {"ocr": 1.0, "vqa": 1.0})
    with raises(CotbalError, "missing-weights", "count"):
        job(recipe_path, file)


def test_too_many_passes_are_rejected_before_anything_runs(
    recipe_path: Path, tmp_path: Path
) -> None:
    """Of the 4 equal tasks, ocr would get 20 / 21.2 of an epoch: 3.77 passes."""
    file = written(tmp_path / "weights.json", {"ocr": 20.0, "vqa": 0.1, "count": 0.1})
    assert job(recipe_path, file).plan.named("ratios").records == 4 * TRAIN
    with raises(RecipeError, "too-many-passes", "ratios", "ocr", "3.77", "max_passes = 3.5"):
        job(recipe_path, file, "optimization.max_passes=3.5")
    assert job(recipe_path, file, "optimization.max_passes=3.8").plan
    with raises(RecipeError, "invalid-recipe", "optimization.max_passes"):
        load_recipe(recipe_path, ("optimization.max_passes=0.5",))


@given(st.floats(0.2, 5), st.fractions(Fraction(1, 50), 1, max_denominator=50))
def test_ratios_act_on_what_the_portion_of_a_run_holds(ratio: float, fraction: Fraction) -> None:
    sizes = {"ocr": {"full": 400}, "vqa": {"full": 90}}
    names = {task: str(fraction) for task in sizes}
    run = Run("trial:0", names, "ew", (), (), 0, {"ocr": ratio, "vqa": 1.0, "chat": 1.0})
    counts = drawn(run, sizes)
    held = {task: portion_size(size["full"], fraction) for task, size in sizes.items()}
    assert sum(counts.values()) == sum(held.values()) == cost(run, sizes)
    assert set(counts) == {"ocr", "vqa"}


def test_tokens_of_the_plan_follow_the_ratios(recipe_path: Path) -> None:
    recipe = load_recipe(recipe_path)
    inputs = replace(open_inputs(recipe), tokens={"ocr": 10.0, "vqa": 1.0, "count": 1.0})
    (plain,) = curve_runs(recipe.mixture, ("1/2",), alone=False)
    sampled = replace(plain, name="more", ratios={"ocr": 2.0, "vqa": 0.5, "count": 0.5})
    runs = [(run, "curve") for run in (plain, sampled)]
    first, second = make_plan(recipe, inputs, runs, RunDir(recipe_path.parent / "run")).runs
    assert (first.records, second.records) == (96, 96)
    assert (first.tokens, second.tokens) == (32 * 12, 64 * 10 + 32)
