"""The contract of executors; a new file in `cotbal.jobs.executors` needs no line here."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from cotbal import plugins
from cotbal.jobs.executors import Job, Outcome, Resources
from cotbal.recipe.schema import ResourcesSection
from helpers.ray_nodes import RayNodes

# Executors that need a service of their own, and the fixture that starts it.
SERVICES = {"ray": "ray_address", "slurm": "slurm_cluster"}
MARKS = {name: (pytest.mark.needs(name), pytest.mark.extended) for name in SERVICES}
EXECUTORS = [
    pytest.param(name, marks=MARKS.get(name, ())) for name in plugins.names("cotbal.jobs.executors")
]
FORKING = "processes, forking"  # for jobs that name what they import
NEEDS = ResourcesSection(gpus=0)
ORPHAN_SECONDS = 20  # for stopped jobs to end; they would sleep for 60
# A job as a worker is: a module, and everything it needs to know in its arguments.
WORK = """
import json, os, sys, time
from pathlib import Path

directory, deed = Path(sys.argv[1]), sys.argv[2]
(directory / "pid").write_text(str(os.getpid()))
for number in range(30):
    print("line", number, flush=True)
if deed == "fail":
    raise ValueError("the image has no frog")
if deed == "exit":
    sys.exit("nothing to eat")
if deed == "sleep":
    time.sleep(60)
names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "COTBAL_TEST_MARK")
(directory / "done").write_text(json.dumps({name: os.environ.get(name) for name in names}))
"""
DRIVER = """
import importlib, sys
from pathlib import Path
from cotbal.jobs.executors import Job, Resources
from cotbal.recipe.schema import ResourcesSection

