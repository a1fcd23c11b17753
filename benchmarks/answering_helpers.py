"""Time of the answers of a run: by its process alone, and with a free worker that helps.

    PYTHONPATH=src python benchmarks/answering_helpers.py recipe.yaml [rounds [setting=value ...]]

The run is trained once. Then every round removes its answers and lets `cotbal train` give them
again, with one and with two workers, in turns first the one or the other. All answers must be the
same, byte for byte. Times are those that the run reports for its answers, with the load of the
model; the processor time is of the command and of all its processes.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

WORKERS = (1, 2)


def main(recipe: Path, rounds: int, settings: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "runs"
        run = out / "final" / "ew"
        train(recipe, out, settings, 1)
        expected = answers(run)
        measured = []
        for turn in range(rounds):
            spent = {}
            for workers in WORKERS if turn % 2 else reversed(WORKERS):
                forget(run)
                processor = train(recipe, out, settings, workers)
                assert answers(run) == expected, "the answers differ"
                wall = json.loads((run / "outcome.json").read_text())["seconds"]["generating"]
                spent[workers] = (wall, processor)
            measured.append(spent)
            print(turn + 1, f"load {os.getloadavg()[0]:.1f}", spent, flush=True)
    questions = sum(text.count(b"\n") for text in expected.values())
    print(f"{questions} questions, equal answers in {2 * rounds + 1} evaluations")
    for i, what in enumerate(("time of the answers", "processor time")):
        alone, helped = ([spent[workers][i] for spent in measured] for workers in WORKERS)
        ratios = [one / other for one, other in zip(helped, alone, strict=True)]
        print(
            f"{what}: alone {statistics.median(alone):.1f} s, helped"
            f" {statistics.median(helped):.1f} s; helped over alone: median"
            f" {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )


def train(recipe: Path, out: Path, settings: Sequence[str], workers: int) -> float:
    """Do what the run has not done yet; the processor time of it."""
    argv = [sys.executable, "-m", "cotbal", "train", str(recipe), *settings]
    argv += ["--weighting", "ew", "--out", str(out), "--workers", str(workers), "--threads", "1"]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"the command failed: {argv}"
    return round(usage.ru_utime + usage.ru_stime, 2)


def answers(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(run.glob("generations/*.jsonl"))}


def forget(run: Path) -> None:
    """Leave the trained model alone."""
    for folder in ("generations", "scores"):
        shutil.rmtree(run / folder)
    (run / "outcome.json").unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int((sys.argv[2:] or ["5"])[0]), sys.argv[3:])
