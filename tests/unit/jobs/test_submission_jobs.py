"""Models that answer for a server, as `cotbal status` and `cancel` know them, and commands in each
other's way.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cotbal.data.files import is_locked, locked, write_json, write_sealed, write_sealed_rows
from cotbal.errors import RunError
from cotbal.jobs import pipeline
from cotbal.jobs.execute import Options
from cotbal.jobs.executors import JobHandle, record_handle, recorded_handle
from cotbal.jobs.queue import cancel
from cotbal.jobs.rundir import RunDir, SubmissionPaths, submission_of
from cotbal.jobs.status import status
from cotbal.jobs.verify import verify
from cotbal.recipe.recipe import load_recipe
from helpers.errors import raises
from helpers.pipeline_fakes import EXECUTOR

QUEUE = "helpers.pipeline_fakes.queue"
DRIVER = """
import signal, sys, time
from contextlib import ExitStack
from pathlib import Path
from cotbal.jobs.queue import record_driver
from cotbal.jobs.rundir import SubmissionPaths
from cotbal.data.files import locked

def leave(*_):
    signal.signal(signal.SIGTERM, lambda *_: (print("twice", flush=True), sys.exit(3)))
    time.sleep(0.3)
    raise SystemExit(0)

signal.signal(signal.SIGTERM, leave)
with ExitStack() as held:
    for path in map(SubmissionPaths, map(Path, sys.argv[1:])):
        held.enter_context(locked(path.driver_lock))
        record_driver(path.driver, "processes")
    print("here", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "queue.json"
    path.write_text(
        json.dumps({"7": ["running", "on node7"], "8": ["queued", "waiting: Priority"]})
    )
    monkeypatch.setenv("COTBAL_FAKE_QUEUE", str(path))
    return path


@pytest.fixture
def root(recipe_path: Path) -> RunDir:
    """A run directory with its probes done, and three models that answer or did."""
    directory = RunDir(recipe_path.parent / "run")
    pipeline.balance(pipeline.plan(load_recipe(recipe_path), directory), Options(executor=EXECUTOR))
    for paths in (
        answering(directory, "cotbal"),
        answering(directory, "ew"),
        answering(directory.seeded(1), "cotbal"),
    ):
        write_json(paths.job, {})
    record_handle(answering(directory, "ew").root, JobHandle(QUEUE, "7"))
    record_handle(answering(directory.seeded(1), "cotbal").root, JobHandle(QUEUE, "8"))
    return directory


def answering(root: RunDir, method: str) -> SubmissionPaths:
    return submission_of(root.final(method).root)


def states(root: RunDir) -> dict[str, tuple[str, str]]:
    return {
        state.run: (state.state, state.detail)
        for state in status(root)
        if state.kind == "submission"
    }


def test_status_shows_models_that_answer(root: RunDir, queue: Path) -> None:
    write_json(answering(root, "ew").progress, {"phase": "generating", "fraction": 0.25})
    archived = submission_of(root.root / "final" / "fixed.old-1")
    write_json(archived.job, {})  # with its run
    assert states(root) == {
        "final/ew/vqav2_testdev": ("running", f"generating, 25%; {QUEUE} 7, on node7"),
        "final/cotbal/vqav2_testdev": ("missing", ""),
        "seed-1/final/cotbal/vqav2_testdev": ("queued", f"{QUEUE} 8, waiting: Priority"),
    }
    write_json(answering(root, "cotbal").file, [])
    assert states(root)["final/cotbal/vqav2_testdev"] == ("done", "submission.json")
    queue.unlink()
    assert states(root)["final/ew/vqav2_testdev"] == (
        "unknown",
        f"{QUEUE} 7; the queue does not answer",
    )


def test_status_shows_why_answering_stopped(root: RunDir, queue: Path) -> None:
    queue.write_text("{}")
    write_json(
        answering(root, "cotbal").failure, {"message": "fixed failed\nOSError: no model", "time": 0}
    )
    write_json(answering(root, "ew").progress, {"phase": "generating", "fraction": 0.5})
    now = states(root)
    assert now["final/cotbal/vqav2_testdev"] == ("failed", "OSError: no model")
    state, detail = now["final/ew/vqav2_testdev"]
    assert state == "interrupted"
    assert "50%" in detail


def test_what_was_answered_from_is_verified(root: RunDir, queue: Path) -> None:
    paths = answering(root, "cotbal")
    write_sealed(paths.job, {"identity": {"code": 3}})
    write_sealed_rows(paths.questions, [{"id": 1}])

    def damaged() -> dict[Path, tuple[Path, ...]]:
        checked = verify(root, lambda *_: None)
        assert [line for line in checked.unchecked if "final/ew/vqav2_testdev" in line], "queued"
        return {d.file: d.archived for d in checked.differences}

    assert damaged() == {}
    paths.questions.write_text('{"id": 2}\n')
    assert damaged() == {paths.questions: (paths.questions,)}
    paths.job.write_text(paths.job.read_text().replace("3", "4", 1))
    assert damaged() == {paths.job: (paths.root,)}
    with locked(paths.driver_lock):
        assert damaged() == {}


def test_a_progress_file_that_a_loss_of_power_cut_off_is_no_error(
    root: RunDir, queue: Path
) -> None:
    queue.write_text("{}")
    paths = answering(root, "ew")
    paths.progress.write_text('{"phase": "gener')
    assert "0%" in states(root)["final/ew/vqav2_testdev"][1]


def test_cancel_cancels_answering(root: RunDir, queue: Path) -> None:
    assert cancel(root) == (["final/ew/vqav2_testdev", "seed-1/final/cotbal/vqav2_testdev"], [])
    assert json.loads(queue.read_text()) == {}
    assert recorded_handle(answering(root, "ew").root) is None


def test_cancel_stops_the_command_once_and_waits_for_all_it_holds(
    root: RunDir, queue: Path
) -> None:
    held = (answering(root, "cotbal"), answering(root, "ew"))
    argv = [sys.executable, "-c", DRIVER, *(str(paths.root) for paths in held)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "here\n"
        assert states(root)["final/cotbal/vqav2_testdev"][0] == "missing"
        cancel(root)
        assert not any(is_locked(paths.driver_lock) for paths in held)
        assert driver.wait(10) == 0
        assert driver.stdout.read() == ""


def test_a_command_of_several_models_on_another_machine_is_named_once(
    root: RunDir, queue: Path
) -> None:
    for method in ("cotbal", "ew"):
        write_json(
            answering(root, method).driver,
            {"host": f"not-{socket.gethostname()}", "pid": 1, "executor": "x"},
        )
    _, remarks = cancel(root)
    assert len(remarks) == 1
    assert f"not-{socket.gethostname()} (process 1)" in remarks[0]


def test_a_model_is_not_archived_while_it_answers(
    root: RunDir, recipe_path: Path, queue: Path
) -> None:
    changed = pipeline.plan(load_recipe(recipe_path, ["optimization.epochs=2"]), root)
    options = Options(executor=EXECUTOR, restart_changed=True)
    paths = submission_of(root.probe("full:ocr").root)  # a probe whose model was kept
    write_json(paths.job, {})
    record_handle(paths.root, JobHandle(QUEUE, "8"))
    argv = [sys.executable, "-c", DRIVER, str(paths.root)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        driver.stdout.readline()
        with raises(RunError, "run-in-use", root.probe("full:ocr").root):
            pipeline.balance(changed, options)
        driver.terminate()
    assert paths.job.exists()
    pipeline.balance(changed, options)
    assert json.loads(queue.read_text()) == {"7": ["running", "on node7"]}
    assert not paths.job.exists()
