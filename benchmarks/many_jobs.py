"""Thousands of quick jobs through one executor: every job ends once, and none is lost or run twice.

    python benchmarks/many_jobs.py WORK --executor processes --jobs 2000
    python benchmarks/many_jobs.py WORK --executor processes --jobs 2000 --kill 40

A job notes that it began in `begun` of its directory, and that it is done in `done`. The driver is
a process of its own, which writes one line per outcome, with its memory and that of the largest
process that it started: many jobs are a soak test. With `--kill` it is killed after so many
seconds, again and again, and restarted with the jobs that are not done, as `cotbal run` does: then
a job that was stopped begins again, and one that is done must not. A rerun with the same WORK
resumes. Slurm is the one of the commands in PATH, Ray the cluster at RAY_ADDRESS or one of this
machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from cotbal import plugins
from cotbal.jobs.executors import Job, Resources
from cotbal.recipe.schema import ResourcesSection

WORKER = """
import os, sys
with open(os.path.join(sys.argv[1], "begun"), "a") as file:
    file.write(f"{os.getpid()}\\n")
with open(os.path.join(sys.argv[1], "done"), "a") as file:
    file.write("done\\n")
"""
MODULE = "cotbal_quick_job"


def main() -> None:
    """Run the jobs and print what came of them; exit code 1 if one was lost or run twice."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--executor", default="processes")
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kill", type=float, help="kill the driver after so many seconds")
    parser.add_argument("--drive", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    prepare(options.work)
    if options.drive:
        drive(options.work, options.executor, options.jobs, options.workers)
        return
    begin = time.monotonic()
    kills = supervise(options.kill)
    figures = {
        "executor": options.executor,
        **counted(options.work, options.jobs),
        "kills": kills,
        "seconds": round(time.monotonic() - begin, 1),
    }
    print(json.dumps(figures))
    repeats = figures["begun twice"] if kills == 0 else 0
    sys.exit(any([figures["lost"], figures["done twice"], figures["reported twice"], repeats]))


def prepare(work: Path) -> None:
    """The module of the jobs, where every process started from here finds it."""
    work.mkdir(parents=True, exist_ok=True)
    (work / f"{MODULE}.py").write_text(WORKER)
    paths = [str(work.resolve()), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    sys.path.insert(0, str(work.resolve()))


def supervise(kill: float | None) -> int:
    """Run drivers until one ends by itself; returns how many were killed."""
    kills = 0
    while True:
        driver = subprocess.Popen([sys.executable, *sys.argv, "--drive"])
        with suppress(subprocess.TimeoutExpired):
            if driver.wait(kill):
                raise SystemExit("the driver failed; its messages are above")
            return kills
        children = psutil.Process(driver.pid).children(recursive=True)
        driver.kill()
        driver.wait()
        psutil.wait_procs(children)  # jobs of this machine notice the death of their driver
        kills += 1


def drive(work: Path, executor: str, number: int, workers: int) -> None:
    """Run the jobs that are not done; one line per outcome."""
    module = plugins.load("cotbal.jobs.executors", executor)
    jobs = [job(work, index) for index in range(number)]
    waiting = [one for one in jobs if not (one.directory / "done").exists()]
    resources = Resources(workers=workers, threads=1)
    with (work / "outcomes").open("a", buffering=1) as file:
        for outcome in module.run(waiting, resources):
            file.write(f"{outcome.job.name} {outcome.ok} {memory():.2f} {largest_child():.2f}\n")


def memory(process: psutil.Process | None = None) -> float:
    """MiB of a process, by default of this one."""
    return float((process or psutil.Process()).memory_info().rss / 2**20)


def largest_child() -> float:
    """MiB of the largest process that this one started."""
    sizes = [0.0]
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            sizes.append(memory(child))
    return max(sizes)


def job(work: Path, index: int) -> Job:
    """One job; it imports so little that a process forks fast."""
    directory = (work / "jobs" / f"{index:05d}").resolve()
    directory.mkdir(parents=True, exist_ok=True)
    command = (sys.executable, "-m", MODULE, str(directory))
    return Job(f"job-{index:05d}", directory, command, 1.0, ResourcesSection(gpus=0), ("json",))


def counted(work: Path, number: int) -> dict[str, Any]:
    """What the files of the jobs and the driver's lines say."""
    begun, done = Counter[int](), Counter[int]()
    for index in range(number):
        directory = work / "jobs" / f"{index:05d}"
        begun[_lines(directory / "begun")] += 1
        done[_lines(directory / "done")] += 1
    rows = [line.split() for line in (work / "outcomes").read_text().splitlines()]
    reported = Counter(name for name, *_ in rows)
    return {
        "jobs": number,
        "lost": done[0],
        "begun twice": number - begun[0] - begun[1],
        "done twice": number - done[0] - done[1],
        "reported twice": sum(count > 1 for count in reported.values()),
        "failed": sum(ok == "False" for _, ok, *_ in rows),
        "driver": growth([float(size) for *_, size, _ in rows]),
        "largest child": growth([float(size) for *_, size in rows]),
    }


def growth(sizes: list[float]) -> dict[str, float]:
    """MiB after a tenth of the jobs and at the end, and the slope between per 1,000 jobs."""
    settled = sizes[len(sizes) // 10 :]
    slope = np.polyfit(np.arange(len(settled)), settled, 1)[0]
    return {"MiB": settled[0], "at the end": settled[-1], "per 1000": round(1000 * slope, 3)}


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


if __name__ == "__main__":
    main()
