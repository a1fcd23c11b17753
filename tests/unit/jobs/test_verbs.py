from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from cotbal.data.files import append_jsonl, locked, read_json, read_jsonl, write_json
from cotbal.errors import CotbalError, RunError, RunsFailed
from cotbal.jobs import pipeline
from cotbal.jobs.execute import Options
from cotbal.jobs.executors import Job, Outcome, Resources
from cotbal.jobs.plan import Prepared
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.status import status
from cotbal.recipe.recipe import load_recipe
from cotbal.report import write_report
from cotbal.scores.matrix import read_scores
from cotbal.training.partial_checkpoints import mark_complete
from helpers.errors import names_all, raises
from helpers.pipeline_fakes import EXECUTOR, TASKS, executor

OPTIONS = Options(executor=EXECUTOR)


def job(path: Path, *overrides: str, weightings: tuple[str, ...] = ("cotbal",)) -> Prepared:
    return pipeline.plan(load_recipe(path, overrides), RunDir(path.parent / "run"), weightings)


def states(path: Path) -> dict[str, str]:
    return {state.run: state.state for state in status(RunDir(path.parent / "run"))}


def test_balance_writes_scores_balance_and_weights(recipe_path: Path) -> None:
    result = pipeline.balance(job(recipe_path), OPTIONS)
    root = RunDir(recipe_path.parent / "run")
    matrix = read_scores(root.score_table)
    assert matrix.runs == ("mini", "full:ocr", "full:vqa", "full:count", "mini#2", "mini#3")
    assert matrix.tasks == TASKS
    assert read_json(root.balance) == json.loads(json.dumps(result.to_json()))
    weights = read_json(root.weights)
    assert weights["weights"] == result.weights
    assert weights["tasks"] == {**result.weights, "chat": 1.0}
    assert sum(result.weights.values()) == pytest.approx(3)
    assert load_recipe(root.recipe).mixture == load_recipe(recipe_path).mixture


def test_the_settings_of_the_recipe_reach_the_balance(recipe_path: Path) -> None:
    settings = (
        "balance.temperature=auto",
        "balance.weight_range=[0.9, 1.1]",
        "balance.bootstrap=150",
    )
    result = pipeline.balance(job(recipe_path, *settings), OPTIONS)
    assert all(0.9 <= weight <= 1.1 for weight in result.weights.values())
    assert result.part_intervals is not None


def test_a_group_shares_a_weight(recipe_path: Path) -> None:
    grouped = ("tasks.ocr.group=reading", "tasks.vqa.group=reading")
    result = pipeline.balance(job(recipe_path, *grouped), OPTIONS)
    assert list(result.weights) == ["reading", "count"]
    tasks = read_json(RunDir(recipe_path.parent / "run").weights)["tasks"]
    assert tasks["ocr"] == tasks["vqa"] == result.weights["reading"]
    assert tasks["chat"] == 1


