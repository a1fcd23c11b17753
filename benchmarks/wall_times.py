"""Wall times on an idle machine: a `balance` with one worker and with two, and the whole demo.

    PYTHONPATH=src python benchmarks/wall_times.py workers recipe.yaml [setting=value ...]
    PYTHONPATH=src python benchmarks/wall_times.py demo

Every command begins with an empty cache. In every round both numbers of workers take turns, with
one thread per run; the demo chooses both itself. Models, answers, scores and weights of all rounds
must be the same, byte for byte. `others` is the part of all cores that other processes took
meanwhile: a wall time says little where it exceeds 5 %, and the exit code is then 1.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from warm_workers import digests

WORKERS = (1, 2)
QUIET = 0.05


@dataclass(frozen=True)
class Spent:
    """Wall time and processor time of a command in seconds, and the part of all cores that other
    processes took.
    """

    wall: float
    processor: float
    others: float

    def __str__(self) -> str:
        return (
            f"{self.wall:.1f} s, {self.processor:.1f} s of processor time, others {self.others:.0%}"
        )


def busy() -> float:
    """Seconds of all cores since the machine was started."""
    times = psutil.cpu_times()
    return times.user + times.nice + times.system


def cotbal(*arguments: str | Path) -> Spent:
    """Run a command to its end."""
    argv = [sys.executable, "-m", "cotbal", *map(str, arguments)]
    started, before = time.monotonic(), busy()
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"the command failed: {argv}"
    wall, processor = time.monotonic() - started, usage.ru_utime + usage.ru_stime
    others = max(0.0, busy() - before - processor) / (wall * psutil.cpu_count())
    return Spent(wall, processor, others)


def measured(name: str, *arguments: str | Path) -> tuple[Spent, dict[str, str]]:
    """What a command took, and the digests of its results."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["COTBAL_CACHE"] = str(Path(folder) / "cache")
        out = Path(folder) / "run"
        spent = cotbal(*arguments, "--out", out)
        print(f"{name}: {spent}", flush=True)
        return spent, digests(out)


def workers(recipe: Path, settings: Sequence[str], rounds: int) -> list[Spent]:
    """Balance with one and with two workers."""
    spent: dict[int, list[Spent]] = {count: [] for count in WORKERS}
    results = []
    for turn in range(rounds):
        for count in WORKERS if turn % 2 else reversed(WORKERS):
            more = ("--workers", str(count), "--threads", "1", "--keep-checkpoints")
            one, files = measured(f"{count} workers", "balance", recipe, *settings, *more)
            spent[count].append(one)
            results.append(files)
    same(results)
    pairs = zip(spent[1], spent[2], strict=True)
    gains = [one.wall / two.wall for one, two in pairs]
    print(f"one worker takes {described(gains)} times the wall time of two")
    return spent[1] + spent[2]


def demo(size: str, rounds: int) -> list[Spent]:
    """The whole demo, with the workers that it chooses."""
    pairs = [measured("demo", "demo", "--size", size) for _ in range(rounds)]
    same([files for _, files in pairs])
    spent = [one for one, _ in pairs]
    print(f"the demo takes {described([one.wall for one in spent])} s")
    return spent


def same(results: Sequence[dict[str, str]]) -> None:
    assert all(files == results[0] for files in results), "the results differ"
    print(f"{len(results)} equal results of {len(results[0])} files")


def described(values: Sequence[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("workers", "demo"))
    parser.add_argument("recipe", type=Path, nargs="?", help="of `workers`")
    parser.add_argument("settings", nargs="*", help="changes to the recipe")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", default="demo", help="of `demo`")
    options = parser.parse_args()
    if options.what == "demo":
        spent = demo(options.size, options.rounds)
    elif options.recipe is None:
        parser.error("workers: expected a recipe")
    else:
        spent = workers(options.recipe, options.settings, options.rounds)
    if (most := max(one.others for one in spent)) > QUIET:
        sys.exit(f"the machine was not idle: other processes took up to {most:.0%} of its cores")


if __name__ == "__main__":
    main()
