"""One raw row, in the LLaVA form or the `messages` form of Hugging Face, becomes one Record; or its
errors are named.

The place of an image is the marker `<image>` in a user's turn, in both forms:

* a marker at the head or the tail of a turn that has only one is put at the head, on a line of its
  own (`<image>\\nWhat is left of the frog?`), as LLaVA does; markers inside a sentence, and several
  markers in one turn, stay where they are;
* the parts of a `messages` turn are joined in order, as chat templates do: images at the head of a
  turn are each followed by a line break, and nothing is put between other parts;
* one image and no marker at all: the marker is put at the head of the first user turn.

A key `system` beside the turns is the system prompt. Marks such as `loss: false` leave turns
without loss (`loss_marks`). What cannot be honoured is an error: videos, audio, two lists of images
that differ, turns in both forms. Keys that nothing reads are listed with the record
(`unread_keys`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from cotbal.data.reading.media import (
    OTHER_MEDIA,
    Keep,
    image_columns,
    image_name,
    problem_of_markers,
    problems_of_columns,
)
from cotbal.data.reading.record import IMAGE, Detail, Record, Turn
from cotbal.data.reading.turns import FORMS, Notes, RawTurn, read_system, read_turns
from cotbal.data.reading.unread_keys import unread
from cotbal.data.reading.values import is_filled, is_json, is_text, show
from cotbal.errors import DataError

_PARTS = {"id", "task", "image", "images", "system", *OTHER_MEDIA, *FORMS}


def normalise(raw: Any, number: int, evaluation: bool, keep: Keep) -> Record | list[str]:
    """The record in `raw`, its id empty when it states none, or all that is wrong with it.

    Args:
        raw: one row as JSON or parquet gives it.
        number: its place in the file.
        evaluation: an evaluation record must have exactly one turn of each side (it is scored on
            one answer).
        keep: stores the bytes of an embedded image and returns the name for it; raises DataError
            if it is none.
    """
    if not isinstance(raw, dict):
        return [f"expected a mapping with `conversations` or `messages`; found {show(raw)}"]
    form = _form(raw)
    if form not in FORMS:
        return [f"expected `conversations` or `messages`; found {form}"]
    notes = Notes(unread=dict.fromkeys(unread(raw, _PARTS)))
    problems = notes.problems
    turns = read_turns(raw[form], form, notes)
    read_system(raw.get("system"), turns, problems)
    images = _read_images(raw, turns, keep, problems)
    identity, task = _read_name(raw, "id", problems), _read_name(raw, "task", problems)
    problems += problems_of_columns(raw)
    problems += _problems_of_turns(turns, images, evaluation)
    if problems or images is None:
        return problems
    return Record(
        identity or "",
        task,
        images,
        tuple(_sound_turn(turn, evaluation) for turn in turns),
        turns[-1].references,
        number,
        details_of(raw) if evaluation else {},
        tuple(notes.unread),
    )


def _problems_of_turns(
    turns: Sequence[RawTurn], images: tuple[str, ...] | None, evaluation: bool
) -> list[str]:
    """What is wrong with the order of the turns and their markers, as far as they were read."""
    if not turns or not all(turn.role for turn in turns):
        return []
    problems = _problems_of_order(turns, evaluation)
    if images is not None and all(turn.text is not None for turn in turns):
        problems += _place_markers(turns, len(images))
    return problems


def _sound_turn(turn: RawTurn, evaluation: bool) -> Turn:
    assert turn.role is not None  # otherwise an error was noted
    assert turn.text is not None
    return Turn(turn.role, turn.text, turn.loss or evaluation)


def _form(raw: Mapping[str, Any]) -> str:
    """The key that holds the turns, or what is there in its place."""
    given = [key for key in FORMS if raw.get(key) is not None]
    filled = [key for key in given if is_filled(raw[key])] or given
    if len(filled) == 1:
        return filled[0]
    return "both" if filled else f"the keys {', '.join(map(str, raw)) or '(none)'}"


def _read_name(raw: dict[str, Any], key: str, problems: list[str]) -> str | None:
    value = raw.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is None or value == "":
        return None
    if is_text(value):
        return str(value)
    problems.append(f"{key}: expected text; found {show(value)}")
    return None


def details_of(raw: Mapping[str, Any]) -> dict[str, Detail]:
    """What a metric may ask for: texts, numbers and truth values beside the parts of the record."""
    return {
        key: value
        for key, value in beside(raw).items()
        if isinstance(value, str | bool | int | float)
    }


def beside(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What a record says beside its parts, as far as JSON can hold it."""
    return {
        key: value
        for key, value in raw.items()
        if key not in _PARTS and value is not None and is_text(key) and is_json(value)
    }


