from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cotbal.errors import CotbalError
from cotbal.jobs.executors import Job, Resources, log_tail, processes, ray
from cotbal.jobs.executors.processes import Slots, available
from cotbal.recipe.schema import ResourcesSection
from cotbal.training.environment import PARENT
from helpers.errors import raises

NOTE_TIMES = """
import sys, time
started = time.time()
time.sleep(float(sys.argv[2]))
open(sys.argv[1], "w").write(f"{started} {time.time()}")
"""


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def job(
    directory: Path, name: str, cost: float = 1.0, seconds: float = 0.0, code: str = NOTE_TIMES
) -> Job:
    command = (
        sys.executable,
        "-I",
        "-S",
        "-c",
        code,
        str(directory / f"{name}.times"),
        str(seconds),
    )
    return Job(name, directory / name, command, cost)


def times(directory: Path, name: str) -> tuple[float, float]:
    started, ended = (directory / f"{name}.times").read_text().split()
    return float(started), float(ended)


def test_the_longest_first(tmp_path: Path) -> None:
    costs = {"short": 1.0, "long": 50.0, "middle": 7.0}
    jobs = [job(tmp_path, name, cost) for name, cost in costs.items()]
    names = [outcome.job.name for outcome in processes.run(jobs, Resources(workers=1))]
    assert names == ["long", "middle", "short"]


def test_no_more_at_a_time_than_workers(tmp_path: Path) -> None:
    jobs = [job(tmp_path, f"{n}", seconds=0.3) for n in range(4)]
    assert all(outcome.ok for outcome in processes.run(jobs, Resources(workers=2)))
    spans = [times(tmp_path, one.name) for one in jobs]
    for started, _ in spans:
        assert sum(begin <= started < end for begin, end in spans) <= 2
    assert any(a[0] < b[0] < a[1] for a in spans for b in spans), (
        "two workers work at the same time"
    )


def test_a_job_gets_the_id_of_its_driver_and_no_input(tmp_path: Path) -> None:
    code = f"import os, sys; print(os.environ[{PARENT!r}], os.getppid(), repr(sys.stdin.read()))"
    one = job(tmp_path, "a", code=code)
    assert [outcome.ok for outcome in processes.run([one], Resources())] == [True]
    assert (one.directory / "log.txt").read_text().split() == [
        str(os.getpid()),
        str(os.getpid()),
        "''",
    ]


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("import sys; sys.exit(3)", "ended with exit code 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "was killed by signal SIGKILL"),
    ],
)
def test_how_a_job_failed(tmp_path: Path, code: str, how: str) -> None:
    (outcome,) = processes.run([job(tmp_path, "a", code=code)], Resources())
    assert not outcome.ok
    assert outcome.message.startswith(f"a {how}\n")


def test_a_job_that_will_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "SAVE_SECONDS", 0.3)
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf',"
        " flush=True); time.sleep(60)"
    )
    deaf = job(tmp_path, "deaf", 2.0, code=code)
    outcomes = processes.run([deaf, job(tmp_path, "quick", seconds=0.5)], Resources(workers=2))
    assert next(outcomes).job.name == "quick"
    while "deaf" not in (deaf.directory / "log.txt").read_text():
        pass
    outcomes.close()


def test_a_command_that_cannot_start_leaves_the_others_running(tmp_path: Path) -> None:
    broken = Job("broken", tmp_path / "broken", (str(tmp_path / "no-such-program"),), 9.0)
    jobs = [broken, job(tmp_path, "b")]
    outcomes = {o.job.name: o for o in processes.run(jobs, Resources(workers=1))}
    assert outcomes["b"].ok
    assert not outcomes["broken"].ok
    assert "no-such-program" in outcomes["broken"].message


def test_cores_are_divided_among_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert available(Resources(), 5) == Slots((None, None), 4)
    assert available(Resources(workers=3), 5) == Slots((None,) * 3, 2)
    assert available(Resources(workers=20), 50) == Slots((None,) * 20, 1)
    assert available(Resources(workers=2, threads=6), 5) == Slots((None, None), 6)
    assert available(Resources(workers=1), 5) == Slots((None,), 8)


def test_the_threads_of_a_run_do_not_depend_on_how_many_runs_are_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A resumed job must round as the first one did."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert len({available(Resources(), jobs).threads for jobs in range(1, 6)}) == 1
    assert len(available(Resources(), 1).devices) == 1


