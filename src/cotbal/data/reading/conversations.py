"""One raw row, in the LLaVA form or the `messages` form of Hugging Face, becomes one Record, or the
list of its errors.

The marker `<image>` in a user's turn shows where an image belongs, in both forms:

* a marker at the head or the tail of a turn that has only one is put at the head, on a line of its
  own (`<image>\\nWhat is left of the frog?`), as LLaVA does; markers inside a sentence, and several
  markers in one turn, stay where they are;
* the parts of a `messages` turn are joined in order, as chat templates do: images at the head of a
  turn are each followed by a line break, and nothing is put between other parts;
* one image and no marker at all: the marker is put at the head of the first user turn.

A key `system` beside the turns is the system prompt. Errors are also videos, audio, two lists of
images that differ, and turns in both forms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from cotbal.data.reading.media import NOT_SUPPORTED, OTHER_MEDIA, Keep, image_name, other_medium
from cotbal.data.reading.record import IMAGE, Detail, Record, Turn
from cotbal.data.reading.turns import FORMS, Notes, RawTurn, read_turns
from cotbal.data.reading.unread_keys import unread
from cotbal.data.reading.values import is_filled, is_json, is_text, show
from cotbal.errors import DataError

OPTIONS = "options"  # the key of the texts that an evaluation record offers to choose among
_PARTS = {"id", "task", "image", "images", "system", *OTHER_MEDIA, *FORMS}


def normalise(raw: Any, number: int, evaluation: bool, keep: Keep) -> Record | list[DataError]:
    """The record in `raw`, its id empty when it states none, or all its errors.

    Args:
        raw: one row as JSON or parquet gives it.
        number: of the record in its file.
        evaluation: an evaluation record must have exactly one turn of each side (it is scored on
            one answer).
        keep: stores the bytes of an embedded image and returns the name for it; raises DataError
            if they are not an image.
    """
    try:
        form = _form(raw)
    except DataError as error:
        return [error]
    notes = Notes()
    notes.not_read(unread(raw, _PARTS))
    turns = read_turns(raw, form, notes)
    images = _read_images(raw, turns, keep, notes)
    identity, task = _read_name(raw, "id", notes), _read_name(raw, "task", notes)
    for key in OTHER_MEDIA:
        if is_filled(raw.get(key)):
            notes.reject("unsupported-media", f"{key}: {NOT_SUPPORTED}; found {show(raw[key])}")
    _check_turns(turns, images, evaluation, notes)
    if notes.problems or images is None:
        return notes.problems
    return Record(
        identity,
        task or None,
        images,
        tuple(_sound_turn(turn, evaluation) for turn in turns),
        turns[-1].references,
        number,
        details_of(raw) if evaluation else {},
        tuple(notes.unread),
        _read_options(raw.get(OPTIONS)) if evaluation else (),
    )


def _check_turns(
    turns: Sequence[RawTurn], images: tuple[str, ...] | None, evaluation: bool, notes: Notes
) -> None:
    """Check the order of the turns and place their markers, as far as they were read."""
    if turns and all(turn.role for turn in turns):
        _check_order(turns, evaluation, notes)
        if images is not None and all(turn.text is not None for turn in turns):
            _place_markers(turns, len(images), notes)


def _sound_turn(turn: RawTurn, evaluation: bool) -> Turn:
    assert turn.role is not None  # otherwise an error was noted
    assert turn.text is not None
    return Turn(turn.role, turn.text, turn.loss or evaluation)


def _form(raw: Any) -> str:
    """The key that holds the turns; an empty one gives way to the other.

    Raises:
        DataError: there is none, or both hold turns.
    """
    wanted = "`conversations` or `messages`"
    if not isinstance(raw, dict):
        raise DataError(f"expected a mapping with {wanted}; found {show(raw)}", "no-turns")
    given = [key for key in FORMS if raw.get(key) is not None]
    forms = [key for key in given if is_filled(raw[key])] or given[:1]
    if len(forms) > 1:
        raise DataError(f"expected {wanted}; found both", "conflicting-fields")
    if not forms:
        keys = ", ".join(map(str, raw)) or "(none)"
        raise DataError(f"expected {wanted}; found the keys {keys}", "no-turns")
    return forms[0]


def _read_name(raw: dict[str, Any], key: str, notes: Notes) -> str:
    value = raw.get(key)
    if value is None or is_text(value):
        return value or ""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    notes.reject("invalid-value", f"{key}: expected text; found {show(value)}")
    return ""


def _read_options(value: Any) -> tuple[str, ...]:
    """The options without white space at their ends; none where the key holds something else, which
    is an error only for a task that chooses.
    """
    if not isinstance(value, list):
        return ()
    options: list[str] = []
    for option in value:
        text = str(option) if type(option) is int else option
        if not is_text(text):
            return ()
        options.append(text.strip())
    return tuple(options)


def details_of(raw: Mapping[str, Any]) -> dict[str, Detail]:
    """What a metric may read: texts, numbers and truth values beside the parts of the record."""
    return {key: value for key, value in beside(raw).items() if isinstance(value, Detail)}


def beside(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What a record holds beside its parts, as far as JSON can hold it."""
    return {
        key: value
        for key, value in raw.items()
        if key not in _PARTS and value is not None and is_text(key) and is_json(value)
    }


