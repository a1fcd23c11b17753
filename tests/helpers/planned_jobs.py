"""Job files that a test writes itself, as the pipeline would have planned them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cotbal.jobs.checkpoint_files import checkpoint_digest
from cotbal.jobs.inputs import identity, open_inputs
from cotbal.jobs.rundir import RunDir
from cotbal.recipe.recipe import load_recipe
from cotbal.recipe.runs import Run


def planned(job: Mapping[str, Any]) -> dict[str, Any]:
    """Content of the job file of a probe: with the identity of its run, without a digest of an
    older content.
    """
    recipe = load_recipe(RunDir(Path(job["root"])).recipe).for_probes
    content = identity(
        recipe,
        Run(**job["run"]),
        open_inputs(recipe),
        checkpoint_digest(recipe.checkpoint),
        job["weights"],
    )
    rest = {key: value for key, value in job.items() if key not in ("sha256", "checkpoint_stat")}
    return {**rest, "kind": "probe", "identity": content}
