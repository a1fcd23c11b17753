"""One evaluation at a time writes into the directory of its results, and none is archived while one
does.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cotbal.benchmarks.zeroshot.cells import read_table
from cotbal.benchmarks.zeroshot.columns import columns_named
from cotbal.benchmarks.zeroshot.command import How, find_environment
from cotbal.benchmarks.zeroshot.study import EVALUATE, Plan, models_named, plan, run_plan
from cotbal.data.files import is_locked, locked, read_json
from cotbal.errors import RunError, RunsFailed
from cotbal.jobs.executors import JobHandle, Resources, record_handle, recorded_handle
from helpers.errors import raises

QUEUE = "helpers.pipeline_fakes.queue"
SLEEP = (sys.executable, "-c", "import time; time.sleep(60)")


@pytest.fixture
def cell(tmp_path: Path) -> Path:
    return tmp_path / "out" / "EW" / "MME"


def planned(tmp_path: Path, python: str, limit: int | None = None, restart: bool = False) -> Plan:
    return plan(
        tmp_path / "out",
        models_named([str(tmp_path / "EW")]),
        columns_named("MME"),
        find_environment(python),
        How(limit=limit),
        restart,
    )


def run(todo: Plan) -> list[str]:
    """What was reported."""
    shown: list[str] = []
    run_plan(todo, "processes", Resources(), shown.append)
    return shown


def free_within(lock: Path, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_locked(lock) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_locked(lock)


@pytest.mark.usefixtures("checkpoints")
def test_results_are_not_archived_while_an_evaluation_writes_them(
    tmp_path: Path, python: str, cell: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cotbal.jobs.queue.END_SECONDS", 0.2)
    run(planned(tmp_path, python))
    other = planned(tmp_path, python, 8, restart=True)
    with locked(cell / "lock"), raises(RunError, "run-in-use", cell):
        run(other)
    assert read_json(cell / "done.json")["identity"]["limit"] is None
    assert f"archived: {cell}.old-1" in run(other)
    assert read_json(cell / "done.json")["identity"]["limit"] == 8


@pytest.mark.usefixtures("checkpoints")
def test_an_evaluation_that_lives_on_is_not_joined_by_another(
    tmp_path: Path, python: str, cell: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cotbal.jobs.queue.END_SECONDS", 0.2)
    with locked(cell / "lock"), raises(RunError, "run-in-use", cell):
        run(planned(tmp_path, python))
    assert not (cell / "output").exists()
    run(planned(tmp_path, python))
    assert (cell / "done.json").exists()


@pytest.mark.usefixtures("checkpoints")
def test_an_unfinished_evaluation_of_other_settings_is_not_continued(
    tmp_path: Path, python: str, cell: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its job may be in a queue, and its results would be taken for those of these settings."""
    queue = tmp_path / "queue.json"
    queue.write_text(json.dumps({"7": ["running", "on node7"]}))
    monkeypatch.setenv("COTBAL_FAKE_QUEUE", str(queue))
    monkeypatch.setenv("FAKE_FAULT", "mme")
    monkeypatch.setenv("FAKE_CODE", "1")
    with raises(RunsFailed, "runs-failed"):
        run(planned(tmp_path, python))
    monkeypatch.delenv("FAKE_FAULT")
    record_handle(cell, JobHandle(QUEUE, "7"))
    with raises(RunError, "run-in-use", cell, QUEUE):
        run(planned(tmp_path, python))
    assert f"archived: {cell}.old-1" in run(planned(tmp_path, python, 8))
    assert json.loads(queue.read_text()) == {}
    assert recorded_handle(cell) is None
    assert read_json(cell / "done.json")["identity"]["limit"] == 8


@pytest.mark.usefixtures("checkpoints")
def test_a_changed_result_is_not_shown(tmp_path: Path, python: str, cell: Path) -> None:
    run(planned(tmp_path, python))
    done = cell / "done.json"
    value = f'"value": {read_json(done)["value"]}'
    done.write_text(done.read_text().replace(value, '"value": 1999.0'))
    with raises(RunError, "damaged-file", done):
        read_table(tmp_path / "out", "EW")
    with raises(RunError, "damaged-file", done):
        planned(tmp_path, python)


@pytest.fixture
def evaluating(cell: Path) -> Iterator[subprocess.Popen[bytes]]:
    argv = (sys.executable, "-m", EVALUATE, str(cell), *SLEEP)
    with subprocess.Popen(argv) as process:
        deadline = time.monotonic() + 30
        while not is_locked(cell / "lock") and time.monotonic() < deadline:
            time.sleep(0.05)
        yield process
        process.kill()


def test_the_lock_is_held_as_long_as_the_program_lives(
    cell: Path, evaluating: subprocess.Popen[bytes]
) -> None:
    command = Path(f"/proc/{evaluating.pid}/cmdline")
    deadline = time.monotonic() + 30
    while command.exists() and b"sleep" not in command.read_bytes().split(b"\0")[2]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert is_locked(cell / "lock")
    second = (sys.executable, "-m", EVALUATE, str(cell), *SLEEP)
    assert subprocess.run(second, capture_output=True, check=False).returncode == 1
    evaluating.kill()
    evaluating.wait()
    assert free_within(cell / "lock", 5)


def test_an_evaluation_ends_with_its_command(cell: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from cotbal.jobs.executors.processes import start\n"
        "start(sys.argv[2:], Path(sys.argv[1]), {}).wait()"
    )
    argv = (sys.executable, "-m", EVALUATE, str(cell), *SLEEP)
    with subprocess.Popen((sys.executable, "-c", code, str(cell), *argv)) as driver:
        deadline = time.monotonic() + 30
        while not is_locked(cell / "lock"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.3)  # the program takes the place of the process
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        assert free_within(cell / "lock", 10)
