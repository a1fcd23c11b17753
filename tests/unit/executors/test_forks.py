"""Forked runs; what all executors promise is in the contract."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from cotbal.jobs.executors import Job, Outcome, Resources, processes
from cotbal.jobs.executors._fork_server import why_not_forkable
from cotbal.jobs.executors._forks import Forks
from cotbal.recipe.schema import ResourcesSection

IMPORTED = """
import os
print("imported")
with open(os.environ["IMPORTS"], "a") as file:
    file.write(f"{os.getpid()}\\n")
"""
WORK = """
import json, os, sys, time
from pathlib import Path
import imported_once

directory = Path(sys.argv[1])
state = {
    "pid": os.getpid(),
    "parent": os.getppid(),
    "session": os.getsid(0) == os.getpid(),
    "directory": os.getcwd(),
    "main": __name__,
    "mark": os.environ.get("MARK"),
    "argv": sys.argv[1:],
}
(directory / "state.new").write_text(json.dumps(state))
(directory / "state.new").rename(directory / "state.json")
while not (directory / "go").exists():
    time.sleep(0.02)
(directory / "done").touch()
"""
NEEDS = ResourcesSection(gpus=0)
TWO = Resources(workers=2, threads=1)


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules that a process started from here can import."""
    (tmp_path / "imported_once.py").write_text(IMPORTED)
    (tmp_path / "some_work.py").write_text(WORK)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    )
    monkeypatch.setenv("IMPORTS", str(tmp_path / "imports.txt"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Job]:
    def make(
        name: str,
        wait: bool = False,
        imports: Sequence[str] = ("imported_once",),
        needs: ResourcesSection = NEEDS,
    ) -> Job:
        directory = tmp_path / name
        directory.mkdir()
        if not wait:
            (directory / "go").touch()
        command = (sys.executable, "-m", "some_work", str(directory))
        return Job(name, directory, command, 1.0, needs, tuple(imports))

    return make


def state(job: Job) -> dict[str, Any]:
    return json.loads((job.directory / "state.json").read_text())


def imports(directory: Path) -> list[int]:
    """The processes that have imported the module."""
    return [int(line) for line in (directory / "imports.txt").read_text().split()]


def ok(outcomes: Sequence[Outcome]) -> dict[str, bool]:
    return {outcome.job.name: outcome.ok for outcome in outcomes}


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@contextmanager
def meanwhile(action: Callable[[], None]) -> Iterator[None]:
    """Act in a thread while the outcomes of jobs are awaited."""
    thread = threading.Thread(target=action)
    thread.start()
    yield
    thread.join()


def started(*jobs: Job) -> Callable[[], bool]:
    return lambda: all((job.directory / "state.json").exists() for job in jobs)


def test_runs_share_the_imports_and_nothing_else(job: Callable[..., Job], tmp_path: Path) -> None:
    jobs = [job(name) for name in "abc"]
    assert ok(list(processes.run(jobs, TWO))) == dict.fromkeys("abc", True)
    (server,) = imports(tmp_path)
    for one in jobs:
        seen = state(one)
        assert seen.pop("pid") != server
        assert seen == {
            "parent": server,
            "session": True,
            "directory": os.getcwd(),
            "main": "__main__",
            "mark": None,
            "argv": [str(one.directory)],
        }
        assert (one.directory / "log.txt").read_text() == "imported\n"
    assert not psutil.pid_exists(server)


def test_one_run_alone_needs_no_server(job: Callable[..., Job], tmp_path: Path) -> None:
    alone = job("a")
    assert ok(list(processes.run([alone], TWO))) == {"a": True}
    assert state(alone)["parent"] == os.getpid()
    assert len(imports(tmp_path)) == 1


@pytest.mark.parametrize("changed", ["environment", "directory"])
def test_after_a_change_of_the_driver_a_run_gets_a_fresh_process(
    job: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    first, second = job("a"), job("b")
    outcomes = processes.run([first, second], Resources(workers=1, threads=1))
    assert next(outcomes).job is first
    if changed == "environment":
        monkeypatch.setenv("MARK", "frog")
    else:
        monkeypatch.chdir(tmp_path)
    assert ok(list(outcomes)) == {"b": True}
    second_state = state(second)
    assert second_state["parent"] == os.getpid()
    assert (second_state["mark"] == "frog") == (changed == "environment")
    assert (second_state["directory"] == str(tmp_path)) == (changed == "directory")
    assert len(imports(tmp_path)) == 2


def test_a_killed_run_fails_alone(job: Callable[..., Job], tmp_path: Path) -> None:
    """As the kernel does when memory runs out."""
    killed, other, last = job("killed", wait=True), job("other", wait=True), job("last")

    def kill() -> None:
        wait_for(started(killed, other))
        os.kill(state(killed)["pid"], signal.SIGKILL)
        wait_for(started(last))
        (other.directory / "go").touch()

    with meanwhile(kill):
        outcomes = list(processes.run([killed, other, last], TWO))
    assert ok(outcomes) == {"killed": False, "other": True, "last": True}
    assert outcomes[0].message.startswith("killed was killed by signal SIGKILL\n")
    assert len(imports(tmp_path)) == 1


def test_runs_of_a_killed_server_restart_in_fresh_processes(
    job: Callable[..., Job], tmp_path: Path
) -> None:
    jobs = [job(name, wait=True) for name in "abc"]
    ended: list[bool] = []

    def kill() -> None:
        wait_for(started(*jobs[:2]))
        pids = [state(one)["pid"] for one in jobs[:2]]
        os.kill(imports(tmp_path)[0], signal.SIGKILL)
        wait_for(lambda: not any(map(psutil.pid_exists, pids)))
        ended.append(True)
        for one in jobs:
            (one.directory / "go").touch()

    with meanwhile(kill):
        outcomes = list(processes.run(jobs, TWO))
    assert ended
    assert ok(outcomes) == dict.fromkeys("abc", True)
    assert {state(one)["parent"] for one in jobs} == {os.getpid()}


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("raise ImportError('broken')", id="it cannot be imported"),
        pytest.param(
            "import threading, time\nthreading.Thread(target=time.sleep, args=[600],"
            " daemon=True).start()",
            id="it starts a thread",
        ),
        pytest.param("import os\nos.kill(os.getpid(), 9)", id="it crashes"),
    ],
)
def test_runs_are_fresh_processes_where_a_server_cannot_fork(
    job: Callable[..., Job], tmp_path: Path, code: str
) -> None:
    (tmp_path / "not_forkable.py").write_text(code)
    jobs = [job(name, imports=["not_forkable"]) for name in "abc"]
    assert ok(list(processes.run(jobs, TWO))) == dict.fromkeys("abc", True)
    assert {state(one)["parent"] for one in jobs} == {os.getpid()}