def _read_images(
    raw: dict[str, Any], turns: Sequence[RawTurn], keep: Keep, problems: list[str]
) -> tuple[str, ...] | None:
    try:
        key, listed = image_columns(raw)
    except DataError as error:
        problems.append(str(error))
        return None
    parts = [image for turn in turns for image in turn.images]
    named = [image for image in parts if image is not None]
    if named and (listed or len(named) < len(parts)):
        problems.append(
            "expected images either in the parts or in the column `images`; found some in each"
        )
        return None
    return _names(named or listed, key, keep, problems)


def _names(
    images: Sequence[Any], key: str, keep: Keep, problems: list[str]
) -> tuple[str, ...] | None:
    names = [image_name(image, keep) for image in images]
    errors = [f"{key}: {name}" for name in names if isinstance(name, DataError)]
    problems += errors
    return None if errors else tuple(map(str, names))


def _problems_of_order(turns: Sequence[RawTurn], evaluation: bool) -> list[str]:
    spoken = turns[1:] if turns[0].role == "system" else turns
    roles = [turn.role for turn in spoken]
    if not roles or roles[0] != "user":
        return [f"expected the first turn to be the user's; found {roles[0] if roles else 'none'}"]
    for before, role in pairwise(roles):
        if role in (before, "system"):
            return [f"expected user and assistant in turn; found {role} after {before}"]
    if roles[-1] != "assistant":
        return ["expected the last turn to be the assistant's; found the user's"]
    if evaluation and len(roles) > 2:
        return [
            f"expected one question and one answer in an evaluation record; found {len(roles) // 2}"
            " of each"
        ]
    return []


def _place_markers(turns: Sequence[RawTurn], images: int) -> list[str]:
    """Put the marker of a single image at the head; what is wrong with the markers."""
    problems = list(filter(None, map(_misplaced, turns)))
    asked = [turn for turn in turns if turn.role == "user"]
    if not asked:
        return problems
    texts = [turn.text or "" for turn in asked]
    markers = "\n".join(texts).count(IMAGE)
    if images == 1 and markers == 0:
        texts[0] = f"{IMAGE}\n{texts[0]}"
    elif markers != images:
        problems.append(
            f"expected one {IMAGE} per image; found {markers} {IMAGE} and {images} images"
        )
    for turn, text in zip(asked, texts, strict=True):
        turn.text = _marker_first(text)
    if not all(map(str.strip, texts)):
        problems.append("expected a question or an image in every user's turn; found an empty one")
    return problems


def _misplaced(turn: RawTurn) -> str | None:
    """What is wrong with the markers of one turn, if anything."""
    if turn.role == "user":
        problem = problem_of_markers(turn.text or "")
        return f"{turn.place}: {problem}" if problem else None
    if any(IMAGE in text for text in (turn.text or "", *turn.references)):
        return (
            f"{turn.place}: expected {IMAGE} only in a user's turn; found it in the {turn.role}'s"
        )
    return None


def _marker_first(text: str) -> str:
    if text.count(IMAGE) != 1:
        return text
    bare = text.strip()
    if not bare.startswith(IMAGE) and not bare.endswith(IMAGE):
        return text
    rest = bare.removeprefix(IMAGE).removesuffix(IMAGE).strip()
    return f"{IMAGE}\n{rest}" if rest else IMAGE
