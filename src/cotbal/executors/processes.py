"""One worker process a device on this machine; without GPUs, the CPU cores are shared out."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cotbal.executors import PARENT, Job, Outcome, Resources, log_tail, thread_environment

CPU_WORKERS = 2  # two processes of half the cores each beat one with all of them for small models
GRACE_SECONDS = 10.0


@dataclass(frozen=True)
class _Slot:
    """A place for one job at a time: a GPU, or a share of the cores."""

    device: str | None
    threads: int


@dataclass
class _Running:
    job: Job
    slot: _Slot
    process: subprocess.Popen[bytes]
    started: float


def run(jobs: Sequence[Job], resources: Resources) -> Iterator[Outcome]:
    """Run the jobs, the longest first, as many at a time as there are slots; yield outcomes as they end."""
    free = deque(slots(resources, len(jobs)))
    waiting = deque(sorted(jobs, key=lambda job: -job.cost))
    running: list[_Running] = []
    try:
        while waiting or running:
            while waiting and free:
                job = waiting.popleft()
                try:
                    running.append(_start(job, free[0], resources))
                except OSError as error:
                    yield Outcome(job, False, 0.0, f"{job.name} could not start: {error}")
                else:
                    free.popleft()
            ended = [r for r in running if r.process.poll() is not None]
            for r in ended:
                running.remove(r)
                free.append(r.slot)
                yield _outcome(r)
            if not ended:
                time.sleep(0.05)
    finally:
        _stop(running)


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


def _start(job: Job, slot: _Slot, resources: Resources) -> _Running:
    job.directory.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **thread_environment(slot.threads), **resources.environment, PARENT: str(os.getpid())}
    if slot.device is not None:
        environment["CUDA_VISIBLE_DEVICES"] = slot.device
    with (job.directory / "log.txt").open("ab") as log:
        # A session of its own: Ctrl-C reaches the driver alone, which then stops its workers in order.
        process = subprocess.Popen(
            job.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    return _Running(job, slot, process, time.monotonic())


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
