"""A task without training data: answered by final models and the base checkpoint, and nowhere in
training or weights.
"""

from __future__ import annotations

import html
import json
from pathlib import Path

import pytest

from cotbal.data.files import read_json
from cotbal.export import Order, export
from cotbal.jobs import pipeline
from cotbal.jobs.compare import plan_comparison, run_comparison
from cotbal.jobs.execute import Options
from cotbal.jobs.inputs import differences, identity, open_inputs, write_portions
from cotbal.jobs.plan import Prepared
from cotbal.jobs.rescoring import rescore
from cotbal.jobs.resolution import resolution
from cotbal.jobs.response import plan_trials, read_response, run_trials, untrained_scores
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.status import status
from cotbal.recipe.recipe import Recipe, load_recipe
from cotbal.recipe.runs import final_run, plan_probes
from cotbal.report import write_comparison, write_report
from cotbal.report.contents import read_contents
from cotbal.report.model_tables import only_evaluated_table
from cotbal.report.models import compare_all
from cotbal.response import choose_weights, read_trials
from cotbal.scores.matrix import read_scores
from helpers.pipeline_fakes import EXECUTOR, TASKS

OPTIONS = Options(executor=EXECUTOR)
GUARD = "tasks.guard={validation: vqa_validation.jsonl, test: vqa_test.jsonl}"
BASE = "final/base-checkpoint"


def guarded(path: Path, *overrides: str) -> Recipe:
    return load_recipe(path, (GUARD, *overrides))


def job(path: Path, *weightings: str) -> Prepared:
    return pipeline.plan(guarded(path), RunDir(path.parent / "run"), weightings or ("cotbal",))


def test_inputs_and_portions(recipe_path: Path, tmp_path: Path) -> None:
    recipe = guarded(recipe_path)
    inputs = open_inputs(recipe)
    assert "guard" not in inputs.sizes
    assert inputs.evaluation["guard.validation"] == inputs.evaluation["vqa.validation"]
    assert inputs.opened["guard.test"].digest == inputs.opened["vqa.test"].digest
    assert "guard.train" not in inputs.opened
    write_portions(recipe, inputs, RunDir(tmp_path))
    assert {path.stem for path in (tmp_path / "portions").glob("*.csv")} == {*TASKS, "chat"}


def test_it_invalidates_no_probe_and_adds_its_test_to_final_runs(recipe_path: Path) -> None:
    """A guard may be added to a mixture that has been probed already."""
    plain, recipe = load_recipe(recipe_path), guarded(recipe_path)
    assert plan_probes(recipe.mixture) == plan_probes(plain.mixture)
    inputs = open_inputs(recipe)
    before, after = (
        identity(recipe, final_run(chosen.mixture, "ew"), inputs, "digest", None)
        for chosen in (plain, recipe)
    )
    (line,) = differences(before, after)
    assert line.startswith("tasks.guard.test: was None")


def test_one_with_a_validation_set_alone_changes_no_run_at_all(recipe_path: Path) -> None:
    plain = load_recipe(recipe_path)
    recipe = load_recipe(recipe_path, ("tasks.guard={validation: vqa_validation.jsonl}",))
    assert final_run(recipe.mixture, "ew") == final_run(plain.mixture, "ew")
    prepared = pipeline.plan(recipe, RunDir(recipe_path.parent / "run"))
    assert prepared.plan.untrained == ()


def test_the_plan_has_the_base_checkpoint_and_names_the_task(recipe_path: Path) -> None:
    prepared = job(recipe_path, "ew")
    (base,) = prepared.plan.untrained
    assert (base.records, base.answers, base.share) == (0, 40, 0.0)
    assert base.paths.root == recipe_path.parent / "run" / BASE
    assert sum("guard" in warning for warning in prepared.warnings) == 1
    assert prepared.plan.named("ew").answers == 5 * 40


def test_a_job_weighs_without_it_and_scores_it(recipe_path: Path) -> None:
    result = pipeline.run(job(recipe_path, "ew", "cotbal"), OPTIONS)
    root = RunDir(recipe_path.parent / "run")
    assert tuple(result.weights) == TASKS
    assert read_scores(root.score_table).tasks == TASKS
    assert set(read_json(root.weights)["tasks"]) == {*TASKS, "chat"}
    final = read_json(root.final("cotbal").job)
    assert set(final["weights"]) == {*TASKS, "chat"}
    assert "guard" not in final["run"]["portions"]
    for run in ("ew", "cotbal", "base-checkpoint"):
        assert root.final(run).scores("guard", "test").exists(), run
    assert not root.final("base-checkpoint").scores("vqa", "test").exists()
    assert not root.probe("mini").scores("guard", "validation").exists()
    states = {state.run: state.state for state in status(root)}
    assert set(states.values()) == {"done"}
    assert "base-checkpoint" in states
    rescored = {(score.run, score.task) for score in rescore(root, lambda *_: None).scores}
    assert (BASE, "guard") in rescored
    assert load_recipe(root.recipe).mixture == guarded(recipe_path).mixture


