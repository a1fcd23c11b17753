"""Start-up of commands, two versions of cotbal side by side: processor time and wall time from the
shell to the prompt.

    python benchmarks/startup.py RUN BEFORE AFTER [rounds]

RUN is the directory of a finished job (its report is rewritten), BEFORE and AFTER are `src` folders
of two checkouts. In every round each command runs with both, in turns first the one or the other,
so whatever else the machine does hits both alike. What they print must be the same.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np

Cost = tuple[float, float]  # seconds of processor time and of wall time


def main(run: Path, sources: tuple[Path, Path], rounds: int) -> None:
    recipe = str(run / "recipe.yaml")
    commands = {
        "--help": ["--help"],
        "weights": ["weights", "--scores", str(run / "scores.csv")],
        "status": ["status", str(run)],
        "plan": ["plan", recipe],
        "report": ["report", str(run)],
        "check": ["check", recipe, "--no-decode"],
    }
    print("| command | processor time | before | quotient | wall time | before | quotient |")
    print("|---|---|---|---|---|---|---|")
    for name, line in commands.items():
        pairs = [pair(line, sources, turn % 2 == 0) for turn in range(-1, rounds)]
        before, after = np.array(pairs[1:]).swapaxes(0, 1)  # the first round warms the disk
        cells = []
        for new, old in zip(after.T, before.T, strict=True):
            cells += [f"{median(new):.2f} s", f"{median(old):.2f} s", f"{median(new / old):.2f}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def pair(line: list[str], sources: tuple[Path, Path], swapped: bool) -> tuple[Cost, Cost]:
    """The costs of a command before and after."""
    order = sources[::-1] if swapped else sources
    done = {source: timed(line, source) for source in order}
    (before, text), (after, same) = (done[source] for source in sources)
    assert text == same, f"{line}: the two versions print different texts"
    return before, after


def timed(line: list[str], source: Path) -> tuple[Cost, str]:
    """The cost of a command in a process of its own, and what it prints."""
    begun, start = children(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "cotbal", *line],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=True,
    )
    return (children() - begun, time.perf_counter() - start), done.stdout


def children() -> float:
    """Processor time of all processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    given = [Path(word).resolve() for word in sys.argv[1:4]]
    main(given[0], (given[1], given[2]), int(sys.argv[4]) if len(sys.argv) > 4 else 7)
