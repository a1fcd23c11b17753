"""Jobs in the queue of another program: their status, cancelling them, and drivers that return."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cotbal.data.files import archive, is_locked, locked, read_json, write_json
from cotbal.errors import RunError
from cotbal.jobs import pipeline
from cotbal.jobs.execute import Options
from cotbal.jobs.executors import JobHandle, record_handle, recorded_handle
from cotbal.jobs.queue import cancel
from cotbal.jobs.response import plan_trials, run_trials
from cotbal.jobs.rundir import RunDir, submission_of
from cotbal.jobs.status import status
from cotbal.jobs.verify import repair
from cotbal.recipe.recipe import load_recipe
from cotbal.training.run_paths import RunPaths
from helpers.errors import raises
from helpers.pipeline_fakes import EXECUTOR

QUEUE = "helpers.pipeline_fakes.queue"
FAKE = Options(executor=EXECUTOR)


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "queue.json"
    path.write_text(
        json.dumps({"1": ["running", "on node7"], "2": ["queued", "waiting: Priority"]})
    )
    monkeypatch.setenv("COTBAL_FAKE_QUEUE", str(path))
    return path


@pytest.fixture
def root(recipe_path: Path) -> RunDir:
    """A run directory with its probes done, but for three that were submitted to a queue."""
    directory = RunDir(recipe_path.parent / "run")
    prepared = pipeline.plan(load_recipe(recipe_path), directory)
    pipeline.balance(prepared, Options(executor=EXECUTOR))
    for id, run in (("1", "full:ocr"), ("2", "full:vqa"), ("3", "full:count")):
        directory.probe(run).outcome.unlink()
        record_handle(directory.probe(run).root, JobHandle(QUEUE, id))
    return directory


def states(root: RunDir) -> dict[str, tuple[str, str]]:
    return {state.run: (state.state, state.detail) for state in status(root)}


def test_status_reads_the_queue(root: RunDir, queue: Path) -> None:
    write_json(root.probe("full:ocr").progress, {"phase": "training", "fraction": 0.31})
    now = states(root)
    assert now["mini"][0] == "done"
    assert now["full:ocr"] == ("running", f"training, 31%; {QUEUE} 1, on node7")
    assert now["full:vqa"] == ("queued", f"{QUEUE} 2, waiting: Priority")
    assert now["full:count"][0] == "missing"


def test_a_queue_that_does_not_answer(root: RunDir, queue: Path) -> None:
    queue.unlink()
    now = states(root)
    assert now["mini"][0] == "done"
    assert now["full:ocr"] == ("unknown", f"{QUEUE} 1; the queue does not answer")


def test_cancel_cancels_every_job(root: RunDir, queue: Path) -> None:
    assert cancel(root) == (["probes/full-ocr", "probes/full-vqa"], [])
    assert json.loads(queue.read_text()) == {}
    assert not [
        run
        for run in ("full:ocr", "full:vqa", "full:count")
        if recorded_handle(root.probe(run).root)
    ]
    assert cancel(root) == ([], [])


def test_cancel_stops_the_command_that_works_there(root: RunDir, queue: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from cotbal.data.files import locked\n"
        "from cotbal.jobs.rundir import RunDir\n"
        "from cotbal.jobs.queue import record_driver\n"
        "root = RunDir(Path(sys.argv[1]))\n"
        "with locked(root.lock):\n"
        "    record_driver(root.driver, 'processes'); print('here', flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", code, str(root.root)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "here\n"
        assert is_locked(root.lock)
        assert cancel(root) == (["probes/full-ocr", "probes/full-vqa"], [])
        assert driver.wait(10) < 0
    assert not is_locked(root.lock)


def test_a_command_on_another_machine_is_named(root: RunDir, queue: Path) -> None:
    write_json(
        root.driver,
        {"host": f"not-{socket.gethostname()}", "pid": os.getpid(), "executor": "slurm"},
    )
    _, remarks = cancel(root)
    assert len(remarks) == 1
    assert f"not-{socket.gethostname()} (process {os.getpid()})" in remarks[0]


def test_no_run_is_executed_twice_at_a_time(root: RunDir, recipe_path: Path, queue: Path) -> None:
    prepared = pipeline.plan(load_recipe(recipe_path), root)
    with raises(RunError, "run-in-use", root.probe("full:ocr").root, "job 1", QUEUE):
        pipeline.balance(prepared, Options(executor=EXECUTOR))
    queue.write_text("{}")
    pipeline.balance(prepared, Options(executor=EXECUTOR))


def test_a_changed_run_is_cancelled_before_it_is_archived(
    root: RunDir, recipe_path: Path, queue: Path
) -> None:
    changed = pipeline.plan(load_recipe(recipe_path, ["optimization.epochs=2"]), root)
    pipeline.balance(changed, Options(executor=EXECUTOR, restart_changed=True))
    assert json.loads(queue.read_text()) == {}
    assert root.probe("full:ocr").done


@pytest.mark.parametrize("seconds", [0.2, 30.0])
def test_a_run_is_not_archived_while_its_worker_lives(
    root: RunDir, recipe_path: Path, queue: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """It was cancelled, but saves by path: into the directory of the run that replaces it."""
    monkeypatch.setattr("cotbal.jobs.queue.END_SECONDS", seconds)
    paths = root.probe("full:ocr")
    options = Options(executor=EXECUTOR, restart_changed=True)
    changed = pipeline.plan(load_recipe(recipe_path, ["optimization.epochs=2"]), root)
    argv = [sys.executable, "-c", HOLDER, str(paths.lock)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        assert worker.stdout.readline() == "here\n"
        if seconds < 1:
            with raises(RunError, "run-in-use", paths.root):
                pipeline.balance(changed, options)
            assert not paths.root.with_name("full-ocr.old-1").exists()
        worker.stdin.write("1")  # it ends a second later
        worker.stdin.close()
        if seconds > 1:
            pipeline.balance(changed, options)
            assert paths.root.with_name("full-ocr.old-1").exists()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Name of a run that was archived -> whether its lock was held before and after."""
    held = {}

    def watched(directory: Path) -> Path:
        before = is_locked(RunPaths(directory).lock)
        archived = archive(directory)
        held[directory.name] = before and is_locked(RunPaths(archived).lock)
        return archived

    monkeypatch.setattr("cotbal.jobs.queue.archive", watched)
    return held


