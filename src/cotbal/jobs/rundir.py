"""The files of one job, by name: its recipe, plan, runs, weights and report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cotbal.training.run_paths import Below, RunPaths


@dataclass(frozen=True)
class RunDir:
    """The files of one job."""

    root: Path

    recipe = Below("recipe.yaml")  # the resolved recipe
    plan = Below("plan.json")  # every run with its cost
    lock = Below("lock")  # held while a command works here
    driver = Below("driver.json")  # which process holds the lock
    score_table = Below("scores.csv")  # the score matrix
    balance = Below("balance.json")  # contribution, difficulty, weights, intervals, flags
    weights = Below("weights.json")  # unit -> weight, and task -> weight
    report = Below("report")
    comparison = Below("comparison")  # tables and numbers of `compare` and `ablate`
    curve_table = Below("curve/scores.csv")  # scores of every fraction, as a score matrix
    curve_numbers = Below("curve/curve.json")  # the same with intervals, records and shares

    def seeded(self, seed: int) -> RunDir:
        """The same files for the runs of another training seed than that of the recipe."""
        return RunDir(self.root / f"seed-{seed}")

    def portions(self, task: str) -> Path:
        """Which portion holds each training record of `task`."""
        return self.root / "portions" / f"{task}.csv"

    def probe(self, run: str) -> RunPaths:
        """The files of one probe; `full:<unit>` is in `full-<unit>`."""
        return RunPaths(self.root / "probes" / _folder(run))

    def final(self, run: str) -> RunPaths:
        """The files of one final training, named after its method."""
        return RunPaths(self.root / "final" / _folder(run))

    def curve(self, run: str) -> RunPaths:
        """The files of one training of the curve; `alone:<task>:1/8` is in `alone-<task>-1_8`."""
        return RunPaths(self.root / "curve" / _folder(run))


def _folder(run: str) -> str:
    # A fraction is what follows the last `-`, so no two runs of a kind share a folder.
    return run.replace(":", "-").replace("/", "_")
