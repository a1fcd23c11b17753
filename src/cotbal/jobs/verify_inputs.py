"""Whether data and base checkpoint are still those that the runs of a directory were made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cotbal.data.files import as_written, read_json
from cotbal.data.reading.image_states import ImageStates
from cotbal.errors import CotbalError, RunError
from cotbal.jobs.inputs import Inputs, differences, identity, open_inputs
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.unchanged import checkpoint_now
from cotbal.jobs.verify_run import Difference
from cotbal.recipe.recipe import Recipe
from cotbal.recipe.runs import Run
from cotbal.training.run_paths import RunPaths


class InputsCheck:
    """Compares the identity of every run with the inputs as they are now.

    Attributes:
        unchecked: what could not be compared, and why.
    """

    def __init__(self, root: RunDir, recipe: Recipe) -> None:
        self.recipe = recipe
        self.images = ImageStates(recipe.images, root.images, recipe.file.digest_images)
        self.unchecked: list[str] = []

    def differences(self, runs: Sequence[RunPaths]) -> Iterator[Difference]:
        """Runs that were made from other inputs."""
        try:
            inputs = open_inputs(self.recipe)
        except (CotbalError, OSError) as error:
            reason = str(error).splitlines()[0]
            self.unchecked.append(f"data: not compared with the runs: {reason}")
            return
        for paths in runs:
            try:
                job = read_json(paths.job)
            except (RunError, OSError):  # a difference of the run
                continue
            yield from self._differences(paths, job, inputs)

    def _differences(
        self, paths: RunPaths, job: Mapping[str, Any], inputs: Inputs
    ) -> Iterator[Difference]:
        try:
            with as_written(paths.job):
                kind, run, weights = job["kind"], Run.from_json(job["run"]), job["weights"]
                written = dict(job["identity"])
                weights = None if weights is None else dict(weights)
        except RunError:  # a difference of the run
            return
        recipe = self.recipe.for_probes if kind == "probe" else self.recipe
        checkpoint = checkpoint_now(written, job.get("checkpoint_stat"), recipe)
        try:
            now = identity(recipe, run, inputs, checkpoint, weights, self.images)
        except KeyError as error:
            reason = f"{error} is not in recipe.yaml"
            self.unchecked.append(f"{paths.root}: not compared with the data: {reason}")
            return
        except (TypeError, ValueError, AttributeError):
            redo = "archive the run with --restart-changed"
            yield Difference(paths.job, "its run is not as cotbal writes it", redo)
            return
        if changed := differences(written, now):
            redo = "bring back what has changed, or archive the run with --restart-changed"
            yield Difference(paths.job, f"made from something else: {'; '.join(changed)}", redo)
