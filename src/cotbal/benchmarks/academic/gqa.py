"""GQA (Hudson and Manning 2019), the balanced questions; the answer is the short one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from cotbal.benchmarks.academic.mix665k import mix_source
from cotbal.benchmarks.academic.questions import Question, Reader, merged, short_answer, single
from cotbal.benchmarks.releases.benchmark import SplitPlan, TaskPlan
from cotbal.benchmarks.releases.conversation import Conversation
from cotbal.benchmarks.releases.gallery import inside
from cotbal.benchmarks.releases.rows import Row
from cotbal.benchmarks.releases.sources import Files, Job, Read, Source, download
from cotbal.benchmarks.releases.visatb import visatb_source
from cotbal.benchmarks.releases.writing import Expected

NAME = "GQA"
VALIDATION = 20_000
_KEYS = ("question", "imageId", "answer")
_OTHERS = (
    "semantic",
    "entailed",
    "equivalent",
    "isBalanced",
    "groups",
    "semanticStr",
    "annotations",
    "types",
    "fullAnswer",
)
_GET = "questions1.2.zip and images.zip from cs.stanford.edu/people/dorarad/gqa/download.html"


def plan() -> TaskPlan:
    """Where GQA comes from and what its splits hold (Table 8: 72k conversations)."""
    train = (*_sources("train", merged), mix_source("gqa/"))
    drawn = partial(single, split="validation", limit=VALIDATION)
    testdev = _sources("testdev", partial(single, split="testdev"))
    return TaskPlan(
        NAME,
        "exact_match",
        (
            SplitPlan("train", train, Expected(72_140, 943_000)),
            SplitPlan("validation", _sources("val", drawn), Expected(VALIDATION, VALIDATION)),
            SplitPlan("testdev", testdev, Expected(12_578, 12_578)),
        ),
        folders=("gqa/images",),
    )


def _sources(subset: str, made: Callable[[Reader], Read]) -> tuple[Source, ...]:
    original = {"questions": f"gqa/**/{subset}_balanced_questions.json"}
    hub = {
        "questions": f"lmms-lab*/GQA/{subset}_balanced_instructions/*.parquet",
        "images?": f"lmms-lab*/GQA/{subset}_balanced_images/*.parquet",
    }
    get = download("lmms-lab/GQA", *hub.values())
    return (
        Source("original", original, _GET, made(_read_original)),
        Source("hub", hub, get, _with_images(made(_read_hub))),
        visatb_source("Academic", NAME, {"testdev": "test"}.get(subset, subset)),
    )


def _read_original(files: Files, job: Job, _images: bool) -> Iterator[Question]:
    (path,) = files["questions"]
    for identity, row in job.mapping_rows(path, "question", _KEYS, _OTHERS):
        yield _question(identity, row, job)


def _read_hub(files: Files, job: Job, _images: bool) -> Iterator[Question]:
    for row in job.table_rows(files["questions"], ("id", *_KEYS), _OTHERS):
        yield _question(row.text("id"), row, job)


def _question(identity: str, row: Row, job: Job) -> Question:
    asked = short_answer(row.text("question"), row.text("answer"), job.choices)
    interned = replace(asked, answer=sys.intern(str(asked.answer)))
    return Question(identity, _image_name(row, "imageId"), interned)


def _image_name(row: Row, key: str) -> str:
    """The name of the image whose id is at `key`."""
    return inside(f"gqa/images/{row.text(key)}.jpg", row.where)


def _with_images(read: Read) -> Read:
    """Read after the images of the snapshot, if they were fetched, have been written out."""

    def reading(files: Files, job: Job) -> Iterator[Conversation]:
        for row in job.table_rows(files.get("images", ()), ("id", "image")):
            job.gallery.keep(_image_name(row, "id"), row.image("image"))
        yield from read(files, job)

    return reading
