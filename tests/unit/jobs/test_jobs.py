from __future__ import annotations

import errno
import importlib.util
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cotbal.data.files import read_json, read_jsonl
from cotbal.errors import CotbalError, MissingDependency, RunError, RunsFailed
from cotbal.jobs import pipeline
from cotbal.jobs.execute import Options, follow
from cotbal.jobs.executors import Job, Outcome
from cotbal.jobs.plan import Prepared
from cotbal.jobs.rundir import RunDir
from cotbal.recipe.recipe import load_recipe
from helpers.errors import raises
from helpers.pipeline_fakes import EXECUTOR, executor, write_mixture

OPTIONS = Options(executor=EXECUTOR)
PROBES = ["mini", "full:ocr", "full:vqa", "full:count"]


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The runs that were really done, one per line."""
    monkeypatch.setenv("COTBAL_FAKE_LOG", str(tmp_path / "done.jsonl"))
    return tmp_path / "done.jsonl"


def job(path: Path, *overrides: str, weightings: Sequence[str] = ("cotbal",)) -> Prepared:
    recipe = load_recipe(path, ["balance.replicates=1", *overrides])
    return pipeline.plan(recipe, RunDir(path.parent / "run"), weightings)


def test_what_is_done_is_not_done_again(recipe_path: Path, log: Path) -> None:
    first = pipeline.balance(job(recipe_path), OPTIONS)
    assert sorted(read_jsonl(log)) == sorted(PROBES)
    again = pipeline.balance(job(recipe_path), OPTIONS)
    assert sorted(read_jsonl(log)) == sorted(PROBES)
    assert again.to_json() == first.to_json()


def test_a_job_file_says_everything(recipe_path: Path) -> None:
    pipeline.balance(job(recipe_path), OPTIONS)
    root = RunDir(recipe_path.parent / "run")
    content = read_json(root.probe("full:ocr").job)
    assert content["run"] == {
        "name": "full:ocr",
        "portions": {"ocr": "large", "vqa": "mini", "count": "mini"},
        "weighting": "ew",
        "validation": ["ocr", "vqa", "count"],
        "test": [],
        "seed": 0,
        "ratios": None,
        "sampling": None,
    }
    assert content["weights"] is None
    assert content["keep_checkpoint"] is False
    assert content["records"] == 64 + 8 + 8
    assert content["identity"]["run.portions"] == content["run"]["portions"]


def test_a_failure_keeps_the_others_and_is_reported_with_its_log(
    recipe_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COTBAL_FAKE_FAIL", "full:vqa;mini")
    with raises(RunsFailed, "runs-failed", "2 of 4", "full:vqa", "mini", "log.txt") as caught:
        pipeline.balance(job(recipe_path), OPTIONS)
    assert str(caught.value).count("RuntimeError: out of frogs") == 1, "one tail for both runs"
    assert sorted(read_jsonl(log)) == ["full:count", "full:ocr"]
    root = RunDir(recipe_path.parent / "run")
    assert "out of frogs" in read_json(root.probe("mini").failure)["message"]
    assert not root.weights.exists()
    monkeypatch.delenv("COTBAL_FAKE_FAIL")
    pipeline.balance(job(recipe_path), OPTIONS)
    assert sorted(read_jsonl(log)) == sorted(PROBES)
    assert not root.probe("mini").failure.exists()


@pytest.mark.parametrize(
    "setting", ["optimization.learning_rate=0.001", "portions.mini=1/4", "model.language=lora"]
)
def test_a_changed_recipe_is_rejected_with_what_changed(
    recipe_path: Path, log: Path, setting: str
) -> None:
    pipeline.balance(job(recipe_path), OPTIONS)
    field = setting.partition("=")[0]
    with raises(RunError, "changed-settings", f"  {field}: ", "--restart-changed"):
        pipeline.balance(job(recipe_path, setting), OPTIONS)
    assert len(read_jsonl(log)) == 4


def test_a_rejected_recipe_leaves_the_directory_as_it_was(recipe_path: Path) -> None:
    pipeline.balance(job(recipe_path), OPTIONS)
    root = recipe_path.parent / "run"
    before = contents(root)
    with raises(RunError, "changed-settings"):
        pipeline.balance(job(recipe_path, "portions.mini=1/4"), OPTIONS)
    assert {path for path, text in contents(root).items() if before.get(path) != text} == set()


def contents(directory: Path) -> dict[str, bytes]:
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def test_changed_runs_are_archived(recipe_path: Path, log: Path) -> None:
    pipeline.balance(job(recipe_path), OPTIONS)
    root = RunDir(recipe_path.parent / "run")
    old = contents(root.probe("mini").root)
    moving = Options(executor=EXECUTOR, restart_changed=True)
    pipeline.balance(job(recipe_path, "optimization.epochs=2"), moving)
    assert len(read_jsonl(log)) == 8
    archived = contents(root.root / "probes" / "mini.old-1")
    assert archived == old | {"lock": b""}  # held while the run was moved
    pipeline.balance(job(recipe_path, "optimization.epochs=2"), moving)
    assert len(read_jsonl(log)) == 8, "what fits the recipe is not made again"


def test_only_what_changed_is_made_again(recipe_path: Path, log: Path) -> None:
    pipeline.run(job(recipe_path), OPTIONS)
    log.unlink()
    file = recipe_path.parent / "chat_train.jsonl"
    file.write_text(file.read_text().replace("answer 3", "answer 33", 1))
    pipeline.run(job(recipe_path), Options(executor=EXECUTOR, restart_changed=True))
    assert read_jsonl(log) == ["cotbal"]


def test_the_temperature_may_change_freely(recipe_path: Path, log: Path) -> None:
    first = pipeline.balance(job(recipe_path), OPTIONS)
    second = pipeline.balance(job(recipe_path, "balance.temperature=2"), OPTIONS)
    assert len(read_jsonl(log)) == 4
    assert second.temperature == 2
    assert second.weights != first.weights


def test_another_metric_needs_no_new_run(recipe_path: Path, log: Path) -> None:
    pipeline.balance(job(recipe_path), OPTIONS)
    pipeline.balance(job(recipe_path, "tasks.ocr.metric=cider"), OPTIONS)
    assert len(read_jsonl(log)) == 4


def test_an_unknown_executor(recipe_path: Path) -> None:
    with raises(CotbalError, "unknown-name", "inline, processes", "slurmy"):
        pipeline.balance(job(recipe_path), Options(executor="slurmy"))


def test_an_interrupt_stops_what_runs(recipe_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed, work = [], executor.run

    def never_ending(jobs: Sequence[Job], resources: object) -> Any:
        try:
            yield from work(jobs[:1], resources)  # type: ignore[arg-type]
            raise KeyboardInterrupt
        finally:
            closed.append(True)

    monkeypatch.setattr(executor, "run", never_ending)
    with pytest.raises(KeyboardInterrupt):
        pipeline.balance(job(recipe_path), OPTIONS)
    assert closed == [True]


def test_a_watcher_sees_every_job(recipe_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    @contextmanager
    def watch(waiting: Sequence[Job], finished: Sequence[Job], later: int) -> Any:
        seen.append(([j.name for j in waiting], [j.name for j in finished], later))
        yield lambda outcome: seen.append((outcome.job.name, outcome.ok))

    options = Options(executor=EXECUTOR, watch=watch)
    monkeypatch.setenv("COTBAL_FAKE_FAIL", "mini")
    with pytest.raises(RunsFailed):
        pipeline.balance(job(recipe_path), options)
    assert seen[0] == (PROBES, [], 0)
    assert ("mini", False) in seen[1:]
    seen.clear()
    monkeypatch.delenv("COTBAL_FAKE_FAIL")
    pipeline.balance(job(recipe_path), options)
    assert seen == [(["mini"], PROBES[1:], 0), ("mini", True)]
    seen.clear()
    pipeline.run(job(recipe_path, weightings=("ew", "cotbal")), options)
    assert _waiting(seen) == [0], "no final run waits where the probes are done"
    seen.clear()
    fresh = write_mixture(recipe_path.parent / "fresh")
    pipeline.run(job(fresh, weightings=("ew", "cotbal")), options)
    assert _waiting(seen) == [1, 0], "CoTBal's final run waits for the weights"


def _waiting(seen: list[Any]) -> list[int]:
    """Number of runs that wait for others, by call of the executor."""
    return [entry[2] for entry in seen if len(entry) == 3]


def test_plan_json(recipe_path: Path) -> None:
    pipeline.balance(job(recipe_path, weightings=("ew", "cotbal")), OPTIONS)
    root = recipe_path.parent / "run"
    content = json.loads((root / "plan.json").read_text())
    assert [(r["name"], r["directory"]) for r in content["runs"]] == [
        ("mini", "probes/mini"),
        ("full:ocr", "probes/full-ocr"),
        ("full:vqa", "probes/full-vqa"),
        ("full:count", "probes/full-count"),
        ("ew", "final/ew"),
        ("cotbal", "final/cotbal"),
    ]
    assert content["fingerprint"] == load_recipe(recipe_path, ["balance.replicates=1"]).fingerprint
    assert any("minis under 1000" in line for line in content["warnings"])


def test_a_tracker_that_is_not_installed_is_reported_before_anything_starts(
    recipe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name == "wandb" else find_spec(name, *more),
    )
    with raises(CotbalError, "missing-dependency", "--report-to wandb", "pip install wandb"):
        pipeline.balance(job(recipe_path), Options(executor="processes", trackers=("wandb",)))
    assert not (recipe_path.parent / "run" / "probes").exists(), "nothing was started"


def test_trackers_change_no_identity_and_an_id_lasts_as_long_as_a_run(
    recipe_path: Path, log: Path
) -> None:
    tracked = Options(executor=EXECUTOR, trackers=("wandb",), restart_changed=True)
    root = RunDir(recipe_path.parent / "run")

    def mini(*overrides: str) -> dict[str, Any]:
        pipeline.balance(job(recipe_path, *overrides), tracked)
        return read_json(root.probe("mini").job)

    first = mini()
    assert first["tracking"] == {
        "trackers": ["wandb"],
        "project": load_recipe(recipe_path).name,
        "group": "run",
        "name": "mini",
        "kind": "probe",
        "id": first["tracking"]["id"],
    }
    root.probe("mini").outcome.unlink()  # interrupted
    assert mini()["tracking"]["id"] == first["tracking"]["id"]
    assert mini("optimization.learning_rate=1")["tracking"]["id"] != first["tracking"]["id"]
    root.probe("mini").outcome.unlink()
    pipeline.balance(
        job(recipe_path, "optimization.learning_rate=1"), OPTIONS
    )  # the same runs, without a tracker
    assert read_json(root.probe("mini").job)["tracking"] is None
    assert read_jsonl(log).count("mini") == 4


def test_missing_torch_is_reported_before_anything_starts(
    recipe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name == "torch" else find_spec(name, *more),
    )
    with raises(MissingDependency, "missing-dependency", "cotbal[train]"):
        pipeline.balance(job(recipe_path), Options(executor="processes"))
    assert not (recipe_path.parent / "run" / "probes").exists(), "nothing was started"
    pipeline.balance(
        job(recipe_path), OPTIONS
    )  # an executor that works elsewhere needs nothing here
    pipeline.balance(job(recipe_path), Options(executor="processes"))  # and nothing is left to do


def test_a_run_that_filled_the_disk_is_reported_as_such(tmp_path: Path) -> None:
    def ended(message: str) -> Iterator[Outcome]:
        directory = tmp_path / "mini"
        directory.mkdir(exist_ok=True)
        yield Outcome(Job("mini", directory, ("python",)), False, 1.0, message)

    full = f"OSError: [Errno {errno.ENOSPC}] {os.strerror(errno.ENOSPC)}"
    with raises(RunsFailed, "runs-failed", "mini", "make room"):
        follow(ended(full), [], [], OPTIONS)
    with raises(RunsFailed, "runs-failed", "mini") as caught:
        follow(ended("OSError: out of frogs"), [], [], OPTIONS)
    assert "make room" not in str(caught.value)
