"""`python -m cotbal.jobs.tuning.worker JOB`: time some steps of one candidate, in a process of its
own.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cotbal.data.batches.order import Mixed, Part
from cotbal.data.batches.repeats import GivenOrder
from cotbal.data.files import default_cache, read_json, write_json
from cotbal.data.reading.records import open_records
from cotbal.jobs.entry import job_begun
from cotbal.recipe.mixture import TRAIN
from cotbal.recipe.recipe import Recipe, load_recipe
from cotbal.recipe.runs import final_run
from cotbal.training import vlm
from cotbal.training.environment import PREEMPTIBLE
from cotbal.training.features.images import ImageFeatures
from cotbal.training.run_paths import RunPaths
from cotbal.training.timing import Timed, time_steps
from cotbal.training.train import Log, Session


def main(arguments: Sequence[str]) -> None:
    """Write the times of a candidate to the outcome of its directory."""
    file = Path(arguments[0])
    paths = RunPaths(file.parent)
    with job_begun(paths) as (ranks, _):
        if PREEMPTIBLE in os.environ:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # there is nothing to save
        job = read_json(file)
        if job["threads"] is not None:
            torch.set_num_threads(job["threads"])
        recipe = load_recipe(Path(job["recipe"]), job["overrides"])
        run = final_run(recipe.mixture, "ew", recipe.file.optimization.seed)
        # Features that other runs have shared would make some rounds faster than others.
        features = ImageFeatures(
            recipe.resources.feature_bytes, trained=vlm.trained_parts(recipe.model)
        )
        session = Session(lambda *_: None, ranks, features=features)
        rows = _rows(recipe, read_json(Path(job["rows"])))
        timed = Timed(job["untimed"], job["steps"])
        times = time_steps(recipe, run, rows, Log(paths, session, None), timed)
        if ranks.main:
            write_json(paths.outcome, times.to_json())


def _rows(recipe: Recipe, content: Mapping[str, Any]) -> Mixed:
    """The records in the order of the steps; `content["order"]` lists [task, index]."""
    of_task: dict[str, list[int]] = {}
    places = []
    for task, index in content["order"]:
        indices = of_task.setdefault(task, [])
        places.append((task, len(indices)))
        indices.append(index)
    parts: list[Part] = []
    starts: dict[str, int] = {}
    for name, indices in of_task.items():
        task = recipe.mixture[name]
        starts[name] = sum(len(part[2]) for part in parts)
        records = open_records(task.files[TRAIN], default_cache())
        parts.append((name, records, np.array(indices), task.instruction))
    return Mixed(parts, GivenOrder(tuple(starts[task] + i for task, i in places)))


if __name__ == "__main__":
    main(sys.argv[1:])