def _read_images(
    raw: dict[str, Any], turns: Sequence[RawTurn], keep: Keep, notes: Notes
) -> tuple[str, ...] | None:
    """Names of the images, from the columns or from the parts; None where there is an error."""
    key = _image_column(raw, notes)
    if key is None:
        return None
    listed = _listed(raw.get(key))
    parts = [image for turn in turns for image in turn.images]
    named = [image for image in parts if image is not None]
    if named and (listed or len(named) < len(parts)):
        notes.reject(
            "conflicting-fields",
            "expected images either in the parts or in the column `images`; found some in each",
        )
        return None
    names: list[str | None] = [_read_image(image, key, keep, notes) for image in named or listed]
    return None if None in names else tuple(map(str, names))


def _image_column(raw: dict[str, Any], notes: Notes) -> str | None:
    """Which of `images` and `image` lists the images; None where they list different ones."""
    images, image = (_listed(raw.get(key)) for key in ("images", "image"))
    if is_filled(images) and is_filled(image) and images != image:
        notes.reject(
            "conflicting-fields",
            "expected `image` or `images`, or the same images in both; found image"
            f" {show(raw['image'])} and images {show(raw['images'])}",
        )
        return None
    if is_filled(images) or (raw.get("images") is not None and not is_filled(image)):
        return "images"
    return "image"


def _listed(column: Any) -> list[Any]:
    if column is None:
        return []
    return column if isinstance(column, list) else [column]


def _read_image(image: Any, key: str, keep: Keep, notes: Notes) -> str | None:
    try:
        return image_name(image, keep)
    except DataError as error:
        notes.reject(error.code, f"{key}: {error}")
        return None


def _check_order(turns: Sequence[RawTurn], evaluation: bool, notes: Notes) -> None:
    spoken = turns[1:] if turns[0].role == "system" else turns
    roles = [turn.role for turn in spoken]
    pairs = pairwise(roles)
    strange = next((pair for pair in pairs if pair[1] in (pair[0], "system")), None)
    if not roles or roles[0] != "user":
        first = roles[0] if roles else "none"
        notes.reject("turn-order", f"expected the first turn to be the user's; found {first}")
    elif strange:
        notes.reject(
            "turn-order",
            f"expected user and assistant in turn; found {strange[1]} after {strange[0]}",
        )
    elif roles[-1] != "assistant":
        notes.reject("turn-order", "expected the last turn to be the assistant's; found the user's")
    elif evaluation and len(roles) > 2:
        notes.reject(
            "several-questions",
            "expected one question and one answer in an evaluation record; found"
            f" {len(roles) // 2} of each",
        )


def _place_markers(turns: Sequence[RawTurn], images: int, notes: Notes) -> None:
    """Put the marker of a single image at the head, and check all markers."""
    for turn in turns:
        _check_markers(turn, notes)
    asked = [turn for turn in turns if turn.role == "user"]
    if not asked:
        return
    texts = [turn.text or "" for turn in asked]
    markers = "\n".join(texts).count(IMAGE)
    if images == 1 and markers == 0:
        texts[0] = f"{IMAGE}\n{texts[0]}"
    elif markers != images:
        notes.reject(
            "image-markers",
            f"expected one {IMAGE} per image; found {markers} {IMAGE} and {images} images",
        )
    for turn, text in zip(asked, texts, strict=True):
        turn.text = _marker_first(text)
    if not all(map(str.strip, texts)):
        notes.reject(
            "empty-text", "expected a question or an image in every user's turn; found an empty one"
        )


def _check_markers(turn: RawTurn, notes: Notes) -> None:
    if turn.role == "user":
        if marker := other_medium(turn.text or ""):
            notes.reject("unsupported-media", f"{turn.where}: {NOT_SUPPORTED}; found {marker}")
    elif any(IMAGE in text for text in (turn.text or "", *turn.references)):
        wanted = f"expected {IMAGE} only in a user's turn"
        notes.reject("image-markers", f"{turn.where}: {wanted}; found it in the {turn.role}'s")


def _marker_first(text: str) -> str:
    bare = text.strip()
    at_an_end = bare.startswith(IMAGE) or bare.endswith(IMAGE)
    if text.count(IMAGE) != 1 or not at_an_end:
        return text
    rest = bare.removeprefix(IMAGE).removesuffix(IMAGE).strip()
    return f"{IMAGE}\n{rest}" if rest else IMAGE