def test_the_report_holds_final_models_against_the_base_checkpoint(recipe_path: Path) -> None:
    recipe, root = guarded(recipe_path), RunDir(recipe_path.parent / "run")
    study = plan_comparison(recipe, root, ("stl", "ew", "tla"), (0, 1))
    run_comparison(study, OPTIONS)
    comparison = write_comparison(root.root)
    assert comparison.reference == "stl"
    assert all("guard" not in against.per_task for against in comparison.against.values())
    numbers = json.loads((root.comparison / "comparison.json").read_text())["only_evaluated"]
    assert numbers["reference"] == "base-checkpoint"
    assert set(numbers["against"]) == {"EW", "TLA"}
    base, scores = (_scores(root, seed) for seed in (None, (0, 1)))
    expected = 100 * (sum(scores) / 2 / base[0] - 1)
    assert numbers["against"]["EW"]["guard"]["value"] == pytest.approx(expected)
    assert numbers["against"]["EW"]["guard"]["interval"] is not None
    assert "guard" not in (root.comparison / "results.csv").read_text()
    page = write_report(root.root).read_text()
    others = compare_all(read_contents(root.root)).only_evaluated
    assert others is not None
    table = only_evaluated_table(others)
    assert table.title in html.unescape(page)
    assert table.title in (root.report / "tables.md").read_text()


def _scores(root: RunDir, seeds: tuple[int, ...] | None) -> list[float]:
    """Scores of the guard: of the base checkpoint, or of EW with these seeds."""
    runs = [root.final("base-checkpoint")]
    if seeds is not None:
        runs = [(root.seeded(seed) if seed else root).final("ew") for seed in seeds]
    files = [read_json(run.scores("guard", "test")) for run in runs]
    return [file["metrics"]["exact_match"]["score"] for file in files]


def test_without_the_base_checkpoint_the_reference_is_ew(recipe_path: Path) -> None:
    recipe, root = guarded(recipe_path), RunDir(recipe_path.parent / "run")
    run_comparison(plan_comparison(recipe, root, ("ew", "tla"), (0,)), OPTIONS)
    root.final("base-checkpoint").outcome.unlink()
    write_comparison(root.root)
    numbers = json.loads((root.comparison / "comparison.json").read_text())["only_evaluated"]
    assert numbers["reference"] == "EW"
    assert set(numbers["against"]) == {"TLA"}


def test_a_recipe_without_such_tasks_has_no_such_table(recipe_path: Path) -> None:
    recipe, root = load_recipe(recipe_path), RunDir(recipe_path.parent / "run")
    run_comparison(plan_comparison(recipe, root, ("ew", "tla"), (0,)), OPTIONS)
    assert write_comparison(root.root).only_evaluated is None
    assert not root.final("base-checkpoint").root.exists()


def test_an_export_names_it_as_left_out(recipe_path: Path, tmp_path: Path) -> None:
    recipe, root = guarded(recipe_path), RunDir(recipe_path.parent / "run")
    pipeline.balance(job(recipe_path), OPTIONS)
    for trainer in ("ratios", "llamafactory"):
        guide = export(Order(recipe, root), trainer, tmp_path / trainer)
        assert "guard" not in guide.table
        assert "guard" in guide.lost


@pytest.mark.parametrize("lever", ["weights", "ratios"])
def test_trials_score_it_and_have_no_weight_of_it(recipe_path: Path, lever: str) -> None:
    recipe = guarded(recipe_path, f"response.lever={lever}", "tasks.ocr.group=text")
    prepared = plan_trials(recipe, RunDir(recipe_path.parent / "run"))
    *trials, base = (p.run for p in prepared.plan.runs)
    assert {frozenset(run.portions) for run in trials} == {frozenset({*TASKS, "chat"})}
    assert {run.validation for run in trials} == {(*TASKS, "chat", "guard")}
    assert all(run.ratios is None or "guard" not in run.ratios for run in trials)
    assert (base.portions, base.validation, base.test) == ({}, ("guard",), ())
    slopes = resolution(prepared).slopes
    assert slopes["guard"] == pytest.approx(max(slopes.values()))
    response = run_trials(prepared, OPTIONS)
    root = prepared.root
    table = read_trials(root.trial_table)
    assert (len(table.scores), table.scored) == (8, (*TASKS, "chat", "guard"))
    assert f"{lever[:-1]}:guard" not in root.trial_table.read_text()
    assert "guard" not in read_json(root.trial("trial:0").job)["run"]["portions"]
    assert "guard" not in response.unit_of_task
    choice = choose_weights(response, "ocr")
    assert set(choice.weights) == {"text", "vqa", "count"}
    assert {"guard", "chat"} <= {guard.task for guard in choice.guards}
    score = read_json(root.trial("trial:base-checkpoint").scores("guard", "validation"))
    assert untrained_scores(root) == {"guard": score["metrics"]["exact_match"]["score"]}
    assert {state.state for state in status(root)} == {"done"}
    assert write_report(root.root).exists()


def test_the_base_checkpoint_is_no_trial(recipe_path: Path) -> None:
    """Its scores are beside the table of trials, and other trials do not need it again."""
    root = RunDir(recipe_path.parent / "run")
    run_trials(plan_trials(guarded(recipe_path, "response.step=0.5"), root), OPTIONS)
    assert read_response(root).trials == 8
    written = root.trial("trial:base-checkpoint").outcome.stat().st_mtime_ns
    again = Options(executor=EXECUTOR, restart_changed=True)
    run_trials(plan_trials(guarded(recipe_path), root), again)
    assert root.trial("trial:base-checkpoint").outcome.stat().st_mtime_ns == written
    pipeline.train(job(recipe_path, "ew"), "ew", OPTIONS)
    assert root.final("base-checkpoint").scores("guard", "test").exists()
    assert untrained_scores(RunDir(recipe_path.parent / "elsewhere")) == {}