def test_one_worker_per_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert available(Resources(), 9) == Slots(("3", "5"), 4)
    assert available(Resources(workers=3), 9).devices == ("3", "5", "3")


def test_a_run_of_several_gpus_takes_them_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The large one gets two at once; the small ones share what is left."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,8")
    seen = tmp_path / "torch" / "distributed" / "run.py"  # in place of torchrun
    seen.parent.mkdir(parents=True)
    for folder in (seen.parent, seen.parent.parent):
        (folder / "__init__.py").write_text("")
    words = "[os.environ['CUDA_VISIBLE_DEVICES'], *sys.argv[1:]]"
    note = f"import os, sys; open(sys.argv[-1], 'w').write(' '.join({words}))"
    seen.write_text(note)
    (tmp_path / "alone.py").write_text(note)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    jobs = [
        Job(
            name,
            tmp_path / name,
            (sys.executable, "-m", "alone", str(tmp_path / f"{name}.seen")),
            cost,
            needs,
        )
        for name, cost, needs in (
            ("small", 1.0, ResourcesSection()),
            ("large", 9.0, ResourcesSection(gpus=2)),
        )
    ]
    assert all(outcome.ok for outcome in processes.run(jobs, Resources()))
    large, small = ((tmp_path / f"{name}.seen").read_text().split() for name in ("large", "small"))
    assert large[:4] == ["3,5", "--standalone", "--nproc-per-node=2", "--module"]
    assert small[0] == "8"


@pytest.mark.parametrize(
    ("needs", "code", "name"),
    [
        (ResourcesSection(gpus=2), "too-few-gpus", "resources.gpus"),
        (ResourcesSection(gpus=2, nodes=2), "several-nodes", "resources.nodes"),
    ],
)
def test_a_job_that_this_machine_cannot_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs: ResourcesSection, code: str, name: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with raises(CotbalError, code, name):
        processes.run([Job("a", tmp_path, ("python", "-m", "x"), needs=needs)], Resources())


def driven_here(one: Job) -> object:
    return next(processes.run([one], Resources()))


def driven_by_ray(one: Job) -> object:
    return ray.do(one.command, str(one.directory), {})


@pytest.mark.parametrize("drive", [driven_here, driven_by_ray])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_is_being_started_when_its_driver_is_interrupted_is_stopped(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    drive: Callable[[Job], object],
    number: signal.Signals,
) -> None:
    """The signal arrives after the process exists, and before anything here refers to it."""
    begun: list[subprocess.Popen[bytes]] = []
    original = subprocess.Popen

    def popen(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        begun.append(original(*arguments, **options))
        signal.raise_signal(number)
        return begun[0]

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", popen)
    before = signal.signal(number, interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            drive(job(tmp_path, "a", seconds=60))
        assert signal.getsignal(number) is interrupted
    finally:
        signal.signal(number, before)
    try:
        assert begun[0].poll() == -signal.SIGTERM
    finally:
        begun[0].kill()
        begun[0].wait()


@pytest.mark.parametrize(
    ("chosen", "gpus"), [("", []), ("-1", []), ("0", ["0"]), ("1, 2", ["1", "2"])]
)
def test_the_gpus_that_the_user_chose(
    monkeypatch: pytest.MonkeyPatch, chosen: str, gpus: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert [device.strip() for device in processes.visible_gpus()] == gpus


def test_gpus_are_those_that_nvidia_smi_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert processes.visible_gpus() == []
    program.write_text('#!/bin/sh\necho "GPU 0: X (UUID: GPU-1)"\necho "GPU 1: X (UUID: GPU-2)"\n')
    program.chmod(0o755)
    assert processes.visible_gpus() == ["0", "1"]
    program.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    assert processes.visible_gpus() == []


def test_the_tail_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    assert log_tail(log) == "(no log was written)"
    log.write_bytes(b"\xff broken\n" + b"".join(b"line %d\n" % n for n in range(100)))
    assert log_tail(log, 3) == "line 97\nline 98\nline 99"
    assert "broken" in log_tail(log, 200)
    (tmp_path / "failure.json").write_text(json.dumps({"message": "ValueError: no frog"}))
    assert log_tail(log, 2) == "line 98\nline 99\nValueError: no frog"
    log.write_text("Traceback\nValueError: no frog\n")
    assert log_tail(log, 2) == "Traceback\nValueError: no frog"
