"""One worker process per device on this machine; without GPUs, the CPU cores are divided among
workers."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from cotbal.errors import CotbalError
from cotbal.jobs.executors import Job, Outcome, Resources, thread_environment
from cotbal.jobs.executors._command import SAVE_SECONDS, failure, start, stop
from cotbal.jobs.launching import launched
from cotbal.training.environment import PREEMPTIBLE

CPU_WORKERS = 2  # two processes of half the cores each beat one with all of them for small models


@dataclass(frozen=True)
class _Slot:
    """A place for one job at a time: a GPU, or a share of the cores; a job of several GPUs takes
    several.
    """

    device: str | None
    threads: int


@dataclass
class _Running:
    job: Job
    slots: list[_Slot]
    process: subprocess.Popen[bytes]
    started: float


def run(jobs: Sequence[Job], resources: Resources) -> Iterator[Outcome]:
    """Run the jobs, the longest first, as many at a time as there are slots; yield outcomes as they
    end.

    Raises:
        CotbalError: a job needs several nodes, or more GPUs than this machine has.
    """
    return _run(jobs, resources, *_places(jobs, resources))


def _run(
    jobs: Sequence[Job], resources: Resources, free: list[_Slot], most: int
) -> Iterator[Outcome]:
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
        stop([r.process for r in running], SAVE_SECONDS)


def _places(jobs: Sequence[Job], resources: Resources) -> tuple[list[_Slot], int]:
    """Every slot, and how many jobs may run at a time."""
    largest = max(map(_slots_of, jobs), default=1)
    nodes = max((job.needs.nodes for job in jobs), default=1)
    if nodes > 1:
        raise CotbalError(
            f"resources.nodes: expected 1 on this machine; found {nodes}: use --on slurm or"
            " --on ray"
        )
    if largest == 1:
        found = slots(resources, len(jobs))
        return found, len(found)
    gpus = visible_gpus()
    if largest > len(gpus):
        raise CotbalError(
            f"resources.gpus: expected at most the {len(gpus)} GPUs of this machine; found"
            f" {largest} (several processes without GPUs: gpus: 0 and ranks)"
        )
    return slots(replace(resources, workers=None), len(gpus)), resources.workers or len(gpus)


def _slots_of(job: Job) -> int:
    return max(job.needs.gpus, 1)


def _next(waiting: Sequence[Job], free: int) -> Job | None:
    """The longest job for which there is room."""
    return next((job for job in waiting if _slots_of(job) <= free), None)


def slots(resources: Resources, jobs: int) -> list[_Slot]:
    """The places that jobs can run in: one per GPU, otherwise `workers` shares of the CPU cores."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    gpus = visible_gpus()
    count = resources.workers or len(gpus) or min(CPU_WORKERS, cores)
    threads = resources.threads or max(1, cores // count)
    devices = [gpus[i % len(gpus)] if gpus else None for i in range(min(count, max(jobs, 1)))]
    return [_Slot(device, threads) for device in devices]


def visible_gpus() -> list[str]:
    """Ids of the NVIDIA GPUs that this process may use, asked from the driver so that torch need
    not be loaded.
    """
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
    threads = resources.threads or max(
        1, sum(slot.threads for slot in taken) // job.needs.processes
    )
    devices = [slot.device for slot in taken if slot.device is not None]
    chosen = {"CUDA_VISIBLE_DEVICES": ",".join(devices)} if devices else {}
    environment = {
        **thread_environment(threads),
        **resources.environment,
        **chosen,
        PREEMPTIBLE: "1",
    }
    process = start(launched(job.command, job.needs), job.directory, environment)
    return _Running(job, taken, process, time.monotonic())


def _outcome(r: _Running) -> Outcome:
    seconds = time.monotonic() - r.started
    code = r.process.returncode
    message = "" if code == 0 else failure(r.job.name, code, r.job.directory)
    return Outcome(r.job, code == 0, seconds, message)
