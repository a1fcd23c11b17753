"""What forked runs save: the same `cotbal balance` with runs in processes of their own, and with
runs that are forked from a process which has imported torch, transformers and peft.

    PYTHONPATH=.:src python benchmarks/warm_workers.py recipe.yaml [rounds [setting=value ...]]

Every round runs both, in turns first the one or the other. All models, answers, scores and weights
must be the same, byte for byte. Processor time is of the command and of all its processes. This
module is also the executor of the runs in processes of their own (`--on benchmarks.warm_workers`).
"""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from cotbal.jobs.executors import Job, Outcome, Resources, processes

WAYS = {"fresh": "benchmarks.warm_workers", "forked": "processes"}
RESULTS = (
    "**/*.safetensors",
    "**/generations/*.jsonl",
    "**/scores/*.json",
    "*.csv",
    "weights.json",
)


def run(jobs: Sequence[Job], resources: Resources) -> Iterator[Outcome]:
    """Run the jobs in processes of their own."""
    return processes.run([replace(job, imports=()) for job in jobs], resources)


def main(recipe: Path, rounds: int, settings: Sequence[str]) -> None:
    measured = []
    for turn in range(rounds):
        order = sorted(WAYS, reverse=turn % 2 == 0)
        with tempfile.TemporaryDirectory() as folder:
            spent = {way: seconds(recipe, settings, Path(folder) / way, way) for way in order}
            files = {way: digests(Path(folder) / way) for way in WAYS}
        assert files["fresh"] == files["forked"], "the results differ"
        measured.append(spent)
        print(turn + 1, len(files["forked"]), "equal files", spent, flush=True)
    for i, what in enumerate(("processor time", "wall time")):
        fresh, forked = ([spent[way][i] for spent in measured] for way in ("fresh", "forked"))
        ratios = [one / other for one, other in zip(forked, fresh, strict=True)]
        print(
            f"{what}: fresh {statistics.median(fresh):.1f} s, forked"
            f" {statistics.median(forked):.1f} s; forked over fresh: median"
            f" {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        )


def seconds(recipe: Path, settings: Sequence[str], out: Path, way: str) -> tuple[float, float]:
    """Processor time and wall time of the command."""
    argv = [sys.executable, "-m", "cotbal", "balance", str(recipe), *settings]
    argv += ["--out", str(out), "--keep-checkpoints", "--on", WAYS[way]]
    started = time.monotonic()
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"the command failed: {argv}"
    return round(usage.ru_utime + usage.ru_stime, 2), round(time.monotonic() - started, 2)


def digests(root: Path) -> dict[str, str]:
    """File -> digest, of everything that a balance is for."""
    files = sorted({path for pattern in RESULTS for path in root.glob(pattern)})
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), int((sys.argv[2:] or ["5"])[0]), sys.argv[3:])
