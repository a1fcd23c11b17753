"""`steer` from a run directory, and its weights as a method of final trainings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cotbal.data.files import read_json, read_jsonl, write_json
from cotbal.errors import CotbalError, RunError, RunsFailed
from cotbal.jobs import pipeline
from cotbal.jobs.compare import Study, method_names, plan_comparison, run_comparison
from cotbal.jobs.curve import plan_curve, run_curve
from cotbal.jobs.execute import Options
from cotbal.jobs.response import plan_trials, run_trials
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.steering import Steered, choose, method_of, method_of_file, steer
from cotbal.recipe.recipe import load_recipe
from cotbal.recipe.runs import UNTRAINED_TRIAL
from cotbal.report import prediction_tables, write_comparison, write_report
from cotbal.response import read_prediction
from cotbal.response.lever import RATIOS
from cotbal.scores.weights_file import read_task_weights, read_weights
from cotbal.weightings import build_weighting, method_label
from helpers.errors import names_all, raises
from helpers.pipeline_fakes import EXECUTOR, TASKS

OPTIONS = Options(executor=EXECUTOR)
GUARDED = {"*": -1.0}
WHOLE = "response.fraction=1"
GROUPED = ("tasks.ocr.group=reading", "tasks.count.group=reading")


def tried(path: Path, *overrides: str) -> RunDir:
    """A run directory with finished trials."""
    prepared = plan_trials(load_recipe(path, (WHOLE, *overrides)), RunDir(path.parent / "run"))
    run_trials(prepared, OPTIONS)
    return prepared.root


def comparison(path: Path, *methods: str, seeds: tuple[int, ...] = (0,)) -> Study:
    recipe = load_recipe(path, [WHOLE])
    return plan_comparison(recipe, RunDir(path.parent / "run"), method_names(methods), seeds)


def raised(steered: Steered) -> set[str]:
    return {unit for unit, weight in steered.choice.weights.items() if weight > 1}


def test_a_goal_is_raised_and_written_with_its_frozen_prediction(recipe_path: Path) -> None:
    root = tried(recipe_path)
    steered, files = steer(root, "ocr", {"*": None})
    assert raised(steered) == {"ocr"}
    weights, frozen = root.steered("ocr"), root.design.with_name("prediction-ocr.json")
    assert (files.weights, files.prediction, files.finals) == (weights, frozen, None)
    assert read_weights(weights) == steered.choice.weights
    assert read_task_weights(weights) == {**steered.choice.weights, "chat": 1.0}
    prediction = read_prediction(frozen)
    assert set(prediction["predictions"]) == {*TASKS, "chat"}
    assert prediction["weights"] == steered.choice.weights
    before = frozen.read_bytes()
    steer(root, ["ocr"], {"*": None})
    assert frozen.read_bytes() == before, "its date is that of the first time"


def test_another_choice_archives_the_prediction_until_a_final_model_was_started(
    recipe_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tried(recipe_path)
    frozen = root.design.with_name("prediction-ocr.json")
    steer(root, "ocr", {"*": None})
    first = frozen.read_bytes()
    steer(root, "ocr", {"*": None}, max_step=0.5)
    assert frozen.read_bytes() != first
    assert len(list(frozen.parent.glob("prediction-ocr.json.old-*"))) == 1
    assert len(list(frozen.parent.glob("weights-ocr.json.old-*"))) == 1
    monkeypatch.setenv("COTBAL_FAKE_FAIL", "steer:ocr, seed 1")
    with pytest.raises(RunsFailed):
        run_comparison(comparison(recipe_path, "steer:ocr", seeds=(1,)), OPTIONS)
    second, weights = frozen.read_bytes(), root.steered("ocr").read_bytes()
    with raises(CotbalError, "prediction-exists", frozen, "--out"):
        steer(root, "ocr", {"*": None})
    assert (frozen.read_bytes(), root.steered("ocr").read_bytes()) == (second, weights)
    steer(root, "ocr", {"*": None}, max_step=0.5)
    steer(root, "vqa", {"*": None})
    elsewhere = tmp_path / "elsewhere"
    steer(root, "ocr", {"*": None}, out=elsewhere)
    assert read_prediction(elsewhere / "prediction-ocr.json")["goal"] == "ocr"
    with raises(CotbalError, "prediction-exists", elsewhere):
        steer(root, "ocr", {"*": None}, max_step=0.5, out=elsewhere)


def test_a_prediction_is_kept_once_its_weights_were_trained_as_ratios(
    recipe_path: Path, tmp_path: Path
) -> None:
    root, recipe = tried(recipe_path), load_recipe(recipe_path, [WHOLE])
    frozen, weights = root.design.with_name("prediction-ocr.json"), root.steered("ocr")
    other = tmp_path / weights.name
    write_json(other, {"ocr": 2.0, "vqa": 0.5, "count": 0.5})
    steer(root, "ocr", {"*": None})
    pipeline.train(pipeline.plan(recipe, root, (), other), "ratios:ocr", OPTIONS)
    steer(root, "ocr", {"*": None}, max_step=0.5)
    restarted = replace(OPTIONS, restart_changed=True)
    pipeline.train(pipeline.plan(recipe, root, (), weights), "ratios:ocr", restarted)
    before = frozen.read_bytes(), weights.read_bytes()
    with raises(CotbalError, "prediction-exists", frozen):
        steer(root, "ocr", {"*": None})
    assert (frozen.read_bytes(), weights.read_bytes()) == before


def test_a_comparison_trains_trials_once_then_pairs_steered_and_equal_weights(
    recipe_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = comparison(recipe_path, "ew", "steer", "steer:count,ocr", seeds=(0, 1))
    names = [p.run.name for p in study.prepared.plan.runs]
    finals = ["ew", "steer:mean", "steer:ocr+count"]
    assert names == [*(f"trial:{k}" for k in range(8)), *finals, *finals]
    monkeypatch.setenv("COTBAL_FAKE_FAIL", "steer:ocr+count, seed 1")
    with pytest.raises(RunsFailed):
        run_comparison(study, OPTIONS)
    monkeypatch.delenv("COTBAL_FAKE_FAIL")
    again = comparison(recipe_path, "ew", "steer", "steer:ocr+count", seeds=(0, 1))
    assert run_comparison(again, OPTIONS) is None, "no weights of probes"
    assert sorted(read_jsonl(log)) == sorted(names), "each once"
    root = study.prepared.root
    for home in (root, root.seeded(1)):
        job = read_json(home.final("steer:ocr+count").job)
        assert job["weights"] == read_task_weights(root.steered("ocr+count"))
        assert home.final("steer:ocr+count").root.name == "steer-ocr+count"
    compared = write_comparison(root.root)
    assert set(compared.against) == {"steer:mean", "steer:ocr+count"}
    mean, named = prediction_tables(root.root)
    assert {row[0] for row in named.rows} == {*TASKS, "chat"}
    assert len(mean.header) == len(named.header) == 7, "with outcomes"
    assert "steer" in write_report(root.root).read_text()


def test_steered_and_equal_weights_share_the_workers_once_trials_are_done(
    recipe_path: Path, batches: list[list[str]], watched: Options
) -> None:
    tried(recipe_path)
    run_comparison(comparison(recipe_path, "ew", "steer:vqa", seeds=(0, 1)), watched)
    assert batches == [["ew", "steer:vqa", "ew, seed 1", "steer:vqa, seed 1"]]
    recipe = load_recipe(recipe_path, [WHOLE])
    batches.clear()
    pipeline.run(
        pipeline.plan(recipe, RunDir(recipe_path.parent / "run"), ("tla", "steer")), watched
    )
    assert batches == [["tla", "steer:mean"]]


def test_without_outcomes_there_is_nothing_to_hold_a_prediction_against(recipe_path: Path) -> None:
    root = tried(recipe_path)
    steer(root, "ocr", GUARDED)
    assert prediction_tables(root.root) == []
    run_comparison(comparison(recipe_path, "steer:ocr"), OPTIONS)
    assert prediction_tables(root.root) == [], "no equal weights"


def test_run_trains_trials_in_place_of_probes(recipe_path: Path, log: Path) -> None:
    root = RunDir(recipe_path.parent / "run")
    recipe = load_recipe(recipe_path, [WHOLE])
    methods = ("ew", "steer:vqa")
    prepared = pipeline.plan(recipe, root, methods)
    assert pipeline.run(prepared, OPTIONS) is None
    assert read_jsonl(log)[-1] == "steer:vqa"
    assert sorted(read_jsonl(log)) == sorted(["ew", "steer:vqa", *(f"trial:{k}" for k in range(8))])
    assert not root.weights.exists()
    both = pipeline.plan(recipe, root, ("cotbal", "steer:vqa"))
    assert {p.kind for p in both.plan.runs} == {"probe", "trial", "final"}


def test_train_needs_finished_trials_and_then_chooses_with_the_default_floors(
    recipe_path: Path,
) -> None:
    root = RunDir(recipe_path.parent / "run")
    prepared = pipeline.plan(load_recipe(recipe_path, [WHOLE]), root, ("steer:ocr",))
    with raises(RunError, "unfinished-trials", root.root):
        pipeline.train(prepared, "steer:ocr", OPTIONS)
    tried(recipe_path)
    paths = pipeline.train(prepared, "steer:ocr", OPTIONS)
    assert paths.root == root.root / "final" / "steer-ocr"
    expected = choose(root, "ocr", GUARDED).choice.weights
    assert read_json(paths.job)["weights"] == {**expected, "chat": 1.0}
    assert not root.weights.exists(), "weights.json is that of the probes"


def test_other_options_for_trials_in_the_recipe_do_not_plan_other_trials(recipe_path: Path) -> None:
    root = tried(recipe_path, "response.step=0.5")
    study = plan_comparison(load_recipe(recipe_path), root, ("steer:mean",), (0,))
    run_comparison(study, OPTIONS)
    assert read_json(root.design)["step"] == 0.5
    assert read_json(root.design)["fraction"] == "1"


def test_steered_ratios_are_trained_as_ratios(recipe_path: Path) -> None:
    root = tried(recipe_path, "response.lever=ratios")
    steered, _ = steer(root, "ocr", {"*": None})
    assert steered.choice.lever is RATIOS
    run_comparison(comparison(recipe_path, "ew", "steer:ocr"), OPTIONS)
    job = read_json(root.final("steer:ocr").job)
    assert job["run"]["ratios"] == {**steered.choice.weights, "chat": 1.0}
    assert set(job["weights"].values()) == {1.0}
    (table,) = prediction_tables(root.root)
    assert len(table.header) == 7


def test_a_group_is_a_goal_and_has_a_floor(recipe_path: Path) -> None:
    root = tried(recipe_path, *GROUPED)
    steered, files = steer(root, "reading", {"*": None})
    assert steered.choice.goal == "ocr,count"
    assert raised(steered) == {"reading"}
    tasks = read_task_weights(files.weights)
    assert tasks["ocr"] == tasks["count"] > 1
    recipe = load_recipe(recipe_path, GROUPED)
    assert method_of(recipe.mixture, "steer:reading") == "steer:ocr+count"
    assert method_of_file(root, root.steered("ocr+count")) == "steer:ocr+count"
    guarded = choose(root, "vqa", {"reading": -0.5, "count": -0.2})
    floors = {guard.task: guard.floor for guard in guarded.choice.guards}
    assert floors == {"ocr": -0.5, "count": -0.2}
    with raises(CotbalError, "unknown-task", "readings"):
        choose(root, "vqa", {"readings": -1})


def test_worst_compares_with_single_task_models_on_as_much_data(recipe_path: Path) -> None:
    root = tried(recipe_path, "response.fraction=1/2")
    fallen_back = choose(root, "worst", GUARDED)
    assert fallen_back.compared is not None
    assert fallen_back.compared.missing == TASKS
    assert fallen_back.choice.single_task == {}
    assert "--fractions 1/2 --alone" in fallen_back.compared.sentence
    recipe = load_recipe(recipe_path, ["response.fraction=1/2"])
    run_curve(plan_curve(recipe, root, ("1/2",), True, (0, 1)), OPTIONS)
    steered, _ = steer(root, "worst", {"*": None})
    alone = steered.choice.single_task
    scores = [
        read_json(home.curve("alone:vqa:1/2").scores("vqa", "validation"))["metrics"]
        for home in (root, root.seeded(1))
    ]
    mean = sum(score["exact_match"]["score"] for score in scores) / 2
    assert alone["vqa"] == pytest.approx(mean)
    relative = dict(zip(steered.response.scored, steered.response.level, strict=True))
    lowest = min(alone, key=lambda task: relative[task] / alone[task])
    assert lowest in raised(steered)


def test_what_short_trials_promise_is_warned_about(recipe_path: Path) -> None:
    root = tried(recipe_path, "response.fraction=1/2")
    steered, _ = steer(root, "ocr", {"*": None})
    (warning,) = steered.choice.warnings
    assert warning == steered.response.fraction_sentence
    assert names_all(warning, "1/2", "--fraction 1")
    frozen = read_prediction(root.design.with_name("prediction-ocr.json"))
    assert frozen["warnings"] == [warning]
    page = write_report(root.root).read_text()
    content = read_json(root.report / "response.json")
    assert content["response"]["fraction"] == "1/2"
    assert warning in (root.report / "tables.md").read_text()
    assert page.count(warning) == 2, "in the summary and beside the effects"


def test_worst_takes_probes_that_saw_all_of_their_task(recipe_path: Path) -> None:
    root = tried(recipe_path)
    recipe = load_recipe(recipe_path, [WHOLE, "balance.difficulty=precise"])
    pipeline.balance(pipeline.plan(recipe, root), OPTIONS)
    compared = choose(root, "worst", GUARDED).compared
    assert compared is not None
    assert set(compared.scores) == set(TASKS)


def test_trials_of_two_recipes_are_not_mixed(recipe_path: Path) -> None:
    root = tried(recipe_path)
    job = read_json(root.trial("trial:5").job)
    job["identity"]["recipe.optimization.learning_rate"] = 1.0
    write_json(root.trial("trial:5").job, job)
    with raises(RunError, "mixed-trials", "trial-5", "learning_rate"):
        steer(root, "ocr", GUARDED)


def test_methods_are_named_once(recipe_path: Path) -> None:
    mixture = load_recipe(recipe_path).mixture
    for name, expected in {
        "steer": "steer:mean",
        "steer:": "steer:mean",
        "steer:worst": "steer:worst",
        "steer: count, ocr": "steer:ocr+count",
        "steer:chat": "steer:chat",
        "cotbal": "cotbal",
        "sampling:.50": "sampling:0.5",
        "sampling:-0": "sampling:0",
        "sampling:1.0": "sampling:1",
    }.items():
        assert method_of(mixture, name) == expected
    with raises(CotbalError, "unknown-task", "'ocr'"):
        method_of(mixture, "steer:ocrr")
    assert method_names(["EW", "Steer:Ocr"]) == ("ew", "steer:Ocr")
    assert method_label("steer:ocr+vqa") == "Steer: ocr + vqa"
    with raises(CotbalError, "unknown-name", "ew:ocr"):
        build_weighting("ew:ocr", TASKS)


def test_files_of_weights_that_steer_wrote(recipe_path: Path, tmp_path: Path) -> None:
    root = tried(recipe_path)
    steer(root, "ocr", GUARDED)
    assert method_of_file(root, root.steered("ocr")) == "steer:ocr"
    assert method_of_file(root, root.weights) is None
    assert method_of_file(root, tmp_path / "weights-ocr.json") is None


def test_a_task_without_training_data_is_guarded(recipe_path: Path) -> None:
    """The base checkpoint is scored beside the trials, and is not one of them."""
    guard = "tasks.known={validation: vqa_validation.jsonl, test: vqa_test.jsonl}"
    root = RunDir(recipe_path.parent / "run")
    study = plan_comparison(load_recipe(recipe_path, (WHOLE, guard)), root, ("ew", "steer"), (0,))
    run_comparison(study, OPTIONS)
    assert root.trial(UNTRAINED_TRIAL).done
    steered, files = steer(root, "ocr", GUARDED)
    assert "known" in {guard.task for guard in steered.choice.guards}
    assert "known" not in read_task_weights(files.weights)
    (table,) = prediction_tables(root.root)
    assert "known" in {row[0] for row in table.rows}
