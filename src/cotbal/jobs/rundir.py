"""The files of one job, by name: its recipe, plan, runs, weights and report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cotbal.training.run_paths import RunPaths


@dataclass(frozen=True)
class RunDir:
    """The files of one job."""

    root: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.root / "recipe.yaml"

    @property
    def plan(self) -> Path:
        """Every run with its cost."""
        return self.root / "plan.json"

    @property
    def lock(self) -> Path:
        """Held while a command works here."""
        return self.root / "lock"

    @property
    def driver(self) -> Path:
        """Which process holds the lock."""
        return self.root / "driver.json"

    @property
    def score_table(self) -> Path:
        """The score matrix."""
        return self.root / "scores.csv"

    @property
    def balance(self) -> Path:
        """Contribution, difficulty, weights, intervals, flags."""
        return self.root / "balance.json"

    @property
    def weights(self) -> Path:
        """Unit and task -> weight."""
        return self.root / "weights.json"

    @property
    def report(self) -> Path:
        """The report's directory."""
        return self.root / "report"

    @property
    def comparison(self) -> Path:
        """Tables and page of `compare` and `ablate`."""
        return self.root / "comparison"

    @property
    def curve_table(self) -> Path:
        """Scores of every amount, as a score matrix."""
        return self.root / "curve" / "scores.csv"

    @property
    def curve_numbers(self) -> Path:
        """The same with intervals, records and shares."""
        return self.root / "curve" / "curve.json"

    def seeded(self, seed: int) -> RunDir:
        """The same files for the runs of another training seed than that of the recipe."""
        return RunDir(self.root / f"seed-{seed}")

    def portions(self, task: str) -> Path:
        """Which portion holds each training record of `task`."""
        return self.root / "portions" / f"{task}.csv"

    def probe(self, run: str) -> RunPaths:
        """The files of one probe; `full:<unit>` becomes `full-<unit>`, which every file system
        accepts.
        """
        return RunPaths(self.root / "probes" / _folder(run))

    def final(self, run: str) -> RunPaths:
        """The files of one final training, named after its method."""
        return RunPaths(self.root / "final" / _folder(run))

    def curve(self, run: str) -> RunPaths:
        """The files of one training on an amount; `alone:<task>:1/8` becomes `alone-<task>-1_8`."""
        return RunPaths(self.root / "curve" / _folder(run))


def _folder(run: str) -> str:
    """Name of a run's directory. An amount is what follows the last `-`, so no two runs of a kind
    share one.
    """
    return run.replace(":", "-").replace("/", "_")