def test_a_run_is_locked_while_it_is_archived(
    root: RunDir, recipe_path: Path, queue: Path, held: dict[str, bool]
) -> None:
    changed = pipeline.plan(load_recipe(recipe_path, ["optimization.epochs=2"]), root)
    pipeline.balance(changed, Options(executor=EXECUTOR, restart_changed=True))
    assert held == dict.fromkeys(("mini", "full-ocr", "full-vqa", "full-count"), True)
    assert not [path for path in root.root.rglob("lock") if is_locked(path)]


def test_a_run_is_locked_while_a_repair_archives_it(
    root: RunDir, queue: Path, held: dict[str, bool]
) -> None:
    root.probe("mini").job.unlink()
    repair(root, lambda *_: None)
    assert held == {"mini": True}


def test_trials_are_locked_while_they_are_archived(
    recipe_path: Path, held: dict[str, bool]
) -> None:
    directory = RunDir(recipe_path.parent / "trials")
    run_trials(plan_trials(load_recipe(recipe_path, ["response.runs=8"]), directory), FAKE)
    again = plan_trials(load_recipe(recipe_path, ["response.runs=6"]), directory)
    run_trials(again, replace(FAKE, restart_changed=True))
    assert {"trial-6", "trial-7"} <= held.keys()
    assert set(held.values()) == {True}


def test_a_worker_that_begins_meanwhile_stops_the_command(
    root: RunDir, recipe_path: Path, queue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the command has looked for workers: then a part of the runs may be archived."""
    monkeypatch.setattr("cotbal.jobs.queue.END_SECONDS", 0.2)
    paths = root.probe("full:ocr")
    monkeypatch.setattr("cotbal.jobs.execute.release", lambda _: None)
    changed = pipeline.plan(load_recipe(recipe_path, ["optimization.epochs=2"]), root)
    with locked(paths.lock), raises(RunError, "run-in-use", paths.root):
        pipeline.balance(changed, Options(executor=EXECUTOR, restart_changed=True))
    assert paths.job.exists()


def test_a_run_whose_model_is_used_is_not_archived(
    root: RunDir, recipe_path: Path, queue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = root.probe("full:ocr")
    answers = submission_of(paths.root)
    queue.write_text("{}")
    monkeypatch.setattr("cotbal.jobs.execute._release", lambda _: None)
    changed = pipeline.plan(load_recipe(recipe_path, ["optimization.epochs=2"]), root)
    with locked(answers.driver_lock), raises(RunError, "directory-in-use", answers.root):
        pipeline.balance(changed, Options(executor=EXECUTOR, restart_changed=True))
    assert paths.job.exists()


HOLDER = """
import sys, time; from pathlib import Path; from cotbal.data.files import locked
with locked(Path(sys.argv[1])):
    print("here", flush=True); time.sleep(float(sys.stdin.read()))
"""


def test_a_driver_notes_itself_while_it_works(
    recipe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from helpers.pipeline_fakes import executor

    root = RunDir(recipe_path.parent / "run")
    noted, work = [], executor.run

    def watched(*arguments: object) -> Iterator[object]:
        noted.append(read_json(root.driver))
        yield from work(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(executor, "run", watched)
    pipeline.balance(pipeline.plan(load_recipe(recipe_path), root), Options(executor=EXECUTOR))
    assert noted == [{"host": socket.gethostname(), "pid": os.getpid(), "executor": EXECUTOR}]
    assert not root.driver.exists()
