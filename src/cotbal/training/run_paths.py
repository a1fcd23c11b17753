"""The files of one run, by name; the only module that knows them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunPaths:
    """The files of one run (a probe, a final training, or an amount of the curve)."""

    root: Path

    @property
    def job(self) -> Path:
        """What to do, and the identity of the run."""
        return self.root / "job.json"

    @property
    def log(self) -> Path:
        """Everything the worker printed."""
        return self.root / "log.txt"

    @property
    def lock(self) -> Path:
        """Held by the worker of this run."""
        return self.root / "lock"

    @property
    def progress(self) -> Path:
        """Where the worker is now."""
        return self.root / "progress.json"

    @property
    def training(self) -> Path:
        """Losses, one line every few optimizer steps."""
        return self.root / "training.jsonl"

    @property
    def checkpoint(self) -> Path:
        """The trained model."""
        return self.root / "checkpoint"

    @property
    def partial(self) -> Path:
        """Checkpoints inside the training, to go on from."""
        return self.root / "partial"

    @property
    def trained(self) -> Path:
        """Written after the trained model is on disk."""
        return self.root / "trained.json"

    @property
    def outcome(self) -> Path:
        """Written last: its existence means that the run is done."""
        return self.root / "outcome.json"

    @property
    def failure(self) -> Path:
        """Written when the run failed; removed when it is tried again."""
        return self.root / "failure.json"

    def generations(self, task: str, split: str) -> Path:
        """Answers of the trained model on one split of one task."""
        return self.root / "generations" / f"{task}.{split}.jsonl"

    def scores(self, task: str, split: str) -> Path:
        """Per-sample scores of these answers."""
        return self.root / "scores" / f"{task}.{split}.json"

    @property
    def done(self) -> bool:
        """Whether the run is done."""
        return self.outcome.exists()
