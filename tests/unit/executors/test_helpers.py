"""Processes that help the last jobs of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest

from cotbal.jobs.executors import Helper, Job, Outcome, Resources, processes
from cotbal.recipe.schema import ResourcesSection

# Wants help, and ends when it may.
WORK = """
import sys, time
from pathlib import Path

directory = Path(sys.argv[1])
(directory / "began").touch()
while not (directory / "want").exists():
    time.sleep(0.02)
(directory / "wanted").touch()
while not (directory / "go").exists():
    time.sleep(0.02)
if (directory / "fail").exists():
    sys.exit("nothing to eat")
"""
HELP = """
import os, sys, time
from pathlib import Path

directory = Path(sys.argv[1])
(directory / f"helper-{os.getpid()}").touch()
if (directory / "ends").exists():
    sys.exit("no help")
time.sleep(600)
"""
DRIVER = """
import sys
from pathlib import Path
from cotbal.jobs.executors import Helper, Job, Resources, processes
from cotbal.recipe.schema import ResourcesSection

directory = sys.argv[1]
command, helping = ((sys.executable, "-m", name, directory) for name in ("the_work", "the_help"))
needs, helper = ResourcesSection(gpus=0), Helper(helping, Path(directory) / "wanted")
job = Job("a", Path(directory), command, 1.0, needs, ("the_imports",), helper)
list(processes.run([job], Resources(workers=2, threads=1)))
"""
FORKED = pytest.mark.parametrize("imports", [(), ("the_imports",)], ids=["fresh", "forked"])
MakeJob = Callable[..., Job]


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules that a process started from here can import."""
    for name, code in (("the_work", WORK), ("the_help", HELP), ("the_imports", "")):
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture
def job(tmp_path: Path) -> MakeJob:
    def make(name: str, *marks: str, imports: Sequence[str] = ("the_imports",)) -> Job:
        directory = tmp_path / name
        directory.mkdir()
        for mark in marks:
            (directory / mark).touch()
        command, helping = (
            (sys.executable, "-m", module, str(directory)) for module in ("the_work", "the_help")
        )
        helper = Helper(helping, directory / "wanted")
        needs = ResourcesSection(gpus=0)
        return Job(name, directory, command, 1.0, needs, tuple(imports), helper)

    return make


def helpers(job: Job) -> list[int]:
    """Processes that have helped a job."""
    return sorted(int(path.name.partition("-")[2]) for path in job.directory.glob("helper-*"))


class Driven:
    """Runs jobs until all have ended, and acts at every look at them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
        self.deadline = time.monotonic() + 60
        self.act = act
        monkeypatch.setattr(processes.time, "sleep", self.look)

    def look(self, seconds: float) -> None:
        assert time.monotonic() < self.deadline, "waited in vain"
        self.act()
        _sleep(seconds)

    def run(self, jobs: Sequence[Job], workers: int = 2) -> dict[str, Outcome]:
        outcomes = list(processes.run(jobs, Resources(workers=workers, threads=1)))
        assert len(outcomes) == len(jobs)
        return {outcome.job.name: outcome for outcome in outcomes}


_sleep = time.sleep


@FORKED
def test_a_free_slot_helps_the_last_job(
    job: MakeJob, imports: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = job("a", "want", imports=imports)

    def act() -> None:
        if helpers(alone):
            (alone.directory / "go").touch()

    assert Driven(monkeypatch, act).run([alone])["a"].ok
    (helper,) = helpers(alone)
    assert not psutil.pid_exists(helper)


@pytest.mark.parametrize(("workers", "count"), [(1, 0), (2, 1), (4, 3)])
def test_there_are_no_more_processes_than_slots(
    job: MakeJob, monkeypatch: pytest.MonkeyPatch, workers: int, count: int
) -> None:
    alone, looks = job("a", "want"), [0]

    def act() -> None:
        looks[0] += len(helpers(alone)) == count and (alone.directory / "wanted").exists()
        if looks[0] > 10:
            (alone.directory / "go").touch()

    assert Driven(monkeypatch, act).run([alone], workers)["a"].ok
    assert len(helpers(alone)) == count


def test_jobs_come_before_help(job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first job wants help at once; the third one waits for a slot."""
    first, second, third = job("a", "want"), job("b", "want"), job("c", "want")
    looks = [0]

    def act() -> None:
        began = (third.directory / "began").exists()
        looks[0] += (first.directory / "wanted").exists()
        if looks[0] > 10:
            (second.directory / "go").touch()
        if not began:
            assert not helpers(first) + helpers(second)
        if looks[0] > 30 and began:
            (third.directory / "go").touch()
        if helpers(first):
            (first.directory / "go").touch()

    assert set(Driven(monkeypatch, act).run([first, second, third])) == {"a", "b", "c"}
    assert len(helpers(first)) == 1
    assert not helpers(second)


def test_a_helper_that_fails_fails_no_job_and_is_not_replaced(
    job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, looks = job("a", "want", "ends"), [0]

    def act() -> None:
        looks[0] += bool(helpers(alone))
        if looks[0] > 20:
            (alone.directory / "go").touch()

    assert Driven(monkeypatch, act).run([alone])["a"].ok
    assert len(helpers(alone)) == 1
    assert "no help" in (alone.directory / "log.txt").read_text()


def test_help_ends_with_a_job_that_fails(job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = job("a", "want", "fail")

    def act() -> None:
        if helpers(alone):
            (alone.directory / "go").touch()

    outcome = Driven(monkeypatch, act).run([alone])["a"]
    assert not outcome.ok
    assert "nothing to eat" in outcome.message
    assert not any(map(psutil.pid_exists, helpers(alone)))


def test_an_offer_of_a_killed_process_is_removed(
    job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, looks = job("a", "wanted"), [0]

    def act() -> None:
        looks[0] += (alone.directory / "began").exists()
        if looks[0] == 10:
            assert not helpers(alone)
            assert not (alone.directory / "wanted").exists()
            (alone.directory / "want").touch()
            (alone.directory / "go").touch()

    assert Driven(monkeypatch, act).run([alone])["a"].ok


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_help_ends_with_the_driver(job: MakeJob, number: int) -> None:
    alone = job("a", "want")
    argv = [sys.executable, "-c", DRIVER, str(alone.directory)]
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as driver:
        deadline = time.monotonic() + 60
        while not helpers(alone):
            assert time.monotonic() < deadline, "waited in vain"
            _sleep(0.02)
        driver.send_signal(number)
        driver.wait(60)
    deadline = time.monotonic() + 10
    while any(map(psutil.pid_exists, helpers(alone))):
        assert time.monotonic() < deadline, "the helper is alive"
        _sleep(0.02)
