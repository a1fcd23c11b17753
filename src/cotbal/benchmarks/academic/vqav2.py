"""VQAv2 (Goyal et al. 2017): questions about COCO 2014 images; the answer is the most common of
ten.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial

from cotbal.benchmarks.academic.questions import Question, merged, short_answer, single
from cotbal.benchmarks.releases.benchmark import SplitPlan, TaskPlan
from cotbal.benchmarks.releases.gallery import coco_2014
from cotbal.benchmarks.releases.sources import Files, Job, Source, download
from cotbal.benchmarks.releases.visatb import visatb_source
from cotbal.benchmarks.releases.writing import Expected
from cotbal.errors import DataError

NAME = "VQAv2"
VALIDATION = 20_000
_QUESTION = ("image_id", "question", "question_id")
_ANNOTATION = ("image_id", "question_id", "multiple_choice_answer")
_ANNOTATION_OTHERS = ("question_type", "answers", "answer_type")
_HUB = (*_ANNOTATION, "question")
_GET = (
    "the Download page of visualqa.org, version 2.0: training and validation annotations and"
    " questions"
)


def plan() -> TaskPlan:
    """Where VQAv2 comes from and what its splits hold (Table 8: 83k conversations)."""
    train, held_out = _original("train2014"), _original("val2014")
    questions = partial(_read_original, "val2014")
    hub = {"validation": "lmms-lab*/VQAv2/data/validation-*.parquet"}
    get = download("lmms-lab/VQAv2", *hub.values())

    def evaluation(split: str, part: int) -> SplitPlan:
        sources = (
            Source("original", held_out, _GET, single(questions, split, VALIDATION, part, 2)),
            Source("hub", hub, get, single(_read_hub, split, VALIDATION, part, 2)),
        )
        return SplitPlan(split, sources, Expected(VALIDATION, VALIDATION))

    made = merged(partial(_read_original, "train2014"))
    sources = (Source("original", train, _GET, made), visatb_source("Academic", NAME))
    return TaskPlan(
        NAME,
        "exact_match",
        (
            SplitPlan("train", sources, Expected(82_783, 443_757)),
            evaluation("validation", 0),
            evaluation("val2014_rest", 1),
        ),
        folders=("coco/train2017", "coco/val2017", "coco/train2014", "coco/val2014"),
        remarks=(
            (
                "VQAv2: the paper reports test-dev, whose answers only the EvalAI server knows."
                " val2014_rest is a draw"
            ),
            (
                "from val2014 that shares no question with the validation set; name it so when you"
                " report it. For test-dev"
            ),
            "itself `cotbal submission` writes the file that the server takes.",
        ),
    )


def _original(subset: str) -> dict[str, str]:
    return {
        "questions": f"vqav2/**/v2_OpenEnded_mscoco_{subset}_questions.json",
        "annotations": f"vqav2/**/v2_mscoco_{subset}_annotations.json",
    }


def _read_original(subset: str, files: Files, job: Job, _images: bool) -> Iterator[Question]:
    """Questions in the order of their file, each with the answer of the annotation that has its
    id."""
    answers = _answers(files, job)
    (path,) = files["questions"]
    for row in job.list_rows(path, "questions.item", _QUESTION):
        identity, image_id = row.number("question_id"), row.number("image_id")
        image_of_answer, answer = answers.pop(identity, (None, ""))
        if image_of_answer != image_id:
            other = "none" if image_of_answer is None else f"image {image_of_answer}"
            raise row.error(
                f"expected an annotation of question {identity} about image {image_id} in"
                f" {files['annotations'][0]}; found {other}",
                "unmatched-record",
            )
        asked = short_answer(row.text("question"), answer, job.choices)
        yield Question(str(identity), coco_2014(job.gallery, image_id, subset), asked)
    if answers:
        raise DataError(
            f"{files['annotations'][0]}: {len(answers):,} annotations have no question in {path}",
            "unmatched-record",
        )


def _answers(files: Files, job: Job) -> dict[int, tuple[int, str]]:
    """Question id -> image and answer; a few thousand answers serve nearly all questions, so each
    is kept once.
    """
    answers = {}
    (path,) = files["annotations"]
    for row in job.list_rows(path, "annotations.item", _ANNOTATION, _ANNOTATION_OTHERS):
        answer = sys.intern(row.text("multiple_choice_answer"))
        answers[row.number("question_id")] = (row.number("image_id"), answer)
    return answers


def _read_hub(files: Files, job: Job, images: bool) -> Iterator[Question]:
    columns = (*_HUB, "image") if images else _HUB
    for row in job.table_rows(files["validation"], columns, ("image", *_ANNOTATION_OTHERS)):
        asked = short_answer(row.text("question"), row.text("multiple_choice_answer"), job.choices)
        image = coco_2014(job.gallery, row.number("image_id"), "val2014")
        content = row.image("image") if images else None
        yield Question(str(row.number("question_id")), image, asked, content)
