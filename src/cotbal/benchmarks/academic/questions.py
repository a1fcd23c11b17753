"""The four question-answering tasks: a reader gives questions, and these rules make the splits of
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from cotbal.benchmarks.releases.conversation import Asked, Conversation
from cotbal.benchmarks.releases.gallery import image_id
from cotbal.benchmarks.releases.rules import (
    ONE_WORD,
    capitalized,
    drawn,
    merge_by_image,
    with_instruction,
)
from cotbal.benchmarks.releases.sources import Choices, Files, Job, Read


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a release.

    Attributes:
        id: unique in its split.
        image: name of its image below the root.
        asked: question and answer.
        content: the image itself, where the release holds it beside the question.
    """

    id: str
    image: str
    asked: Asked
    content: bytes | None = None


# gives every question of a split; called with whether images inside the release are read too
Reader = Callable[[Files, Job, bool], Iterator[Question]]


def short_answer(question: str, answer: str, choices: Choices) -> Asked:
    """Question and answer without space around them, the answer capitalized unless the user chose
    otherwise.
    """
    answer = answer.strip()
    return Asked(question.strip(), capitalized(answer) if choices.capitalize else answer)


def merged(reader: Reader) -> Read:
    """A training split: all questions about one image in one conversation, the instruction behind
    the first.
    """

    def read(files: Files, job: Job) -> Iterator[Conversation]:
        questions = _kept(_answered(reader(files, job, True)), job)
        items = ((question.image, question.asked) for question in questions)
        for image, turns in merge_by_image(items):
            yield Conversation(image_id(image), image, with_instruction(turns, ONE_WORD))

    return read


def single(
    reader: Reader, split: str, limit: int | None = None, part: int = 0, parts: int = 1
) -> Read:
    """An evaluation split: every question by itself, or a draw of them; ids begin with the name of
    the split.

    Args:
        limit: questions to draw, or as many as there are for every part; None takes all.
        part, parts: which of several disjoint draws from the same questions this is.
    """

    def read(files: Files, job: Job) -> Iterator[Conversation]:
        questions = _answered(reader(files, job, True))
        if limit is not None:
            ids = [question.id for question in _answered(reader(files, job, False))]
            size = min(limit, len(ids) // parts)
            order = drawn(ids, size * parts, job.choices.seed, "questions")
            wanted = frozenset(order[part * size : (part + 1) * size])
            questions = (question for question in questions if question.id in wanted)
        for question in _kept(questions, job):
            turns = with_instruction([question.asked], ONE_WORD)
            yield Conversation(f"{split}_{question.id}", question.image, turns)

    return read


def _answered(questions: Iterable[Question]) -> Iterator[Question]:
    """Those that have an answer; the count of turns in the summary shows the others."""
    return (question for question in questions if question.asked.answer and question.asked.question)


def _kept(questions: Iterable[Question], job: Job) -> Iterator[Question]:
    for question in questions:
        if question.content is not None:
            job.gallery.keep(question.image, question.content)
        yield question
