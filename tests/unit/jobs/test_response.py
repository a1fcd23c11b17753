"""`response`: which trials are planned, what they leave on disk, and what may not be mixed."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cotbal.data.files import read_json, read_jsonl, write_sealed_text
from cotbal.errors import CotbalError, RecipeError, RunError, RunsFailed
from cotbal.jobs import pipeline
from cotbal.jobs.execute import Options
from cotbal.jobs.forecast import forecast
from cotbal.jobs.plan import Prepared
from cotbal.jobs.rescoring import rescore
from cotbal.jobs.resolution import resolution, typical_noise
from cotbal.jobs.response import as_planned, design_of, plan_trials, read_response, run_trials
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.status import status
from cotbal.recipe.recipe import load_recipe
from cotbal.report import write_report
from cotbal.response import choose_weights, read_trials
from helpers.errors import raises
from helpers.pipeline_fakes import EXECUTOR, TASKS, TRAIN, VALIDATION, write_mixture
from helpers.pipeline_fakes.executor import EFFECT

OPTIONS = Options(executor=EXECUTOR)
RESTART = Options(executor=EXECUTOR, restart_changed=True)


def planned(path: Path, *overrides: str) -> Prepared:
    return plan_trials(load_recipe(path, overrides), RunDir(path.parent / "run"))


def changed(path: Path, **fields: dict[str, Any]) -> Path:
    """The recipe with other fields of its tasks."""
    content = yaml.safe_load(path.read_text())
    for task, of_task in fields.items():
        content["tasks"][task] |= of_task
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_the_default_costs_what_two_and_a_half_final_runs_cost(recipe_path: Path) -> None:
    plan = planned(recipe_path).plan
    assert [p.run.name for p in plan.runs] == [f"trial:{k}" for k in range(8)]
    assert {p.kind for p in plan.runs} == {"trial"}
    assert {p.records for p in plan.runs} == {4 * TRAIN * 5 // 16}
    assert {p.answers for p in plan.runs} == {4 * VALIDATION}
    assert sum(p.share for p in plan.runs) <= 2.5
    assert "2.50 x the final run" in plan.sentence()
    assert str(8 * 4 * VALIDATION) in plan.sentence(), "what they answer"
    assert not (recipe_path.parent / "run").exists()


@pytest.mark.parametrize("tasks", [2, 7, 8, 17, 40])
def test_any_number_of_tasks_is_planned_in_seconds(tmp_path: Path, tasks: int) -> None:
    names = [f"task{k}" for k in range(tasks)]
    path = write_mixture(tmp_path / "mixture", names, train=128, unbalanced=False)
    started = time.process_time()
    prepared = planned(path)
    shown = resolution(prepared)
    seconds = time.process_time() - started
    runs = len(prepared.plan.runs)
    assert runs == {2: 8, 7: 16, 8: 24, 17: 40, 40: 88}[tasks]
    assert sum(p.share for p in prepared.plan.runs) <= 2.5
    assert list(shown.slopes) == names
    assert all(0 < slope < 40 for slope in shown.slopes.values())
    assert seconds < 10


def test_pairs_share_a_seed_and_their_data(recipe_path: Path) -> None:
    prepared = planned(recipe_path, "response.seeds=[3, 5]", "response.fraction=1/2")
    runs, design = [p.run for p in prepared.plan.runs], design_of(prepared.recipe)
    for up, down in zip(runs[0:6:2], runs[1:6:2], strict=True):
        assert (up.seed, up.portions) == (down.seed, down.portions)
    np.testing.assert_array_equal(design.signs[0:6:2], -design.signs[1:6:2])
    assert {run.seed for run in runs} == {3, 5}
    assert dict(runs[0].portions) == dict.fromkeys((*TASKS, "chat"), "1/2")
    folders = {p.paths.root.relative_to(prepared.root.root).parent for p in prepared.plan.runs}
    assert folders == {Path("seed-3/trials"), Path("seed-5/trials")}


def test_weights_scores_and_design_are_joined_on_disk(recipe_path: Path) -> None:
    prepared = planned(recipe_path, "response.fraction=1")
    response = run_trials(prepared, OPTIONS)
    root = prepared.root
    trials = read_trials(root.trial_table)
    assert trials.tasks == TASKS
    assert trials.scored == (*TASKS, "chat"), "a task without a weight of its own is scored"
    np.testing.assert_allclose(trials.weights, design_of(prepared.recipe).weights)
    assert trials.seeds == ("0", "0", "1", "1", "0", "0", "0", "1")
    job = read_json(root.seeded(1).trial("trial:2").job)
    assert (job["kind"], job["keep_checkpoint"], job["run"]["test"]) == ("trial", False, [])
    assert job["weights"]["chat"] == 1
    assert job["weights"]["ocr"] == pytest.approx(trials.weights[2, 0])
    score = read_json(root.trial("trial:0").scores("vqa", "validation"))["metrics"]
    assert trials.scores[0, 1] == score["exact_match"]["score"]
    assert read_json(root.design) == {
        "runs": 8,
        "step": 0.75,
        "seeds": [0, 1],
        "fraction": "1",
        "lever": "weights",
        "units": {task: [task] for task in TASKS},
    }
    assert {state.kind for state in status(root)} == {"trial"}
    assert response.unit_of_task == {task: task for task in TASKS}
    for task in TASKS:
        own_slope = response.slope(task, task)
        assert own_slope.low > 0
        # Weights have the mean 1, so a doubling raises a weight by about two thirds of it.
        assert own_slope.value == pytest.approx(100 * np.log(2) * EFFECT * 2 / 3, abs=6)
        assert own_slope.value > abs(response.slope(task, "chat").value)
    assert not root.weights.exists()
    assert write_report(root.root).exists()


def test_the_same_design_with_sampling_ratios(recipe_path: Path) -> None:
    prepared = planned(recipe_path, "response.lever=ratios")
    design, runs = design_of(prepared.recipe), [p.run for p in prepared.plan.runs]
    assert {run.weighting for run in runs} == {"ew"}
    assert [list((run.ratios or {}).values()) for run in runs] == [
        pytest.approx([*row, 1.0]) for row in design.weights.tolist()
    ]
    assert len({p.records for p in prepared.plan.runs}) == 1, "as many records as with weights"
    response = run_trials(prepared, OPTIONS)
    header = prepared.root.trial_table.read_text().splitlines()[0]
    assert all(f"ratio:{task}" in header for task in TASKS)
    assert read_json(prepared.root.trial("trial:0").job)["weights"] is None
    assert response.slope("ocr", "ocr").low > 0
    assert response.reference == pytest.approx([1 / 3] * 3)
    with raises(RunError, "changed-settings", "lever"):
        run_trials(planned(recipe_path), OPTIONS)


def test_a_group_shares_a_weight_and_each_task_has_its_score(recipe_path: Path) -> None:
    path = changed(recipe_path, ocr={"group": "text"}, count={"group": "text"})
    prepared = planned(path, "response.fraction=1")
    response = run_trials(prepared, OPTIONS)
    assert response.tasks == ("text", "vqa")
    assert response.scored == (*TASKS, "chat")
    assert response.unit_of_task == {"ocr": "text", "vqa": "vqa", "count": "text"}
    assert read_json(prepared.root.design)["units"] == {"text": ["ocr", "count"], "vqa": ["vqa"]}
    weights = read_json(prepared.root.trial("trial:0").job)["weights"]
    assert weights["ocr"] == weights["count"] != weights["vqa"]
    assert response.slope("text", "count").value > 5
    assert response.effect("text", "count").value > 5, "an effect of its own weight, not of others"
    assert set(choose_weights(response, goal="count").weights) == {"text", "vqa"}


def test_a_killed_job_resumes(
    recipe_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = planned(recipe_path)
    monkeypatch.setenv("COTBAL_FAKE_FAIL", "trial:4;trial:7, seed 1")
    with pytest.raises(RunsFailed):
        run_trials(prepared, OPTIONS)
    with raises(RunError, "unfinished-trials", "trial:4", "trial:7"):
        read_response(prepared.root)
    monkeypatch.delenv("COTBAL_FAKE_FAIL")
    response = run_trials(planned(recipe_path), OPTIONS)
    assert response.trials == 8
    assert sorted(read_jsonl(log)) == sorted(f"trial:{k}" for k in range(8)), "each once"
    run_trials(planned(recipe_path), OPTIONS)
    assert len(read_jsonl(log)) == 8


@pytest.mark.parametrize(
    "change",
    ["runs=6", "step=0.5", "seeds=[0, 2]", "fraction=1/2"],
)
def test_trials_of_another_design_are_not_mixed(recipe_path: Path, change: str) -> None:
    run_trials(planned(recipe_path), OPTIONS)
    root = RunDir(recipe_path.parent / "run")
    before = {path: path.read_bytes() for path in root.root.rglob("*") if path.is_file()}
    other = planned(recipe_path, f"response.{change}")
    with raises(RunError, "changed-settings", change.partition("=")[0], root.root):
        run_trials(other, OPTIONS)
    assert {path: path.read_bytes() for path in before} == before
    response = run_trials(other, RESTART)
    assert response.trials == len(other.plan.runs)
    assert {paths.root for paths in root.trials} == {p.paths.root for p in other.plan.runs}
    assert all(state.state == "done" for state in status(root))
    assert root.root.joinpath("response.old-1", "trials.csv").exists(), "nothing is lost"


def test_trials_of_another_recipe_are_not_mixed(recipe_path: Path) -> None:
    run_trials(planned(recipe_path), OPTIONS)
    other = planned(recipe_path, "optimization.epochs=2")
    with raises(RunError, "changed-settings", "optimization.epochs"):
        run_trials(other, OPTIONS)
    with raises(RunError, "changed-settings", "units"):
        run_trials(planned(changed(recipe_path, count={"balanced": False})), OPTIONS)


def test_the_trials_of_a_directory_are_known_without_their_options(recipe_path: Path) -> None:
    given = planned(recipe_path, "response.step=0.5", "response.fraction=1/2")
    run_trials(given, OPTIONS)
    recipe = load_recipe(recipe_path)
    again = plan_trials(as_planned(recipe, given.root), given.root)
    assert [p.run for p in again.plan.runs] == [p.run for p in given.plan.runs]
    assert as_planned(recipe, RunDir(recipe_path.parent / "elsewhere")) == recipe


def test_probes_and_trials_leave_each_other_alone(recipe_path: Path) -> None:
    run_trials(planned(recipe_path), OPTIONS)
    root = RunDir(recipe_path.parent / "run")
    prepared = pipeline.plan(load_recipe(recipe_path), root)
    pipeline.balance(prepared, OPTIONS)
    assert {state.kind for state in status(root)} >= {"probe", "trial"}
    assert read_response(root).trials == 8
    assert write_report(root.root).exists()


def test_rescoring_updates_the_table(recipe_path: Path) -> None:
    prepared = planned(recipe_path)
    run_trials(prepared, OPTIONS)
    table = prepared.root.trial_table
    before = table.read_text()
    table.write_text("stale")
    rescore(prepared.root, lambda *_: None)
    assert table.read_text() == before


def test_a_task_that_never_scores_is_not_measurable(recipe_path: Path) -> None:
    prepared = planned(recipe_path)
    run_trials(prepared, OPTIONS)
    lines = prepared.root.trial_table.read_text().splitlines()
    silent = [lines[0], *(f"{line.rpartition(',')[0]},0.0" for line in lines[1:])]
    write_sealed_text(prepared.root.trial_table, "\n".join(silent))
    response = read_response(prepared.root)
    assert response.scored == TASKS
    assert list(response.unmeasurable) == ["chat"]
    with raises(CotbalError, "not-measurable", "chat"):
        choose_weights(response, goal="chat")
    assert list(choose_weights(response).unguarded) == ["chat"]


def test_without_trials_there_is_no_response(recipe_path: Path) -> None:
    with raises(RunError, "unfinished-trials", "cotbal response"):
        read_response(RunDir(recipe_path.parent))


def test_what_trials_can_show_by_typical_noise(recipe_path: Path) -> None:
    prepared = planned(recipe_path)
    shown = resolution(prepared)
    (noise,) = set(shown.noise.values())
    assert noise == typical_noise(steps=5)
    assert "pocket" in shown.source
    design = design_of(prepared.recipe)
    smallest = design.detectable(noise)
    assert list(shown.slopes.values())[:3] == pytest.approx(smallest.tolist())
    assert shown.slopes["chat"] == pytest.approx(smallest.max()), "it has no weight of its own"
    assert any("5/16" in remark for remark in shown.remarks)
    whole = resolution(planned(recipe_path, "response.fraction=1"))
    assert len(whole.remarks) == 1
    finer = resolution(planned(recipe_path, "response.runs=26"))
    assert finer.slopes["ocr"] < shown.slopes["ocr"]


def test_typical_noise_is_that_of_pocket() -> None:
    assert typical_noise(78) == pytest.approx(13.4, abs=0.2)
    assert typical_noise(1000) == typical_noise(5000) == 2
    assert typical_noise(5) == typical_noise(78)
    assert typical_noise(250) > typical_noise(500)


def test_what_trials_can_show_by_the_noise_of_replicates(recipe_path: Path) -> None:
    root = RunDir(recipe_path.parent / "run")
    pipeline.balance(pipeline.plan(load_recipe(recipe_path), root), OPTIONS)
    shown = resolution(planned(recipe_path))
    assert "mini" in shown.source
    minis = [files.probe("mini") for files in (root, root.seeded(1), root.seeded(2))]
    kept = [[read_json(mini.scores(task, "validation")) for mini in minis] for task in TASKS]
    scores = np.array([[one["metrics"]["exact_match"]["score"] for one in row] for row in kept])
    raw = 100 * scores.std(axis=1, ddof=1) / scores.mean(axis=1)
    for task in TASKS:
        assert raw.min() <= shown.noise[task] <= raw.max(), "moderated over tasks"
    assert shown.noise["chat"] == pytest.approx(np.median([shown.noise[t] for t in TASKS]))
    run_trials(planned(recipe_path), OPTIONS)
    after = resolution(planned(recipe_path))
    assert "trials" in after.source
    assert after.noise["ocr"] == pytest.approx(read_response(root).noise[0])


def test_trials_start_together_although_they_have_weights(recipe_path: Path) -> None:
    predicted = forecast(planned(recipe_path), gpus=8)
    assert predicted.makespan == pytest.approx(predicted.gpu_time / 8)


@pytest.mark.parametrize(
    ("override", "code", "names"),
    [
        ("response.runs=5", "invalid-recipe", ("response.runs",)),
        ("response.runs=2", "invalid-recipe", ("response.runs",)),
        ("response.step=0", "invalid-recipe", ("response.step",)),
        ("response.step=.inf", "invalid-recipe", ("response.step",)),
        ("response.seeds=[1, 1]", "invalid-recipe", ("response.seeds",)),
        ("response.seeds=[a]", "invalid-recipe", ("response.seeds", "a")),
        ("response.fraction=3/2", "invalid-recipe", ("response.fraction",)),
        ("response.fraction=half", "invalid-recipe", ("response.fraction", "half")),
        ("response.lever=gears", "invalid-recipe", ("response.lever", "gears", "weights")),
        ("response.runs=4", "aliased-effects", ("response.runs", "ocr", "6")),
        ("response.seeds=[0, 1, 2, 3, 4]", "too-few-trials", ("response.runs", "5 seeds")),
    ],
)
def test_invalid_settings(
    recipe_path: Path, override: str, code: str, names: tuple[str, ...]
) -> None:
    with raises(RecipeError, code, *names):
        planned(recipe_path, override)


def test_one_weight_has_no_response(tmp_path: Path) -> None:
    path = write_mixture(tmp_path / "mixture", TASKS[:1])
    with raises(RecipeError, "invalid-design", path):
        planned(path)


def test_files_of_an_archived_trial_are_no_trials(recipe_path: Path) -> None:
    prepared = planned(recipe_path)
    run_trials(prepared, OPTIONS)
    folder = prepared.root.trial("trial:0").root
    shutil.copytree(folder, folder.with_name("trial-0.old-1"))
    assert len(prepared.root.trials) == 8
