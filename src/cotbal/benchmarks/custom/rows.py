"""Rows of the user's own files as conversations: in the LLaVA or the `messages` form, or with
question and answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from cotbal.benchmarks.custom.images import Finder, with_image
from cotbal.benchmarks.releases.gallery import Gallery, content_name
from cotbal.benchmarks.releases.sources import Files, Job
from cotbal.data.reading.conversations import beside, normalise
from cotbal.data.reading.formats import read_rows
from cotbal.data.reading.record import IMAGE, Problem, Record, Turn
from cotbal.errors import DataError

_SPEAKERS = {"user": "human", "assistant": "gpt", "system": "system"}


@dataclass(frozen=True)
class CustomConversation:
    """A conversation of the user's own.

    Attributes:
        made: it as a record, its images named below the root of images.
        details: what else the row holds, as far as JSON can hold it.
    """

    made: Record
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def images(self) -> tuple[str, ...]:
        """Names of its images."""
        return self.made.images

    @property
    def pairs(self) -> int:
        """Pairs of question and answer."""
        return sum(turn.role == "assistant" for turn in self.made.turns)

    def record(self, task: str) -> dict[str, Any]:
        """The record in LLaVA's form, with everything in the row."""
        record: dict[str, Any] = {**self.details, "id": self.made.id, "task": task}
        record |= {"images": list(self.images)} if self.images else {}
        turns = list(map(_written, self.made.turns))
        if len(self.made.references) > 1:
            turns[-1]["value"] = list(self.made.references)
        return {**record, "conversations": turns}

    def asked_once(self) -> CustomConversation:
        """Its first question and answer, with the images of that question; later ones may lean on
        earlier ones.
        """
        end = 1 + next(i for i, turn in enumerate(self.made.turns) if turn.role == "assistant")
        if end == len(self.made.turns):
            return self
        turns = self.made.turns[:end]
        shown = sum(turn.text.count(IMAGE) for turn in turns)
        first = replace(
            self.made, turns=turns, images=self.images[:shown], references=(turns[-1].text,)
        )
        return replace(self, made=first)


def _written(turn: Turn) -> dict[str, Any]:
    """A turn as a record has it; `loss` only where it is off."""
    written: dict[str, Any] = {"from": _SPEAKERS[turn.role], "value": turn.text}
    if not turn.loss:
        written["loss"] = False
    return written


def own_conversations(
    files: Files, job: Job, task: str, raw: Path, write: bool
) -> Iterator[CustomConversation]:
    """Every conversation of these files, in their order.

    Args:
        task: name of the task, and of the folder of its embedded images.
        raw: the dataset's folder.
        write: whether embedded images are written out, instead of only named.

    Raises:
        DataError: a row is broken, of an unknown form, or says that it belongs to another task than
            the rows before.
    """
    seen: set[int] = set()
    stated: str | None = None
    keep = partial(_kept, job.gallery, task, write)
    for path in chain.from_iterable(files.values()):
        for number, given in _rows(path, job):
            finder = Finder(path, raw, job.gallery, f"{path}, record {number}")
            asked = _with_turns(given, finder.row, job)
            row = with_image(asked, job.choices.image, finder)
            made = _normalised(row, number, finder.row, keep)
            stated = stated or made.task
            if made.task not in (None, stated):
                raise DataError(
                    f"{finder.row}: states the task {made.task!r}, earlier records state"
                    f" {stated!r}; give each task a file or folder of its own",
                    "unknown-value",
                )
            identity = made.id or f"{path.stem}_{number}"
            if hash(identity) in seen:
                identity = f"{identity}_{path.stem}_{number}"
            seen.add(hash(identity))
            images = tuple(map(finder.located, made.images))
            yield CustomConversation(replace(made, id=identity, images=images), beside(row))


def _rows(path: Path, job: Job) -> Iterator[tuple[int, Any]]:
    for item in read_rows(path, partial(job.progress, path.name)):
        if isinstance(item, Problem):
            raise DataError(str(item), item.code)
        yield item


def _normalised(row: Any, number: int, where: str, keep: Callable[[bytes], str]) -> Record:
    made = normalise(row, number, False, keep)
    if isinstance(made, Record):
        return made
    message = f"{where}: {made[0]}"
    if len(made) > 1:
        message += f" (and {len(made) - 1} more)"
    if made[0].code == "no-turns" and not {"conversations", "messages"} & row.keys():
        message += "; name the keys of question and answer with --question and --answer"
    raise DataError(message, made[0].code)


def _with_turns(row: Any, where: str, job: Job) -> Any:
    """The row with question and answer as a conversation, where it has none and the user has named
    their keys.
    """
    question, answer = job.choices.question, job.choices.answer
    if question is None or answer is None or not isinstance(row, dict):
        return row
    if row.get("conversations") is not None or row.get("messages") is not None:
        return row
    for key in (question, answer):
        if row.get(key) is None:
            raise DataError(
                f"{where}: expected the key {key!r}; found {', '.join(row)}", "missing-key"
            )
    turns = [{"from": "human", "value": row[question]}, {"from": "gpt", "value": row[answer]}]
    others = {key: row[key] for key in row if key not in (question, answer)}
    return others | {"conversations": turns}


def _kept(gallery: Gallery, task: str, write: bool, content: bytes) -> str:
    name = content_name(f"embedded/{task}", content)
    if write:
        gallery.keep(name, content)
    return name
