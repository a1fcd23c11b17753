"""Experiment trackers: where a run reports its losses and weights while it trains. Never part of a
run's identity.

The Trainer reports by itself (`report_to`); here is what it must be given so that the runs of a job
stand together:

| tracker | project | group | run |
|---|---|---|---|
| `tensorboard` | | the run directory, `tensorboard --logdir` | `<run>/tensorboard` |
| `wandb` | name of the recipe | run directory | its label, resumes where it was interrupted |
| `trackio` | name of the recipe | first part of the run's name | its label; resumes there |
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cotbal.errors import CotbalError

# Any one of the packages will do; the first is the one to name.
PACKAGES = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "wandb": ("wandb",),
    "trackio": ("trackio",),
}
USERS = {
    "WANDB_DIR",
    "WANDB_PROJECT",
    "WANDB_RUN_GROUP",
}  # variables that stay as they are where they are set


@dataclass(frozen=True)
class Tracking:
    """What the trackers record of a run.

    Attributes:
        trackers: names of `PACKAGES`.
        project: what all jobs of a recipe have in common.
        group: the job.
        name: the run.
        kind: `probe`, `final` or `curve`.
        id: the same for a run that resumes, and another for one that is
            rerun.
    """

    trackers: tuple[str, ...]
    project: str
    group: str
    name: str
    kind: str
    id: str

    @property
    def arguments(self) -> dict[str, Any]:
        """For `TrainingArguments`."""
        return {
            "report_to": list(self.trackers),
            "project": self.project,
            "run_name": f"{self.group}/{self.name}",
        }

    def environment(self, directory: Path) -> dict[str, str]:
        """Variables that the trackers read: what `TrainingArguments` has no field for; `directory`
        is the run's.
        """
        return {
            "TENSORBOARD_LOGGING_DIR": str(directory / "tensorboard"),
            "WANDB_DIR": str(directory),
            "WANDB_PROJECT": self.project,
            "WANDB_RUN_GROUP": self.group,
            "WANDB_JOB_TYPE": self.kind,
            "WANDB_RUN_ID": self.id,
            "WANDB_RESUME": "allow",
        }


@contextmanager
def reporting(tracking: Tracking | None, directory: Path) -> Iterator[None]:
    """Make and train a trainer in here, and it reports as `tracking` says; `directory` is that of
    the run.
    """
    if tracking is None:
        yield
        return
    before = dict(os.environ)
    wanted = tracking.environment(directory)
    os.environ |= {
        name: value for name, value in wanted.items() if not (name in USERS and name in before)
    }
    try:
        yield
    finally:
        if "wandb" in tracking.trackers and "wandb" in sys.modules:
            # The Trainer leaves it open, and the next run in this process would continue in it.
            # Finishing is not enough: W&B reads its variables once, and the next run would be this
            # one again, in this one's directory.
            sys.modules["wandb"].finish()
            sys.modules["wandb"].teardown()
        os.environ.clear()
        os.environ |= before


def tracking_id(directory: Path, identity: Mapping[str, Any]) -> str:
    """An id that follows from where a run lies and what determines it."""
    return hashlib.sha256(
        f"{directory.resolve()}\n{json.dumps(identity, sort_keys=True)}".encode()
    ).hexdigest()[:16]


def need_trackers(names: Sequence[str], here: bool) -> None:
    """Say what is wrong before anything starts; what is installed matters where the runs are
    executed `here`.

    Raises:
        CotbalError: a tracker that nobody knows, or one that is not installed.
    """
    for name in names:
        if name not in PACKAGES:
            raise CotbalError(f"--report-to: expected {', '.join(PACKAGES)}; found {name!r}")
        if here and not any(map(_installed, PACKAGES[name])):
            raise CotbalError(
                f"--report-to {name}: it is not installed; pip install {PACKAGES[name][0]}"
            )


def _installed(package: str) -> bool:
    spec = importlib.util.find_spec(package)
    return (
        spec is not None and spec.origin is not None
    )  # a folder `wandb` of earlier runs is no package
