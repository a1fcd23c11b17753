"""One worker process a device on this machine; without GPUs, the CPU cores are shared out."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from cotbal.errors import CotbalError
from cotbal.executors import PARENT, Job, Outcome, Resources, log_tail, thread_environment
from cotbal.launching import launched

CPU_WORKERS = 2  # two processes of half the cores each beat one with all of them for small models
GRACE_SECONDS = 10.0


@dataclass(frozen=True)
class _Slot:
    """A place for one job at a time: a GPU, or a share of the cores; a job of several GPUs takes several."""

    device: str | None
    threads: int


@dataclass
class _Running:
    job: Job
    slots: list[_Slot]
    process: subprocess.Popen[bytes]
    started: float


def run(jobs: Sequence[Job], resources: Resources) -> Iterator[Outcome]:
    """Run the jobs, the longest first, as many at a time as there are slots; yield outcomes as they end.

    Raises:
        CotbalError: a job needs several nodes, or more GPUs than this machine has.
    """
    free, most = _places(jobs, resources)
    waiting = sorted(jobs, key=lambda job: -job.cost)
    running: list[_Running] = []
    try:
        while waiting or running:
            while len(running) < most and (job := _next(waiting, len(free))) is not None:
                waiting.remove(job)
                taken, free = free[: _slots_of(job)], free[_slots_of(job) :]
                try:
                    running.append(_start(job, taken, resources))
                except OSError as error:
                    free += taken
                    yield Outcome(job, False, 0.0, f"{job.name} could not start: {error}")
            ended = [r for r in running if r.process.poll() is not None]
            for r in ended:
                running.remove(r)
                free += r.slots
                yield _outcome(r)
            if not ended:
                time.sleep(0.05)
    finally:
        _stop(running)


def _places(jobs: Sequence[Job], resources: Resources) -> tuple[list[_Slot], int]:
    """Every slot, and how many jobs may run at a time."""
    largest = max(map(_slots_of, jobs), default=1)
    nodes = max((job.needs.nodes for job in jobs), default=1)
    if nodes > 1:
        raise CotbalError(f"resources.nodes: expected 1 on this machine; found {nodes}: use --on slurm or --on ray")
    if largest == 1:
        found = slots(resources, len(jobs))
        return found, len(found)
    gpus = visible_gpus()
    if largest > len(gpus):
        raise CotbalError(
            f"resources.gpus: expected at most the {len(gpus)} GPUs of this machine; found {largest} "
            "(several processes without GPUs: gpus: 0 and ranks)"
        )
    return slots(replace(resources, workers=None), len(gpus)), resources.workers or len(gpus)


def _slots_of(job: Job) -> int:
    return max(job.needs.gpus, 1)


def _next(waiting: Sequence[Job], free: int) -> Job | None:
    """The longest job for which there is room."""
    return next((job for job in waiting if _slots_of(job) <= free), None)


def slots(resources: Resources, jobs: int) -> list[_Slot]:
    """The places that jobs can run in: one a GPU, otherwise `workers` shares of the CPU cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpus = visible_gpus()
    count = resources.workers or len(gpus) or min(CPU_WORKERS, cores)
    threads = resources.threads or max(1, cores // count)
    devices = [gpus[i % len(gpus)] if gpus else None for i in range(min(count, max(jobs, 1)))]
    return [_Slot(device, threads) for device in devices]


def visible_gpus() -> list[str]:
    """Ids of the NVIDIA GPUs that this process may use, asked from the driver so that torch need not be loaded."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [device for device in chosen.split(",") if device.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    if listing.returncode != 0:
        return []
    return [str(i) for i, line in enumerate(listing.stdout.splitlines()) if line.startswith("GPU")]


def _start(job: Job, taken: list[_Slot], resources: Resources) -> _Running:
    job.directory.mkdir(parents=True, exist_ok=True)
    ranks = job.needs.processes
    threads = resources.threads or max(1, sum(slot.threads for slot in taken) // ranks)
    environment = {**os.environ, **thread_environment(threads), **resources.environment, PARENT: str(os.getpid())}
    devices = [slot.device for slot in taken if slot.device is not None]
    if devices:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
    with (job.directory / "log.txt").open("ab") as log:
        # A session of its own: Ctrl-C reaches the driver alone, which then stops its workers in order.
        process = subprocess.Popen(
            launched(job.command, job.needs),
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
        )  # fmt: skip
    return _Running(job, taken, process, time.monotonic())


def _outcome(r: _Running) -> Outcome:
    seconds = time.monotonic() - r.started
    code = r.process.returncode
    if code == 0:
        return Outcome(r.job, True, seconds)
    how = f"was killed by signal {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return Outcome(r.job, False, seconds, f"{r.job.name} {how}\n{log_tail(r.job.directory / 'log.txt')}")


def _stop(running: Sequence[_Running]) -> None:
    for r in running:
        r.process.terminate()
    deadline = time.monotonic() + GRACE_SECONDS
    for r in running:
        try:
            r.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            r.process.kill()
            r.process.wait()