def test_stopping_does_not_wait_for_imports(job: Callable[..., Job], tmp_path: Path) -> None:
    (tmp_path / "slow_import.py").write_text("import time\ntime.sleep(60)")
    quick, *slow = job("a", imports=[]), job("b", imports=["slow_import"]), job("c")
    outcomes = processes.run([quick, *slow], TWO)
    assert next(outcomes).job is quick
    began = time.monotonic()
    outcomes.close()
    assert time.monotonic() - began < 5
    assert not [one.name for one in slow if (one.directory / "done").exists()]


def test_runs_that_need_fresh_processes(job: Callable[..., Job], tmp_path: Path) -> None:
    environment = dict(os.environ)
    forks = Forks(shared=True)
    launched = ResourcesSection(gpus=0, ranks=2)
    assert forks.start(job("no imports", imports=[]), environment) is None
    assert forks.start(job("several ranks", needs=launched), environment) is None
    assert Forks(shared=False).start(job("alone"), environment) is None
    forks.close()
    assert not (tmp_path / "imports.txt").exists()


def test_every_gpu_has_its_server(job: Callable[..., Job], tmp_path: Path) -> None:
    forks = Forks(shared=True)
    jobs = [job(f"{number}-on-{gpu}") for number in range(2) for gpu in "01"]
    processes_of = [
        forks.start(one, {**os.environ, "CUDA_VISIBLE_DEVICES": one.name[-1]}) for one in jobs
    ]
    assert [one.wait(60) for one in processes_of if one is not None] == [0, 0, 0, 0]
    forks.close()
    parents = [state(one)["parent"] for one in jobs]
    assert parents[:2] == parents[2:]
    assert set(parents) == set(imports(tmp_path))


DRIVER = """
import sys
from pathlib import Path
from cotbal.jobs.executors import Job, Resources, processes
from cotbal.recipe.schema import ResourcesSection

work = {name: (sys.executable, "-m", "some_work", name) for name in sys.argv[1:]}
needs, imports = ResourcesSection(gpus=0), ("imported_once",)
jobs = [Job(n, Path(n), command, 1.0, needs, imports) for n, command in work.items()]
list(processes.run(jobs, Resources(workers=2, threads=1)))
"""


def test_runs_end_with_a_killed_driver(job: Callable[..., Job], tmp_path: Path) -> None:
    jobs = [job(name, wait=True) for name in "ab"]
    argv = [sys.executable, "-c", DRIVER, *(str(one.directory) for one in jobs)]
    with subprocess.Popen(argv) as driver:
        wait_for(started(*jobs))
        driver.kill()
    pids = [*imports(tmp_path), *(state(one)["pid"] for one in jobs)]
    wait_for(lambda: not any(map(psutil.pid_exists, pids)))


@pytest.mark.parametrize("names", ["a", "ab"], ids=["a fresh process", "a server"])
def test_imports_end_with_a_killed_driver(
    job: Callable[..., Job], tmp_path: Path, names: str
) -> None:
    (tmp_path / "imported_once.py").write_text(f"{IMPORTED}\nimport time\ntime.sleep(600)\n")
    jobs = [job(name) for name in names]
    argv = [sys.executable, "-c", DRIVER, *(str(one.directory) for one in jobs)]
    with subprocess.Popen(argv) as driver:
        wait_for((tmp_path / "imports.txt").exists)
        driver.kill()
    began = time.monotonic()
    (process,) = imports(tmp_path)
    wait_for(lambda: not psutil.pid_exists(process))
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("tasks", "opened", "reason"),
    [
        (["python"], ["/dev/null", "socket:[7]"], None),
        (["python", "jemalloc_bg_thd"], [], None),
        (["python", "python"], [], "2 threads are running"),
        (["python"], ["/dev/null", "/dev/nvidiactl"], "a GPU is initialised"),
    ],
)
def test_what_makes_a_fork_unsafe(
    tmp_path: Path, tasks: list[str], opened: list[str], reason: str | None
) -> None:
    (tmp_path / "fd").mkdir()
    for number, target in enumerate(opened):
        (tmp_path / "fd" / str(number)).symlink_to(target)
    for number, name in enumerate(tasks):
        (tmp_path / "task" / str(number)).mkdir(parents=True)
        (tmp_path / "task" / str(number) / "comm").write_text(f"{name}\n")
    assert why_not_forkable(tmp_path) == reason