executor, directory, module = importlib.import_module(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
needs = ResourcesSection(gpus=0)
work = {n: (sys.executable, "-m", module, str(directory / n), "sleep") for n in ("one", "two")}
imports = tuple(sys.argv[4:])
jobs = [Job(n, directory / n, command, 1.0, needs, imports) for n, command in work.items()]
for outcome in executor.run(jobs, Resources(workers=2, threads=1)):
    print(outcome, flush=True)
"""
MakeJob = Callable[..., Job]


@pytest.fixture(params=[*EXECUTORS, FORKING])
def variant(request: pytest.FixtureRequest) -> str:
    """The name of an executor, or FORKING."""
    return str(request.param)


@pytest.fixture
def executor(variant: str, request: pytest.FixtureRequest) -> ModuleType:
    name = variant.partition(",")[0]
    if name in SERVICES:
        request.getfixturevalue(SERVICES[name])
    return plugins.load("cotbal.jobs.executors", name)


@pytest.fixture
def imports(variant: str, work: str) -> tuple[str, ...]:
    return (f"{work}_imports",) if variant == FORKING else ()


@pytest.fixture
def ray_address(connected_to_ray: RayNodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests find the connection of their process; drivers that they start make their own."""
    monkeypatch.setenv("RAY_ADDRESS", connected_to_ray.address)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that any Python process started from here can run, under a name of its own."""
    name = f"some_work_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(WORK)
    (tmp_path / f"{name}_imports.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return name


@pytest.fixture
def job(tmp_path: Path, work: str, imports: tuple[str, ...]) -> MakeJob:
    def make(name: str, deed: str = "work", cost: float = 1.0) -> Job:
        directory = tmp_path / "probes" / name
        command = (sys.executable, "-m", work, str(directory), deed)
        return Job(name, directory, command, cost, NEEDS, imports)

    return make


def ran(
    executor: ModuleType, jobs: list[Job], resources: Resources | None = None
) -> dict[str, Outcome]:
    outcomes = list(executor.run(jobs, resources or Resources(workers=2, threads=1)))
    assert len(outcomes) == len(jobs)
    return {outcome.job.name: outcome for outcome in outcomes}


def log(job: Job) -> str:
    return (job.directory / "log.txt").read_text()


def test_it_executes_the_jobs(executor: ModuleType, job: MakeJob) -> None:
    jobs = [job("mini"), job("full-ocr"), job("full-vqa")]
    outcomes = ran(executor, jobs)
    assert set(outcomes) == {"mini", "full-ocr", "full-vqa"}
    for one in jobs:
        outcome = outcomes[one.name]
        assert outcome.ok
        assert outcome.job is one
        assert outcome.seconds >= 0
        assert (one.directory / "done").exists()
        assert log(one).splitlines() == [f"line {number}" for number in range(30)]


def test_nothing_to_do(executor: ModuleType) -> None:
    assert ran(executor, []) == {}


def test_a_failure_leaves_the_others_running(executor: ModuleType, job: MakeJob) -> None:
    outcomes = ran(executor, [job("a", "fail"), job("b"), job("c", "exit"), job("d")])
    assert {name: outcome.ok for name, outcome in outcomes.items()} == {
        "a": False,
        "b": True,
        "c": False,
        "d": True,
    }


def test_a_failure_is_reported_with_the_tail_of_its_log(executor: ModuleType, job: MakeJob) -> None:
    failing = job("full-ocr", "fail")
    message = ran(executor, [failing, job("full-vqa")])["full-ocr"].message
    assert message.splitlines()[0].startswith("full-ocr ")
    assert message.splitlines()[-1] == "ValueError: the image has no frog"
    assert "line 29" in message
    assert "line 5\n" not in message
    assert "line 0" in log(failing)


def test_an_exit_with_a_message_is_a_failure(executor: ModuleType, job: MakeJob) -> None:
    outcome = ran(executor, [job("a", "exit"), job("b")])["a"]
    assert not outcome.ok
    assert "nothing to eat" in outcome.message


def test_a_log_is_appended_to(executor: ModuleType, job: MakeJob) -> None:
    again = job("a")
    again.directory.mkdir(parents=True)
    (again.directory / "log.txt").write_text("from yesterday\n")
    ran(executor, [again, job("b")])
    assert log(again).splitlines()[:2] == ["from yesterday", "line 0"]


def test_a_job_gets_its_threads_and_its_environment(
    executor: ModuleType, job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    before = dict(os.environ)
    one = job("a")
    resources = Resources(threads=3, environment={"COTBAL_TEST_MARK": "frog"})
    assert ran(executor, [one, job("b")], resources)["a"].ok
    variables = (one.directory / "done").read_text()
    assert (
        variables == '{"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "3", "COTBAL_TEST_MARK": "frog"}'
    )
    assert dict(os.environ) == before


def test_it_leaves_this_process_as_it_was(executor: ModuleType, job: MakeJob) -> None:
    before = sys.argv, sys.stdout, sys.stderr, os.getcwd()
    ran(executor, [job("a"), job("b", "fail")])
    assert (sys.argv, sys.stdout, sys.stderr, os.getcwd()) == before


def test_closing_it_stops_what_runs(executor: ModuleType, job: MakeJob) -> None:
    quick, *slow = job("quick", cost=9), job("slow", "sleep"), job("slower", "sleep")
    outcomes = executor.run([quick, *slow], Resources(workers=2, threads=1))
    assert next(outcomes).job is quick
    started = time.monotonic()
    outcomes.close()
    assert time.monotonic() - started < 8
    assert not [one.name for one in slow if alive(one)]
    assert not [one.name for one in slow if (one.directory / "done").exists()]


def test_ctrl_c_leaves_no_orphan(
    executor: ModuleType, job: MakeJob, work: str, imports: tuple[str, ...], tmp_path: Path
) -> None:
    """Every process of a job is looked for, also one that has not begun its work yet."""
    first = job("one", "sleep")
    argv = [sys.executable, "-c", DRIVER, executor.__name__, str(first.directory.parent), work]
    argv += imports
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as driver:
        wait_for((first.directory / "pid").exists)
        wait_for(lambda: alive(first, driver.pid))
        driver.send_signal(signal.SIGINT)
        assert driver.wait(30) != 0
    wait_for(lambda: not processes_of(work), ORPHAN_SECONDS)
    assert not list(tmp_path.glob("probes/*/done"))


def processes_of(work: str) -> list[psutil.Process]:
    """The processes whose command line names the module `work`, or what it imports, without the
    dead.
    """
    return [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if {work, f"{work}_imports"} & {*(process.info["cmdline"] or ())}
        and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


def alive(job: Job, driver: int | None = None) -> bool:
    """Whether the process of a job exists; `driver` may execute the job itself."""
    try:
        pid = int((job.directory / "pid").read_text())
        return pid == driver or (
            pid != os.getpid() and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        )
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return False


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_it_is_one_function(executor: ModuleType) -> None:
    assert executor.__doc__
    assert executor.run.__doc__
    assert list(inspect.signature(executor.run).parameters) == ["jobs", "resources"]
