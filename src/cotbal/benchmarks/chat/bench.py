"""LLaVA-Bench: questions with GPT-4's answers and a description of the image for the judge, for the
metric `judge`.

On COCO (validation, 90 questions) a judge sees five captions and the boxes; in the wild (test, 60
questions) a caption. A record says so in `context`; `rule` is the rule of LLaVA's judge that
applies, `category` the kind of question.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from functools import partial
from pathlib import Path

from cotbal.benchmarks.chat.instruct import coco_id
from cotbal.benchmarks.releases.conversation import Asked, Conversation
from cotbal.benchmarks.releases.gallery import coco_2014, inside
from cotbal.benchmarks.releases.rows import Row, json_lines
from cotbal.benchmarks.releases.rules import without_marker
from cotbal.benchmarks.releases.sources import Files, Job, Source, download

WILD_FOLDER = "llava_bench_in_the_wild"
_CATEGORIES = ("conv", "detail", "complex")
_QUESTION = ("question_id", "image", "text", "category")
_ANSWER_OTHERS = ("category", "prompt", "answer_id", "model_id", "metadata")
_COCO = {
    "questions": "llava/**/qa90_questions.jsonl",
    "answers": "llava/**/qa90_gpt4_answer.jsonl",
    "contexts": "llava/**/caps_boxes_coco2014_val_80.jsonl",
}
_GET_COCO = "git clone https://github.com/haotian-liu/LLaVA RAW/llava"
_WILD_HUB = "liuhaotian/llava-bench-in-the-wild"
_WILD = {
    "questions": f"{_WILD_HUB}/questions.jsonl",
    "answers": f"{_WILD_HUB}/answers_gpt4.jsonl",
    "contexts": f"{_WILD_HUB}/context.jsonl",
}
_GET_WILD = download(_WILD_HUB)

_Describe = Callable[[Row], str]
_Shown = Callable[[Row], str | int]  # the image of a row, alike in questions and contexts


def coco_source(category: str) -> Source:
    """The questions of one category on COCO images."""
    return Source("original", _COCO, _GET_COCO, partial(_read_coco, category))


def wild_source(category: str) -> Source:
    """The questions of one category in the wild."""
    return Source("original", _WILD, _GET_WILD, partial(_read_wild, category))


def _read_coco(category: str, files: Files, job: Job) -> Iterator[Conversation]:
    shown = partial(coco_id, split="val2014")
    contexts = _contexts(
        files, job, ("id", "image", "captions", "instances"), _captions_and_boxes, shown
    )
    for row, answer, context in _joined(category, files, job, contexts, shown):
        image = coco_2014(job.gallery, shown(row), "val2014")
        details = {"category": category, "rule": category, "context": context}
        yield _conversation("validation", row, image, answer, details)


def _read_wild(category: str, files: Files, job: Job) -> Iterator[Conversation]:
    images = files["questions"][0].parent / "images"
    if images.is_dir():
        job.gallery.link(WILD_FOLDER, images)
    caption = partial(Row.text, key="caption")
    shown = partial(Row.text, key="image")
    contexts = _contexts(files, job, ("id", "image", "caption"), caption, shown)
    for row, answer, context in _joined(category, files, job, contexts, shown):
        image = inside(f"{WILD_FOLDER}/{row.text('image')}", row.where)
        rule = f"llava_bench_{category}"
        details = {"category": category, "rule": rule, "context": context}
        yield _conversation("in_the_wild", row, image, answer, details)


def _conversation(
    split: str, row: Row, image: str, answer: str, details: Mapping[str, str]
) -> Conversation:
    identity = f"{split}_{row.number('question_id')}"
    asked = Asked(without_marker(row.text("text")), answer)
    return Conversation(identity, image, (asked,), details)


def _joined(
    category: str, files: Files, job: Job, contexts: Mapping[str | int, str], shown: _Shown
) -> Iterator[tuple[Row, str, str]]:
    """The questions of the category, each with GPT-4's answer and the context of its image."""
    answers = _answers(files, job)
    asked: set[int] = set()
    for row in _rows(files["questions"][0], _QUESTION, (), job):
        number = row.number("question_id")
        image = shown(row)
        row_category = row.text("category")
        _demand_new(row, number, asked)
        asked.add(number)
        if row_category not in _CATEGORIES:
            raise row.error(
                f"category: expected one of {', '.join(_CATEGORIES)}; found {row_category!r}",
                "unknown-value",
            )
        if number not in answers:
            raise row.error(
                f"expected an answer to question {number} in {files['answers'][0]}; found none",
                "unmatched-record",
            )
        if image not in contexts:
            raise row.error(
                f"expected the image {row.text('image')} in {files['contexts'][0]}; found none",
                "unmatched-record",
            )
        if row_category == category:
            yield row, answers[number], contexts[image]


def _answers(files: Files, job: Job) -> dict[int, str]:
    texts: dict[int, str] = {}
    for row in _rows(files["answers"][0], ("question_id", "text"), _ANSWER_OTHERS, job):
        number, text = row.number("question_id"), row.text("text").strip()
        _demand_new(row, number, texts)
        if not text:
            raise row.error(
                "text: expected GPT-4's answer, which a judge compares with; found an empty text",
                "empty-answer",
            )
        texts[number] = text
    return texts


def _demand_new(row: Row, number: int, known_numbers: Container[int]) -> None:
    """Two answers to one question, or a question twice, would count one of them silently."""
    if number in known_numbers:
        raise row.error(f"expected unique question_ids; {number} is repeated", "repeated-name")


def _contexts(
    files: Files, job: Job, keys: tuple[str, ...], describe: _Describe, shown: _Shown
) -> dict[str | int, str]:
    return {shown(row): describe(row) for row in _rows(files["contexts"][0], keys, (), job)}


def _captions_and_boxes(row: Row) -> str:
    """One caption per line, an empty line, then one `category: [x1, y1, x2, y2]` per line, as
    LLaVA's judge reads it.
    """
    instances = row.rows("instances", ("category", "bbox"))
    boxes = [f"{instance.text('category')}: {list(instance.box('bbox'))}" for instance in instances]
    return "\n".join([*row.texts("captions"), "", *boxes])


def _rows(path: Path, keys: tuple[str, ...], others: tuple[str, ...], job: Job) -> Iterator[Row]:
    for where, raw in json_lines(path, job.progress):
        yield job.known(raw, where, keys, others)