def test_final_runs_with_weights_share_the_machine_as_all_others_do(
    recipe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone with all cores, each would be trained after the other, by other threads than probes."""
    seen: list[tuple[set[str], Resources]] = []
    run = executor.run

    def noted(jobs: Sequence[Job], resources: Resources) -> Iterator[Outcome]:
        seen.append(({job.name for job in jobs}, resources))
        return run(jobs, resources)

    monkeypatch.setattr(executor, "run", noted)
    methods = ("ew", "cotbal", "igbv1")
    pipeline.run(job(recipe_path, weightings=methods), OPTIONS)
    (probes, early), (finals, late) = seen
    assert finals == {"cotbal"}
    assert {"mini", "ew"} <= probes
    assert early == late == OPTIONS.resources


def test_a_run_of_one_process_can_be_helped(
    recipe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[Job] = []
    run = executor.run

    def noted(waiting: Sequence[Job], resources: Resources) -> Iterator[Outcome]:
        jobs.extend(waiting)
        return run(waiting, resources)

    monkeypatch.setattr(executor, "run", noted)
    monkeypatch.setenv("COTBAL_FAKE_FAIL", "ew")
    for settings in (["resources.gpus=0"], ["resources.gpus=0", "resources.ranks=2"]):
        with pytest.raises(RunsFailed):
            pipeline.train(job(recipe_path, *settings, weightings=("ew",)), "ew", OPTIONS)
    alone, ranked = jobs
    assert alone.helper is not None
    assert alone.helper.command == (*alone.command[:2], "cotbal.jobs.helper", alone.command[3])
    assert alone.helper.wanted.parent == alone.directory / "answers"
    assert ranked.helper is None


def test_train_before_there_are_weights(recipe_path: Path) -> None:
    with raises(RunError, "missing-weights", "weights.json"):
        pipeline.train(job(recipe_path), "cotbal", OPTIONS)


def test_train_with_the_weights_found(recipe_path: Path) -> None:
    result = pipeline.balance(job(recipe_path), OPTIONS)
    paths = pipeline.train(job(recipe_path), "cotbal", OPTIONS)
    assert paths.root == recipe_path.parent / "run" / "final" / "cotbal"
    content = read_json(paths.job)
    assert content["weights"] == {**result.weights, "chat": 1.0}
    assert (content["run"]["validation"], content["run"]["test"]) == (
        [],
        ["ocr", "vqa", "count", "chat"],
    )
    assert content["keep_checkpoint"] is True
    assert paths.scores("chat", "test").exists()


def test_train_with_weights_of_ones_own(recipe_path: Path) -> None:
    weights = {"ocr": 1.5, "vqa": 0.5, "count": 1.0}
    paths = pipeline.train(job(recipe_path), "cotbal", OPTIONS, weights)
    assert read_json(paths.job)["weights"] == {**weights, "chat": 1.0}


@pytest.mark.parametrize(
    ("weights", "code", "name"),
    [
        ({"ocr": 1.0, "vqa": 1.0}, "missing-weights", "count"),
        ({"ocr": 1.0, "vqa": 1.0, "count": 1.0, "chat": 1.0}, "unknown-unit", "chat"),
        ({"ocr": 1.0, "vqa": -1.0, "count": 1.0}, "not-positive", "vqa"),
        ({"ocr": 1.0, "vqa": float("nan"), "count": 1.0}, "not-positive", "vqa"),
    ],
    ids=["missing", "unknown", "negative", "not a number"],
)
def test_weights_that_cannot_be_are_refused_before_anything_runs(
    recipe_path: Path, weights: dict[str, float], code: str, name: str
) -> None:
    with raises(CotbalError, code, name):
        pipeline.train(job(recipe_path), "cotbal", OPTIONS, weights)
    assert not (recipe_path.parent / "run" / "weights.json").exists()
    assert not (recipe_path.parent / "run" / "final").exists()


def test_train_with_another_weighting_needs_no_weights(recipe_path: Path) -> None:
    paths = pipeline.train(job(recipe_path, weightings=("ew",)), "ew", OPTIONS)
    assert read_json(paths.job)["weights"] is None


def test_run_does_it_all(
    recipe_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COTBAL_FAKE_LOG", str(tmp_path / "log.jsonl"))
    both = ("ew", "cotbal")
    result = pipeline.run(job(recipe_path, weightings=both), OPTIONS)
    page = write_report(recipe_path.parent / "run")
    done = read_jsonl(tmp_path / "log.jsonl")
    probes = ["mini", "mini", "mini", "full:ocr", "full:vqa", "full:count"]
    assert sorted(done) == sorted([*probes, "ew", "cotbal"])
    assert done[-1] == "cotbal", "it needs the weights of the others"
    assert page == recipe_path.parent / "run" / "report" / "index.html"
    assert page.stat().st_size > 1000
    assert set(states(recipe_path).values()) == {"done"}
    assert (
        read_json(RunDir(recipe_path.parent / "run").final("cotbal").job)["weights"]["ocr"]
        == result.weights["ocr"]
    )
    again = pipeline.run(job(recipe_path, weightings=both), OPTIONS)
    assert again.weights == result.weights
    assert read_jsonl(tmp_path / "log.jsonl") == done


def test_the_same_weighting_twice_is_trained_once(
    recipe_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COTBAL_FAKE_LOG", str(tmp_path / "log.jsonl"))
    twice = ("ew", "ew")
    pipeline.run(job(recipe_path, weightings=twice), OPTIONS)
    assert read_jsonl(tmp_path / "log.jsonl").count("ew") == 1


def test_a_second_final_training_does_not_hide_the_first(recipe_path: Path) -> None:
    pipeline.run(job(recipe_path), OPTIONS)
    pipeline.train(job(recipe_path, weightings=("tla",)), "tla", OPTIONS)
    assert states(recipe_path)["tla"] == "done"
    assert states(recipe_path)["cotbal"] == "done"


def test_two_commands_do_not_work_in_one_directory(recipe_path: Path) -> None:
    one = job(recipe_path)
    with locked(one.root.lock), raises(RunError, "directory-in-use"):
        pipeline.balance(one, OPTIONS)


def test_plan_refuses_what_does_not_exist(recipe_path: Path) -> None:
    with raises(CotbalError, "unknown-name", "weightings", "cotbal, dwa, ew, igbv1", "fixd"):
        job(recipe_path, weightings=("fixd",))
    with raises(CotbalError, "unknown-name", "metrics", "anls, box_iou, cider", "exact"):
        job(recipe_path, "tasks.vqa.metric=exact")
    with raises(CotbalError, "unknown-name", "metrics", "bleu"):
        job(recipe_path, "tasks.vqa.test_metrics=[exact_match, bleu]")


def test_status(recipe_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COTBAL_FAKE_FAIL", "full:vqa;full:count")
    with pytest.raises(RunsFailed):
        pipeline.balance(job(recipe_path), OPTIONS)
    root = RunDir(recipe_path.parent / "run")
    expected = {
        "mini": "done",
        "full:ocr": "done",
        "full:vqa": "failed",
        "full:count": "failed",
        "mini, seed 1": "done",
        "mini, seed 2": "done",
        "cotbal": "missing",
    }
    assert states(recipe_path) == expected
    details = {state.run: state.detail for state in status(root)}
    assert details["mini"] == "3 s"
    assert details["full:vqa"] == "RuntimeError: out of frogs"
    # Tried again, and at work.
    count = root.probe("full:count")
    count.failure.unlink()
    write_json(count.progress, {"phase": "training", "fraction": 0.31})
    with locked(count.lock):
        assert states(recipe_path)["full:count"] == "running"
        full_run = next(state for state in status(root) if state.run == "full:count")
        assert full_run.detail == "training, 31%"
    # Killed.
    assert states(recipe_path)["full:count"] == "interrupted"
    full_run = next(state for state in status(root) if state.run == "full:count")
    without_checkpoint = full_run.detail
    assert names_all(without_checkpoint, "31%")
    mark_complete(count.partial / "checkpoint-20")
    full_run = next(state for state in status(root) if state.run == "full:count")
    assert names_all(full_run.detail, "31%")
    assert full_run.detail != without_checkpoint


def test_status_of_no_run_directory(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "none"):
        with raises(RunError, "no-run-directory", directory):
            status(RunDir(directory))


def test_looking_changes_nothing(recipe_path: Path) -> None:
    pipeline.balance(job(recipe_path), OPTIONS)
    root = recipe_path.parent / "run"
    before = sorted(root.rglob("*"))
    status(RunDir(root))
    assert sorted(root.rglob("*")) == before


def test_losses_of_a_killed_run_do_not_spoil_the_next_plan(recipe_path: Path) -> None:
    mini = RunDir(recipe_path.parent / "run").probe("mini")
    write_json(mini.job, {"records": 24})
    append_jsonl(mini.training, {"step": 3, "epoch": 0.5, "seconds": 6.0})
    with mini.training.open("ab") as file:
        file.write('{"step": 4, "detail": "ä'.encode()[:-1])
    assert job(recipe_path).plan.runs[0].seconds is not None
