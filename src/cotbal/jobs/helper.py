"""`python -m cotbal.jobs.helper JOB`: answer questions of a run beside its own process.

Nothing depends on a helper: what it does not answer, the process of the run does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers.utils import logging as transformers_logging

from cotbal.data.files import read_json
from cotbal.data.reading.image_states import ImageStates
from cotbal.jobs.evaluation_sets import (
    answering_checkpoint,
    evaluation_sets,
    known_answers,
    questions,
    recipe_and_run,
)
from cotbal.jobs.kept_answers import KeptAnswers
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.shares import HelperShares, digest
from cotbal.jobs.unchanged import need_unchanged
from cotbal.training import evaluation
from cotbal.training.features.images import image_features
from cotbal.training.ranks import ALONE
from cotbal.training.run_paths import RunPaths


def main(arguments: Sequence[str]) -> None:
    """Answer shares of the questions until none is left, with the model and the batches that the
    process of the run uses.
    """
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    file = Path(arguments[0])
    job, paths = read_json(file), RunPaths(file.parent)
    recipe, run = recipe_and_run(job, paths.job)
    root = RunDir(Path(job["root"]))
    try:
        offer = read_json(paths.queue)
        sets = [s for s in evaluation_sets(recipe, run) if s.name in offer["sets"]]
        attempt = offer["attempt"]
        rows = questions(sets)
        known = known_answers(rows, KeptAnswers(paths.answers).read(but=attempt))
        shares = HelperShares(paths.queue, attempt, list(rows))
    except FileNotFoundError:  # the offer was withdrawn
        return
    if digest(list(rows), known) != offer["questions"]:
        sys.exit("a process that helps to answer found other questions than those of the run")
    images = ImageStates(recipe.images, root.images, recipe.file.digest_images)
    need_unchanged(job, recipe, run, [s.used for s in sets], images)
    features = image_features(recipe, offer["images"], ALONE)
    checkpoint = answering_checkpoint(recipe, run, paths)
    answerer = evaluation.answerer(recipe, checkpoint, ALONE, features=features, queue=shares)
    for answers in answerer.some(list(rows.values()), known):
        shares.add(answers)
    features.save()


if __name__ == "__main__":
    main(sys.argv[1:])
