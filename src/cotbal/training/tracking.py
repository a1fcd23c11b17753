"""Experiment trackers, to which a run reports losses and weights while it trains.

The Trainer itself reports (`report_to`); this module sets names so that the runs of a job belong
together (docs/trainers.md). Nothing here is part of a run's identity.
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

# Any of the packages will do; messages name the first.
PACKAGES = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "wandb": ("wandb",),
    "trackio": ("trackio",),
}
USERS = {"WANDB_DIR", "WANDB_PROJECT", "WANDB_RUN_GROUP"}  # kept where a user has set them


@dataclass(frozen=True)
class Tracking:
    """What the trackers record of a run.

    Attributes:
        trackers: names of `PACKAGES`.
        project: the same for all jobs of a recipe.
        group: the job.
        name: the run.
        kind: `probe`, `final` or `curve`.
        id: stays when a run resumes, and changes when it is rerun.
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


@contextmanager
def reporting(tracking: Tracking | None, directory: Path) -> Iterator[None]:
    """A trainer that is made and trained in this context reports to the trackers."""
    if tracking is None:
        yield
        return
    before = dict(os.environ)
    variables = {  # what `TrainingArguments` has no field for
        "TENSORBOARD_LOGGING_DIR": str(directory / "tensorboard"),
        "WANDB_DIR": str(directory),
        "WANDB_PROJECT": tracking.project,
        "WANDB_RUN_GROUP": tracking.group,
        "WANDB_JOB_TYPE": tracking.kind,
        "WANDB_RUN_ID": tracking.id,
        "WANDB_RESUME": "allow",
    }
    os.environ |= variables | {name: before[name] for name in USERS & before.keys()}
    try:
        yield
    finally:
        if "wandb" in tracking.trackers and "wandb" in sys.modules:
            # The Trainer leaves the run open, and the next run in this process would continue it.
            # `finish` is not enough: W&B reads its variables only once.
            sys.modules["wandb"].finish()
            sys.modules["wandb"].teardown()
        os.environ.clear()
        os.environ |= before


def tracking_id(directory: Path, identity: Mapping[str, Any]) -> str:
    """An id from the directory of a run and its identity."""
    text = f"{directory.resolve()}\n{json.dumps(identity, sort_keys=True)}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def need_trackers(names: Sequence[str], here: bool) -> None:
    """Validate the names of trackers, and if runs are executed `here`, their installation.

    Raises:
        CotbalError: an unknown tracker, or one that is not installed.
    """
    for name in names:
        if name not in PACKAGES:
            raise CotbalError(
                f"--report-to: expected {', '.join(PACKAGES)}; found {name!r}", "unknown-tracker"
            )
        if here and not any(map(_installed, PACKAGES[name])):
            raise CotbalError(
                f"--report-to {name}: it is not installed; pip install {PACKAGES[name][0]}",
                "missing-dependency",
            )


def _installed(package: str) -> bool:
    spec = importlib.util.find_spec(package)
    # W&B leaves a folder `wandb` in the working directory, which has a spec without an origin.
    return spec is not None and spec.origin is not None
