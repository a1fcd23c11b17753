"""`optimization.sampling`: how a recipe samples its tasks in every run; ratios multiply it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cotbal.data.files import read_json
from cotbal.errors import RecipeError, RunError
from cotbal.jobs import pipeline
from cotbal.jobs.compare import plan_comparison, run_comparison
from cotbal.jobs.execute import Options
from cotbal.jobs.response import design_of, plan_trials, read_response, run_trials
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.runs import prepare
from cotbal.jobs.sampling import dominance, sampling_of, with_sampling
from cotbal.jobs.steering import steer
from cotbal.recipe.recipe import load_recipe
from cotbal.recipe.runs import Run, drawn, final_run
from cotbal.report import prediction_tables, write_report
from helpers.errors import names_all, raises
from helpers.pipeline_fakes import EXECUTOR, TASKS, TRAIN

OPTIONS = Options(executor=EXECUTOR)
OWN = "optimization.sampling={ocr: 2, vqa: 0.5}"
OF_TASKS = {"ocr": 2.0, "vqa": 0.5, "count": 1.0, "chat": 1.0}
SIZES = {"ocr": {"full": 400}, "vqa": {"full": 100}, "count": {"full": 25}, "chat": {"full": 7}}


def test_ratios_of_the_recipe_are_those_of_all_its_runs(recipe_path: Path) -> None:
    plan = pipeline.plan(load_recipe(recipe_path, [OWN]), RunDir(recipe_path.parent / "run")).plan
    assert {p.run.name for p in plan.runs} >= {"mini", "full:ocr"}
    assert {tuple((p.run.sampled or {}).items()) for p in plan.runs} == {tuple(OF_TASKS.items())}
    mini = plan.named("mini")
    assert mini.records == 3 * (TRAIN // 8), "as many records as without"


def test_an_exponent_is_that_of_temperature_sampling(recipe_path: Path) -> None:
    recipe = load_recipe(recipe_path, ["optimization.sampling=0.5"])
    plain = final_run(recipe.mixture, "ew")
    by_recipe = with_sampling(recipe, SIZES, plain)
    by_method = with_sampling(recipe, SIZES, final_run(recipe.mixture, "sampling:0.5"))
    assert by_recipe.sampled == by_method.sampled
    ratios = by_recipe.sampled or {}
    assert [ratios[task] / ratios["ocr"] for task in TASKS] == pytest.approx([1, 2, 4])
    assert ratios["chat"] == 1.0
    every_record = with_sampling(recipe, SIZES, final_run(recipe.mixture, "sampling:1"))
    assert set((every_record.sampled or {}).values()) == {1.0}, "in place of the recipe's"


def test_by_default_every_record_is_shown_once(recipe_path: Path) -> None:
    recipe = load_recipe(recipe_path)
    run = with_sampling(recipe, SIZES, final_run(recipe.mixture, "ew"))
    assert run.sampled is None
    assert sampling_of(recipe, SIZES) is None


def test_a_run_on_one_task_has_nothing_to_divide(recipe_path: Path) -> None:
    recipe = load_recipe(recipe_path, [OWN])
    alone = Run("solo:ocr", {"ocr": "full", "vqa": "none"}, "ew", ("ocr",), (), 0)
    assert with_sampling(recipe, SIZES, alone) is alone


def test_ratios_multiply_those_of_the_recipe(recipe_path: Path) -> None:
    recipe = load_recipe(recipe_path, [OWN])
    run = with_sampling(recipe, SIZES, final_run(recipe.mixture, "ew"))
    chosen = Run(**{**vars(run), "ratios": {"ocr": 0.5, "vqa": 2.0, "count": 1.0, "chat": 1.0}})
    assert chosen.sampled == dict.fromkeys(OF_TASKS, 1.0)
    full = {task: {"full": 40} for task in OF_TASKS}
    assert set(drawn(chosen, full).values()) == {40}


def test_members_of_a_group_share_the_ratio_of_its_name(recipe_path: Path) -> None:
    grouped = ("tasks.ocr.group=reading", "tasks.vqa.group=reading")
    recipe = load_recipe(recipe_path, [*grouped, "optimization.sampling={reading: 2}"])
    expected = {"ocr": 2.0, "vqa": 2.0, "count": 1.0, "chat": 1.0}
    assert sampling_of(recipe, SIZES) == expected


def test_a_group_counts_as_one_task_of_the_method(recipe_path: Path) -> None:
    recipe = load_recipe(recipe_path, ["tasks.ocr.group=g", "tasks.vqa.group=g"])
    sizes = {
        name: {"full": n} for name, n in (("ocr", 100), ("vqa", 300), ("count", 100), ("chat", 7))
    }
    run = with_sampling(recipe, sizes, final_run(recipe.mixture, "sampling:0"))
    assert run.ratios is not None
    expected = {"ocr": 0.4, "vqa": 0.4, "count": 1.6, "chat": 1.0}
    assert run.ratios == pytest.approx(expected)
    plain = final_run(recipe.mixture, "ew")
    assert with_sampling(recipe, sizes, plain).sampled is None


def test_probes_may_be_sampled_otherwise(recipe_path: Path) -> None:
    recipe = load_recipe(recipe_path, [OWN, "probes={optimization: {sampling: 1}}"])
    plan = pipeline.plan(recipe, RunDir(recipe_path.parent / "run"), ("ew",)).plan
    assert plan.named("mini").run.sampled is None
    assert plan.named("ew").run.sampled == OF_TASKS


@pytest.mark.parametrize(
    ("value", "code", "words"),
    [
        ("{orc: 2}", "unknown-unit", ("optimization.sampling", "'orc'", "ocr")),
        ("{chat: 2}", "unknown-unit", ("optimization.sampling", "chat")),
        ("{ocr: 0}", "invalid-recipe", ("optimization.sampling.ocr", "greater than 0")),
        ("{ocr: true}", "invalid-recipe", ("optimization.sampling.ocr", "true")),
        ("2", "invalid-recipe", ("optimization.sampling", "less than or equal to 1")),
        ("half", "invalid-recipe", ("optimization.sampling", "a number, or keys")),
        ("{ocr: 90}", "too-many-passes", ("ocr", "max_passes")),
    ],
)
def test_other_values_are_errors_before_anything_is_trained(
    recipe_path: Path, value: str, code: str, words: tuple[str, ...]
) -> None:
    root = RunDir(recipe_path.parent / "run")
    with raises(RecipeError, code, *words):
        changes = [f"optimization.sampling={value}", "optimization.max_passes=3"]
        recipe = load_recipe(recipe_path, changes)
        prepare(recipe, root, [(final_run(recipe.mixture, "ew"), "final")])
    assert not root.root.exists()


def test_another_sampling_is_another_training(recipe_path: Path) -> None:
    root = RunDir(recipe_path.parent / "run")
    pipeline.train(pipeline.plan(load_recipe(recipe_path), root, ("ew",)), "ew", OPTIONS)
    assert "run.ratios" not in read_json(root.final("ew").job)["identity"]
    with raises(RunError, "changed-settings", "run.ratios"):
        pipeline.train(pipeline.plan(load_recipe(recipe_path, [OWN]), root, ("ew",)), "ew", OPTIONS)


@pytest.mark.parametrize("lever", ["weights", "ratios"])
def test_weights_are_chosen_and_trained_relative_to_it(recipe_path: Path, lever: str) -> None:
    """From the trials over the choice to the report, which pairs it with EW of the same recipe."""
    changes = ["response.fraction=1", f"response.lever={lever}", OWN]
    recipe, root = load_recipe(recipe_path, changes), RunDir(recipe_path.parent / "run")
    prepared = plan_trials(recipe, root)
    run_trials(prepared, OPTIONS)
    rows = design_of(recipe).weights.tolist()
    for p, row in zip(prepared.plan.runs, rows, strict=True):
        ratios = dict(zip(TASKS, row, strict=True)) if lever == "ratios" else {}
        expected = {task: value * ratios.get(task, 1.0) for task, value in OF_TASKS.items()}
        assert p.run.sampled == pytest.approx(expected)
    reference = read_response(root).reference
    assert reference is None if lever == "weights" else reference == pytest.approx([1 / 3] * 3)
    steered, _ = steer(root, "ocr", {"*": None})
    run_comparison(plan_comparison(recipe, root, ("ew", "steer:ocr"), (0,)), OPTIONS)
    job = read_json(root.final("steer:ocr").job)
    assert job["run"]["sampling"] == OF_TASKS
    chosen = {**steered.choice.weights, "chat": 1.0}
    assert job["run"]["ratios"] == (chosen if lever == "ratios" else None)
    (table,) = prediction_tables(root.root)
    assert len(table.header) == 7, "prediction against outcome"
    write_report(root.root)
    shown = (root.report / "tables.md").read_text()
    shown = shown.partition("Sampling ratios that models were trained with")[2]
    header, _, first = shown.strip().splitlines()[:3]
    assert "EW" in header
    assert "| 2.000 |" in first


@pytest.mark.parametrize(
    ("largest", "methods", "change", "expected"),
    [
        (400, ["ew", "cotbal"], "name=a", True),
        (399, ["ew"], "name=a", False),
        (400, ["ew", "sampling:0.5"], "name=a", False),
        (400, ["ew"], "optimization.sampling=0.5", False),
        (400, ["ew"], "tasks.vqa.group=g", True),
    ],
)
def test_a_task_with_many_times_the_records_of_the_others_is_remarked_on(
    recipe_path: Path, largest: int, methods: list[str], change: str, expected: bool
) -> None:
    recipe = load_recipe(recipe_path, [change])
    counts = {"ocr": largest, "vqa": 125, "count": 75, "chat": 9000}
    sizes = {name: {"full": count} for name, count in counts.items()}
    remarks = dominance(recipe, sizes, methods)
    assert bool(remarks) == expected
    if expected:
        assert names_all(remarks[0], "ocr", "400", "600", "sampling")


def test_the_remark_is_part_of_the_plan(recipe_path: Path) -> None:
    train = recipe_path.parent / "ocr_train.jsonl"
    lines = train.read_text().splitlines()
    more = [json.loads(line) | {"id": f"{k}-{i}"} for k in range(5) for i, line in enumerate(lines)]
    train.write_text("".join(json.dumps(record) + "\n" for record in more))
    for change, expected in (("name=a", 1), ("optimization.sampling=0.5", 0)):
        prepared = pipeline.plan(
            load_recipe(recipe_path, [change]), RunDir(recipe_path.parent / "r")
        )
        assert sum("optimization.sampling" in remark for remark in prepared.warnings) == expected
