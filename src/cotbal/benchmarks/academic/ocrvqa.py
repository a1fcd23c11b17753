"""OCR-VQA (Mishra et al. 2019): questions about the covers of books; the release has all of a cover
together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from cotbal.benchmarks.academic.mix665k import mix_source
from cotbal.benchmarks.academic.questions import Question, short_answer, single
from cotbal.benchmarks.releases.benchmark import SplitPlan, TaskPlan
from cotbal.benchmarks.releases.conversation import Asked, Conversation
from cotbal.benchmarks.releases.gallery import inside
from cotbal.benchmarks.releases.rows import Row
from cotbal.benchmarks.releases.rules import ONE_WORD, drawn, with_instruction
from cotbal.benchmarks.releases.sources import Files, Job, Read, Source, download
from cotbal.benchmarks.releases.visatb import visatb_source
from cotbal.benchmarks.releases.writing import Expected

NAME = "OCRVQA"
TRAIN = 80_000
VALIDATION = 20_000
_SPLITS = {1: "train", 2: "validation", 3: "test"}
_KEYS = ("questions", "answers", "split")
_OTHERS = ("imageURL", "title", "authorName", "genre")
_HUB = ("image_id", "questions", "answers")
_HUB_OTHERS = (
    "image",
    "ocr_tokens",
    "ocr_info",
    "title",
    "authorName",
    "genre",
    "image_width",
    "image_height",
    "image_url",
    "set_name",
)
_GET = (
    "dataset.json from ocr-vqa.github.io; images by its script, all saved as"
    " ocr_vqa/images/<key>.jpg"
)
_GET_HUB = download("howard-hou/OCR-VQA")


@dataclass(frozen=True, slots=True)
class _Cover:
    key: str
    image: str
    turns: tuple[Asked, ...]
    content: bytes | None = None

    @property
    def answered(self) -> bool:
        return bool(self.turns) and all(asked.question and asked.answer for asked in self.turns)


_Reader = Callable[[Files, Job, bool], Iterator[_Cover]]


def plan() -> TaskPlan:
    """Where OCR-VQA comes from and what its splits hold (Table 8: 80k conversations)."""
    train = (*_sources("train", _conversations), mix_source("ocr_vqa/"))
    drawn_questions = partial(_single, split="validation", limit=VALIDATION)
    validation = _sources("validation", drawn_questions)
    test = _sources("test", partial(_single, split="test"))
    return TaskPlan(
        NAME,
        "exact_match",
        (
            SplitPlan("train", train, Expected(TRAIN)),
            SplitPlan("validation", validation, Expected(VALIDATION, VALIDATION)),
            SplitPlan("test", test, Expected()),
        ),
        folders=("ocr_vqa/images",),
        remarks=(
            (
                "OCRVQA: which 80,000 of about 166,000 covers is not published; they are drawn by"
                " the seed."
            ),
        ),
    )


def _sources(split: str, made: Callable[[_Reader], Read]) -> tuple[Source, ...]:
    original = {"covers": "ocrvqa/**/dataset.json"}
    hub = {"covers": f"howard-hou/OCR-VQA/data/{split}-*.parquet"}
    return (
        Source("original", original, _GET, made(partial(_read_original, split))),
        Source("hub", hub, _GET_HUB, made(_read_hub)),
        visatb_source("Academic", NAME, {"validation": "val"}.get(split, split)),
    )


def _conversations(reader: _Reader) -> Read:
    """The training split: 80,000 of the covers whose questions all have an answer, in the order of
    the file.
    """

    def read(files: Files, job: Job) -> Iterator[Conversation]:
        whole = (cover.key for cover in reader(files, job, False) if cover.answered)
        wanted = frozenset(drawn(whole, TRAIN, job.choices.seed, "covers"))
        for cover in reader(files, job, True):
            if cover.key in wanted:
                if cover.content is not None:
                    job.gallery.keep(cover.image, cover.content)
                yield Conversation(cover.key, cover.image, with_instruction(cover.turns, ONE_WORD))

    return read


def _single(reader: _Reader, split: str, limit: int | None = None) -> Read:
    """An evaluation split: every question by itself, or a draw of them."""

    def questions(files: Files, job: Job, images: bool) -> Iterator[Question]:
        for cover in reader(files, job, images):
            for number, asked in enumerate(cover.turns):
                yield Question(f"{cover.key}_{number}", cover.image, asked, cover.content)

    return single(questions, split, limit)


def _read_original(split: str, files: Files, job: Job, _images: bool) -> Iterator[_Cover]:
    (path,) = files["covers"]
    for key, row in job.mapping_rows(path, "cover", _KEYS, _OTHERS):
        number = row.number("split")
        if number not in _SPLITS:
            raise row.error(
                f"split: expected 1 (train), 2 (validation) or 3 (test); found {number}",
                "unknown-value",
            )
        if _SPLITS[number] == split:
            yield _cover(key, row, job)


def _read_hub(files: Files, job: Job, images: bool) -> Iterator[_Cover]:
    columns = (*_HUB, "image") if images else _HUB
    for row in job.table_rows(files["covers"], columns, _HUB_OTHERS):
        content = row.image("image") if images else None
        yield _cover(row.text("image_id"), row, job, content)


def _cover(key: str, row: Row, job: Job, content: bytes | None = None) -> _Cover:
    questions, answers = row.texts("questions"), row.texts("answers")
    if len(questions) != len(answers):
        raise row.error(
            f"expected one answer per question; found {len(questions)} questions and"
            f" {len(answers)} answers",
            "unmatched-record",
        )
    pairs = zip(questions, answers, strict=True)
    turns = tuple(short_answer(question, answer, job.choices) for question, answer in pairs)
    return _Cover(key, inside(f"ocr_vqa/images/{key}.jpg", row.where), turns, content)
