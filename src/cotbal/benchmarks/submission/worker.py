"""`python -m cotbal.benchmarks.submission.worker JOB`: a finished model answers questions without
known answers.

The job file names the recipe, the checkpoint, the images and a file of questions (`id`, `image` and
`text` per line). Answers are kept in pieces, `generations/<first question>.jsonl`, each whole or
absent, so that a job that was killed resumes with the next piece, and an executor sees its
progress.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cotbal.data.batches.collate import Row
from cotbal.data.files import read_json, read_sealed_rows, write_sealed_rows
from cotbal.data.reading.record import IMAGE, Record, Turn
from cotbal.errors import RunError
from cotbal.jobs.checkpoint_files import checkpoint_digest, checkpoint_stat
from cotbal.jobs.entry import Progress, job_begun
from cotbal.recipe.recipe import load_recipe
from cotbal.training import evaluation
from cotbal.training.features.images import image_features
from cotbal.training.ranks import Ranks, Stopped
from cotbal.training.run_paths import RunPaths


def main(arguments: Sequence[str]) -> None:
    """Answer the remaining questions; every rank that a launcher started calls this."""
    file = Path(arguments[0])
    with job_begun(RunPaths(file.parent)) as (ranks, stop):
        _answer(read_json(file), file.parent, ranks, stop)


def _answer(job: dict[str, Any], directory: Path, ranks: Ranks, stop: Callable[[], bool]) -> None:
    """Answer piece by piece.

    Raises:
        Stopped: a stop was requested before the end.
        RunError: the questions or the model are not those that the job was written for.
    """
    questions = read_sealed_rows(Path(job["questions"]))
    size = int(job["piece"])
    pieces = {
        start: directory / "generations" / f"{start:09d}.jsonl"
        for start in range(0, len(questions), size)
    }
    unanswered = [start for start, path in pieces.items() if not path.exists()]
    missing = ranks.agreed(unanswered)
    if not missing:
        return
    _need_unchanged(job)
    recipe = load_recipe(Path(job["recipe"]))
    images = {question["image"] for question in questions}
    features = image_features(recipe, len(images), ranks)
    answer = evaluation.answerer(
        recipe, job["checkpoint"], ranks, Path(job["images"]), features=features
    )
    progress = Progress(directory / "progress.json", ranks)
    try:
        for start in missing:
            piece = questions[start : start + size]
            rows = [_row(number, question, job) for number, question in enumerate(piece, start + 1)]
            report = _Report(progress, start, start + len(piece), len(questions), ranks.size)
            texts = answer(rows, report)
            answers = zip(piece, texts, strict=True)
            if ranks.main:
                lines = [{"id": question["id"], "answer": text} for question, text in answers]
                write_sealed_rows(pieces[start], lines)
            if ranks.any(stop()) and start != missing[-1]:
                raise Stopped
    finally:
        features.save()


def _need_unchanged(job: Mapping[str, Any]) -> None:
    """The model is that of the job, which may have waited in a queue; its bytes are read only if a
    size or time has changed.
    """
    checkpoint = job["checkpoint"]
    if job["checkpoint_stat"] == checkpoint_stat(checkpoint):
        return
    if job["identity"]["checkpoint"] != checkpoint_digest(checkpoint):
        raise RunError(
            f"{checkpoint}: expected the model that the job was written for; found another: bring"
            " it back, or rerun the command with --restart-changed",
            "changed-inputs",
        )


def _row(number: int, question: dict[str, Any], job: dict[str, Any]) -> Row:
    turns = (Turn("user", f"{IMAGE}\n{question['text']}"), Turn("assistant", ""))
    record = Record(str(question["id"]), job["task"], (question["image"],), turns, (), number)
    return Row(record, job["task"], job["instruction"])


@dataclass
class _Report:
    """Progress after every batch of answers.

    Attributes:
        done: answers so far.
        stop: of this piece and those before it.
        total: of all pieces.
        ranks: processes that answer at the same time.
    """

    progress: Progress
    done: int
    stop: int
    total: int
    ranks: int

    def __call__(self, answers: Mapping[int, str]) -> None:
        self.done = min(self.done + self.ranks * len(answers), self.stop)
        self.progress.write("generating", self.done, self.total, self.done / self.total)


if __name__ == "__main__":
    main(sys.argv[1:])
