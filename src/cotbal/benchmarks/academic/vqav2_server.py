"""VQAv2 test-dev: its questions, and the file of answers for the server of the challenge, which
keeps the reference answers.

The server expects one file with an answer to every question of test2015, of which test-dev is a
part. Questions outside test-dev get an empty answer, and the server then scores test-dev alone.
Answers are normalised as the server does before it compares them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cotbal.benchmarks.releases.conversation import Conversation
from cotbal.benchmarks.releases.rows import Row, json_list, known
from cotbal.benchmarks.releases.rules import ONE_WORD
from cotbal.benchmarks.releases.sources import Files, Job, Source, what_is_needed
from cotbal.data.checks.census import Progress
from cotbal.data.files import whole_file
from cotbal.errors import DataError
from cotbal.metrics.vqa_soft import normalise

DEV, WHOLE = 107_394, 447_793  # questions of test-dev and of test2015, as published
_KEYS = ("image_id", "question", "question_id")
_GET = (
    "the questions of test2015 from the Download page of visualqa.org, version 2.0 (one archive"
    " holds both files)"
)
_FILES = {
    "dev": "vqav2/**/v2_OpenEnded_mscoco_test-dev2015_questions.json",
    "whole": "vqav2/**/v2_OpenEnded_mscoco_test2015_questions.json",
}


@dataclass(frozen=True)
class ServerQuestion:
    """A question for a model: its id, the name of its image below the root of images, its text."""

    id: int
    image: str
    text: str


@dataclass(frozen=True)
class ServerQuestions:
    """The questions of the server.

    Attributes:
        asked: the questions of test-dev, in the order of their file.
        ids: those of all of test2015, in the order of theirs.
        remarks: where their numbers are not the published ones.
    """

    asked: tuple[ServerQuestion, ...]
    ids: tuple[int, ...]
    remarks: tuple[str, ...]


def read_questions(raw: Path, progress: Progress, ignored: Collection[str] = ()) -> ServerQuestions:
    """Both files of questions, which are in `raw/vqav2`.

    Args:
        ignored: unknown keys that are harmless, as the user states.

    Raises:
        DataError: a file is absent, broken or of another form, a question comes twice, or one of
            test-dev is not in test2015.
    """
    source = Source("original", _FILES, _GET, _read_nothing)
    if source.missing(raw):
        raise DataError(
            f"not found in {raw}: questions of VQAv2 test-dev\n{what_is_needed((source,), raw)}",
            "missing-file",
        )
    files = source.find(raw)
    asked = tuple(_asked(row) for row in _rows(files["dev"][0], progress, ignored))
    ids = tuple(row.number("question_id") for row in _rows(files["whole"][0], progress, ignored))
    _demand_distinct(files["dev"][0], [question.id for question in asked])
    _demand_distinct(files["whole"][0], ids)
    known_ids = frozenset(ids)
    for question in asked:
        if question.id not in known_ids:
            raise DataError(
                f"{files['whole'][0]}: expected question {question.id} of test-dev; found none",
                "unmatched-record",
            )
    counts = (("test-dev", len(asked), DEV), ("test2015", len(ids), WHOLE))
    remarks = tuple(
        f"{name}: {count:,} questions, {published:,} expected"
        for name, count, published in counts
        if count != published
    )
    return ServerQuestions(asked, ids, remarks)


def _demand_distinct(path: Path, ids: Sequence[int]) -> None:
    repeated = len(ids) - len(set(ids))
    if repeated:
        raise DataError(
            f"{path}: expected unique question_ids; {repeated:,} are repeated", "repeated-name"
        )


def _read_nothing(_files: Files, _job: Job) -> Iterator[Conversation]:
    """These files hold no answers, so nothing is trained or scored with them."""
    return iter(())


def _rows(path: Path, progress: Progress, ignored: Collection[str]) -> list[Row]:
    return [
        known(raw, where, _KEYS, ignored)
        for where, raw in json_list(path, "questions.item", progress)
    ]


def _asked(row: Row) -> ServerQuestion:
    """With the instruction of the training, and the image where COCO's archive of test2015 has
    it.
    """
    image = f"coco/test2015/COCO_test2015_{row.number('image_id'):012d}.jpg"
    return ServerQuestion(
        row.number("question_id"), image, f"{row.text('question').strip()}\n{ONE_WORD}"
    )


def write_submission(path: Path, questions: ServerQuestions, answers: Mapping[int, str]) -> int:
    """Write the file that the server takes, whole or not at all; returns the number of answers that
    are not empty.

    Args:
        answers: question id -> the answer of the model, for every question of test-dev.
    """
    answered = 0
    with whole_file(path) as file:
        for number, identity in enumerate(questions.ids):
            answer = normalise(answers.get(identity, ""))
            answered += bool(answer)
            entry = json.dumps({"question_id": identity, "answer": answer}, ensure_ascii=False)
            file.write(f"{',' if number else '['}\n{entry}")
        file.write("\n]\n")
    return answered
