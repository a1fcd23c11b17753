"""One conversation about images, the texts in it, and what is wrong with a row that is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from cotbal.errors import CotbalError

IMAGE = "<image>"
Role = Literal["user", "assistant", "system"]
Detail = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Turn:
    """One text of one speaker.

    Attributes:
        loss: False for an answer that a mark in the record leaves without loss.
    """

    role: Role
    text: str
    loss: bool = True


@dataclass(frozen=True, slots=True)
class Record:
    """One conversation about no image, one or several.

    Attributes:
        id: unique in its file.
        task: name of the task that the record itself states, or None.
        images: names of its images, relative to the images of the recipe, in the order of the
            markers.
        turns: an optional system turn, then user and assistant in turn; the last is the
            assistant's.
        references: every right answer of the last turn; `turns[-1].text` is the first of them.
        number: the line of JSONL, otherwise the record in its file, counted from 1.
        details: other fields of an evaluation record that are text, numbers or truth values, such
            as its category; empty for a training record.
        options: of an evaluation record, the texts to choose among; empty where its key `options`
            is no list of texts.
        unread: keys that nothing reads and that are no plain annotations, such as `hint` or
            `messages[].tool_calls`.
    """

    id: str
    task: str | None
    images: tuple[str, ...]
    turns: tuple[Turn, ...]
    references: tuple[str, ...]
    number: int
    details: Mapping[str, Detail] = field(default_factory=dict, hash=False)
    unread: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def learnt(self) -> tuple[str, ...]:
        """The answers that carry loss."""
        return tuple(turn.text for turn in self.turns if turn.role == "assistant" and turn.loss)


@dataclass(frozen=True, slots=True)
class Problem:
    """One error that `cotbal check` reports.

    Attributes:
        number: of the record; 0 means the file as a whole.
        code: as in `CotbalError`.
    """

    file: Path
    number: int
    message: str
    code: str

    @classmethod
    def of(cls, file: Path, number: int, error: CotbalError) -> Problem:
        """An error with the record in which it was found."""
        return cls(file, number, str(error), error.code)

    def __str__(self) -> str:
        where = f", record {self.number}" if self.number else ""
        return f"{self.file}{where}: {self.message}"


def first_lines(lines: Iterable[object], shown: int) -> str:
    """The first of many errors, one per line, and how many more there are."""
    rest = iter(lines)
    first = [f"  {line}" for line in islice(rest, shown)]
    more = sum(1 for _ in rest)
    if more:
        first.append(f"  ... and {more:,} more")
    return "\n".join(first)


def question(record: Record) -> str:
    """The text of a record before the last answer, without image markers."""
    before = "\n".join(turn.text for turn in record.turns[:-1])
    return before.replace(IMAGE, "").strip()


def answer_row(record: Record, answer: str) -> dict[str, Any]:
    """A line of a file of answers: what a metric receives for a sample."""
    return {
        "id": record.id,
        "images": list(record.images),
        "question": question(record),
        "references": list(record.references),
        "details": dict(record.details),
        "answer": answer,
    }


def with_instruction(turns: Sequence[Turn], instruction: str | None) -> tuple[Turn, ...]:
    """The turns with `instruction` on a line of its own at the end of the first user turn.

    None changes nothing, nor does an instruction that the turn has already: on a line of its own,
    or at the end, as in the files of LLaVA.
    """
    if not instruction:
        return tuple(turns)
    first = next(i for i, turn in enumerate(turns) if turn.role == "user")
    asked = turns[first].text.strip()
    wanted = instruction.strip()
    if asked.endswith(wanted) or f"\n{wanted}\n" in f"\n{asked}\n":
        return tuple(turns)
    with_it = replace(turns[first], text=f"{turns[first].text}\n{instruction}")
    return (*turns[:first], with_it, *turns[first + 1 :])


def between_markers(text: str, breaks: bool = False) -> list[str]:
    """The texts before, between and behind the markers `<image>`.

    In records, markers at the head of a turn are followed by a line break, as in LLaVA's files. It
    is not part of the text: some chat templates write one there (LLaVA-1.5), others do not
    (Qwen2-VL). All other line breaks are the user's.

    Args:
        breaks: whether the template writes a line break behind every image, so that the text needs
            none there.
    """
    first, *others = text.split(IMAGE)
    pieces, at_head = [first], not first.strip()
    for other in others:
        pieces.append(other.removeprefix("\n") if at_head or breaks else other)
        at_head = at_head and not other.strip()
    return pieces
