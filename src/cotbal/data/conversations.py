"""One raw row, in the LLaVA form or the `messages` form of Hugging Face, becomes one Record; or its
faults are named.

The place of a picture is the marker `<image>` in a user's turn, in both forms:

* a marker at the head or the tail of a turn that has only one is put at the head, on a line of its
  own (`<image>\\nWhat is left of the frog?`), as LLaVA does; markers inside a sentence, and several
  markers in one turn, stay where they are;
* the parts of a `messages` turn are joined in order: a line break stands between a picture and its
  neighbour, and nothing between two texts, as chat templates do;
* one picture and no marker at all: the marker is put at the head of the first user turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from cotbal.errors import DataError

IMAGE = "<image>"
Role = Literal["user", "assistant", "system"]
Keep = Callable[[bytes], str]
Detail = str | int | float | bool

_ROLES: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bard": "assistant",
    "bing": "assistant",
    "system": "system",
}
_FORMS = {"conversations": ("from", "value"), "messages": ("role", "content")}
_PARTS = {"id", "task", "image", "images", *_FORMS}


@dataclass(frozen=True, slots=True)
class Turn:
    """One text of one speaker."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class Record:
    """One conversation about no picture, one or several.

    Attributes:
        id: unique in its file.
        task: name of the task that the record itself states, or None.
        images: names of its pictures, relative to the images of the recipe, in the order of the
            markers.
        turns: an optional system turn, then user and assistant in turn; the last is the
            assistant's.
        references: every right answer of the last turn; `turns[-1].text` is the first of them.
        number: where it stands in its file: the line of JSONL, otherwise the record, counted from
            1.
        details: what else an evaluation record says in text, numbers and truth values, such as its
            category; empty for a training record.
    """

    id: str
    task: str | None
    images: tuple[str, ...]
    turns: tuple[Turn, ...]
    references: tuple[str, ...]
    number: int
    details: Mapping[str, Detail] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, and where; number 0 means the file as a whole."""

    file: Path
    number: int
    message: str

    def __str__(self) -> str:
        place = f", record {self.number}" if self.number else ""
        return f"{self.file}{place}: {self.message}"


@dataclass(slots=True)
class _Turn:
    """A turn while it is being read; what could not be read is None."""

    role: Role | None
    text: str | None = None
    references: tuple[str, ...] = ()
    pictures: tuple[Any, ...] = ()  # of its picture parts, None for a part that names none


def normalise(raw: Any, number: int, evaluation: bool, keep: Keep) -> Record | list[str]:
    """The record in `raw`, its id empty when it states none, or all that is wrong with it.

    Args:
        raw: one row as JSON or parquet gives it.
        number: where it stands in its file.
        evaluation: an evaluation record must have exactly one turn of each side (it is scored on
            one answer).
        keep: stores the bytes of an embedded picture and returns the name for it; raises DataError
            if it is none.
    """
    if not isinstance(raw, dict):
        return [f"expected a mapping with `conversations` or `messages`; found {_show(raw)}"]
    form = next((key for key in _FORMS if raw.get(key) is not None), None)
    if form is None:
        return [
            "expected `conversations` or `messages`; found the keys"
            f" {', '.join(map(str, raw)) or '(none)'}"
        ]
    faults: list[str] = []
    turns = _read_turns(raw[form], form, faults)
    images = _read_images(raw, turns, keep, faults)
    identity = _read_name(raw, "id", faults)
    task = _read_name(raw, "task", faults)
    if turns and all(turn.role for turn in turns):
        faults += _faults_of_order(turns, evaluation)
    if images is not None and turns and all(turn.role and turn.text is not None for turn in turns):
        faults += _place_markers(turns, len(images), form)
    if faults or images is None:
        return faults
    said = tuple(
        Turn(turn.role, turn.text)
        for turn in turns
        if turn.role is not None and turn.text is not None
    )
    details = details_of(raw) if evaluation else {}
    return Record(identity or "", task, images, said, turns[-1].references, number, details)


def _read_name(raw: dict[str, Any], key: str, faults: list[str]) -> str | None:
    value = raw.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is None or value == "":
        return None
    if _is_text(value):
        return str(value)
    faults.append(f"{key}: expected text; found {_show(value)}")
    return None


def details_of(raw: Mapping[str, Any]) -> dict[str, Detail]:
    """What a metric may ask for; the parts of the record, and whatever JSON could not hold, are no
    details.
    """
    return {
        key: value
        for key, value in raw.items()
        if key not in _PARTS and _is_text(key) and _is_detail(value)
    }


def _is_detail(value: Any) -> bool:
    return (
        _is_text(value)
        or isinstance(value, bool | int)
        or (isinstance(value, float) and math.isfinite(value))
    )


def _read_turns(value: Any, form: str, faults: list[str]) -> list[_Turn]:
    if not isinstance(value, list) or not value:
        faults.append(f"{form}: expected a list of turns; found {_show(value)}")
        return []
    return [_read_turn(turn, form, f"{form}[{index}]", faults) for index, turn in enumerate(value)]


def _read_turn(value: Any, form: str, place: str, faults: list[str]) -> _Turn:
    role_key, content_key = _FORMS[form]
    if not isinstance(value, dict):
        faults.append(
            f"{place}: expected a mapping with `{role_key}` and `{content_key}`; found"
            f" {_show(value)}"
        )
        return _Turn(None)
    spoken = value.get(role_key)
    role = _ROLES.get(spoken) if isinstance(spoken, str) else None
    if role is None:
        faults.append(
            f"{place}.{role_key}: expected one of {', '.join(_ROLES)}; found {_show(spoken)}"
        )
    turn = _Turn(role)
    _read_content(turn, value.get(content_key), f"{place}.{content_key}", faults)
    return turn


def _read_content(turn: _Turn, content: Any, place: str, faults: list[str]) -> None:
    if isinstance(content, list) and content and all(isinstance(part, dict) for part in content):
        _read_parts(turn, content, place, faults)
    elif (
        isinstance(content, list)
        and content
        and turn.role == "assistant"
        and all(map(_is_text, content))
    ):
        turn.text, turn.references = content[0], tuple(content)
    elif _is_text(content):
        turn.text = content
    else:
        wanted = "text, or a list of right answers" if turn.role == "assistant" else "text"
        faults.append(f"{place}: expected {wanted}; found {_show(content)}")
        return
    if turn.role == "assistant" and turn.text is not None:
        turn.references = turn.references or (turn.text,)
        if not all(answer.strip() for answer in turn.references):
            faults.append(f"{place}: expected an answer; found an empty one")


def _read_parts(turn: _Turn, parts: list[dict[str, Any]], place: str, faults: list[str]) -> None:
    pictures: list[Any] = []
    text, kind_before = "", ""
    for index, part in enumerate(parts):
        kind = part.get("type")
        if kind == "text" and _is_text(part.get("text")):
            piece = part["text"]
        elif kind in ("image", "image_url"):
            pictures.append(_picture_of(part))
            piece = IMAGE
        else:
            faults.append(
                f"{place}[{index}]: expected a part of type text (with text) or image; found"
                f" {_show(part)}"
            )
            return
        text += ("\n" if text and (IMAGE in (kind_before, piece)) else "") + piece
        kind_before = piece
    turn.text, turn.pictures = text, tuple(pictures)


def _picture_of(part: dict[str, Any]) -> Any:
    """What a picture part says of its picture: a name, a mapping with bytes or path, or None."""
    for key in ("image", "path", "url", "image_url"):
        if part.get(key) is not None:
            nested = part[key]
            return nested["url"] if isinstance(nested, dict) and "url" in nested else nested
    return None


def _read_images(
    raw: dict[str, Any], turns: Sequence[_Turn], keep: Keep, faults: list[str]
) -> tuple[str, ...] | None:
    key = "images" if raw.get("images") is not None else "image"
    column = raw.get(key)
    listed = [] if column is None else column if isinstance(column, list) else [column]
    named = [picture for turn in turns for picture in turn.pictures]
    own = [picture for picture in named if picture is not None]
    if own and (listed or len(own) < len(named)):
        faults.append(
            "expected pictures either in the parts or in the column `images`; found some in each"
        )
        return None
    names = [_image_name(picture, keep) for picture in own or listed]
    bad = [f"{key}: {name}" for name in names if isinstance(name, DataError)]
    faults += bad
    return None if bad else tuple(map(str, names))


def _image_name(picture: Any, keep: Keep) -> str | DataError:
    if isinstance(picture, dict) and isinstance(picture.get("bytes"), bytes):
        try:
            return keep(picture["bytes"])
        except DataError as error:
            return error
    name = picture.get("path") if isinstance(picture, dict) else picture
    if not _is_text(name) or not name:
        return DataError(f"expected the name of a picture file; found {_show(name)}")
    if name.startswith(("http://", "https://", "data:")):
        return DataError(f"expected the name of a local picture file; found {_show(name)}")
    return str(name)


def _faults_of_order(turns: Sequence[_Turn], evaluation: bool) -> list[str]:
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


def _place_markers(turns: Sequence[_Turn], pictures: int, form: str) -> list[str]:
    faults = [
        f"{form}[{index}]: expected {IMAGE} only in a user's turn; found it in the {turn.role}'s"
        for index, turn in enumerate(turns)
        if turn.role != "user"
        and any(IMAGE in text for text in (turn.text or "", *turn.references))
    ]
    asked = [turn for turn in turns if turn.role == "user"]
    texts = [turn.text or "" for turn in asked]
    markers = sum(text.count(IMAGE) for text in texts)
    if pictures == 1 and markers == 0 and asked:
        texts[0] = f"{IMAGE}\n{texts[0]}"
    elif markers != pictures and asked:
        faults.append(
            f"expected one {IMAGE} a picture; found {markers} {IMAGE} and {pictures} pictures"
        )
    for turn, text in zip(asked, texts, strict=True):
        turn.text = _marker_first(text)
    if not all(turn.text and turn.text.strip() for turn in asked):
        faults.append("expected a question or a picture in every user's turn; found an empty one")
    return faults


def _marker_first(text: str) -> str:
    if text.count(IMAGE) != 1:
        return text
    bare = text.strip()
    if not bare.startswith(IMAGE) and not bare.endswith(IMAGE):
        return text
    rest = bare.removeprefix(IMAGE).removesuffix(IMAGE).strip()
    return f"{IMAGE}\n{rest}" if rest else IMAGE


def _is_text(value: Any) -> bool:
    """Whether `value` is text that can be stored: JSON can spell half a surrogate pair, which UTF-8
    cannot hold.
    """
    if not isinstance(value, str):
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _show(value: Any) -> str:
    shown = ascii(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return "nothing" if value is None else f"{type(value).__name__} {shown}"
