"""Whether a worker reads what its job was planned for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cotbal.data.reading.image_states import ImageStates
from cotbal.data.reading.records import Records
from cotbal.errors import RunError
from cotbal.jobs.checkpoint_files import checkpoint_digest, checkpoint_stat
from cotbal.jobs.inputs import content_of, differences, sets_of, settings_of
from cotbal.recipe.mixture import set_name
from cotbal.recipe.recipe import Recipe
from cotbal.recipe.runs import Run


@dataclass(frozen=True)
class Used:
    """Records of one file that a worker uses, at these indices."""

    task: str
    split: str
    records: Records
    indices: np.ndarray

    @property
    def key(self) -> str:
        """The name of the file of records."""
        return set_name(self.task, self.split)


def need_unchanged(
    job: Mapping[str, Any], recipe: Recipe, run: Run, used: list[Used], images: ImageStates
) -> None:
    """Compare what was opened with the identity in the job file.

    Args:
        job: content of the job file.
        used: what the worker opened of the files that the run reads; those that it needs no more
            are left out.

    Raises:
        RunError: something has changed since the run was planned.
    """
    now = settings_of(recipe, run, job["weights"])
    now["model.checkpoint"] = checkpoint_now(job["identity"], job.get("checkpoint_stat"), recipe)
    for one in used:
        now |= content_of(one.key, one.records, one.indices, images)
    opened = {one.key for one in used}
    unread = {set_name(*names) for names in sets_of(recipe, run)} - opened
    planned = {}
    for key, value in job["identity"].items():
        if not _is_of(key, unread):
            planned[key] = value
    if changed := differences(planned, now):
        listed = "\n".join(f"  {line}" for line in changed)
        raise RunError(
            f"{run.name}: what its job was planned for has changed since:\n{listed}\n"
            "bring back what was planned and rerun the command, or rerun it with --restart-changed",
            "changed-inputs",
        )


def _is_of(key: str, sets: set[str]) -> bool:
    """Whether an entry of an identity follows from one of these files of records."""
    _, _, name = key.partition(".")
    return name in sets or name.rpartition(".")[0] in sets


def checkpoint_now(planned: Mapping[str, Any], stat: Any, recipe: Recipe) -> str:
    """Digest of the base checkpoint; its bytes are read only if a size or time has changed.

    Args:
        planned: the identity of a run.
        stat: the sizes and times that its command saw.
        recipe: names the checkpoint.
    """
    digest = planned.get("model.checkpoint")
    if digest is not None and stat == checkpoint_stat(recipe.checkpoint):
        return str(digest)
    return checkpoint_digest(recipe.checkpoint)
