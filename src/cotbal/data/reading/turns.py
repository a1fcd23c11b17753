"""The turns of a raw record, read one by one: who speaks, text, images, marks for loss.

Marks leave single turns without loss, as other trainers read them:

* ms-swift: `loss: false` or `loss_scale: 0` in a message;
* axolotl: the field that `message_field_training` names, by custom `training` or `train`, and
  `weight: 0` in its ShareGPT form; in a text part also `weight` and `training`;
* OpenAI's fine-tuning format: `weight: 0` in an assistant message;
* LLaMA-Factory's second version: `loss_weight: 0` in a message.

cotbal supports them for whole assistant turns. Its weights belong to tasks, so a mark is all or
nothing; other weights, marks on parts of an answer, and marks that would train on the words of a
user are errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cotbal.data.reading.media import part_image
from cotbal.data.reading.record import IMAGE, Role
from cotbal.data.reading.unread_keys import unread
from cotbal.data.reading.values import is_filled, is_text, show
from cotbal.errors import DataError

FORMS = {"conversations": ("from", "value"), "messages": ("role", "content")}
MARKS = ("loss", "loss_scale", "train", "training", "weight", "loss_weight")
SPANS = ("train_detail", "training_detail")  # axolotl: characters of an answer

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


@dataclass(slots=True)
class RawTurn:
    """A turn while it is being read; None for what could not be read.

    Attributes:
        where: in the record, such as `messages[0]`.
        images: of its image parts, None for a part that names none.
    """

    role: Role | None
    where: str
    text: str | None = None
    references: tuple[str, ...] = ()
    images: tuple[Any, ...] = ()
    loss: bool = True


@dataclass(frozen=True, slots=True)
class Notes:
    """Errors of a record, and keys that nothing reads, in their order."""

    problems: list[DataError] = field(default_factory=list)
    unread: dict[str, None] = field(default_factory=dict)

    def reject(self, code: str, message: str) -> None:
        """Note an error."""
        self.problems.append(DataError(message, code))

    def not_read(self, keys: Iterable[str]) -> None:
        """Note keys that nothing reads."""
        self.unread.update(dict.fromkeys(keys))


def read_turns(raw: Mapping[str, Any], form: str, notes: Notes) -> list[RawTurn]:
    """The turns under the key `form`, behind the system prompt if there is one beside them."""
    value = raw[form]
    if not isinstance(value, list) or not value:
        notes.reject("no-turns", f"{form}: expected a list of turns; found {show(value)}")
        value = []
    turns = []
    for i, turn in enumerate(value):
        turns.append(_read_turn(turn, form, f"{form}[{i}]", notes))
    _read_system(raw.get("system"), turns, notes)
    return turns


def _read_system(value: Any, turns: list[RawTurn], notes: Notes) -> None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return
    if not is_text(value):
        notes.reject("invalid-value", f"system: expected text; found {show(value)}")
    elif not turns or turns[0].role != "system":
        turns.insert(0, RawTurn("system", "system", value))
    elif turns[0].text != value:
        notes.reject(
            "conflicting-fields",
            f"system: expected the text of the system turn {turns[0].where}, or no key",
        )


def _read_turn(value: Any, form: str, where: str, notes: Notes) -> RawTurn:
    role_key, content_key = FORMS[form]
    if not isinstance(value, dict):
        wanted = f"expected a mapping with `{role_key}` and `{content_key}`"
        notes.reject("invalid-turn", f"{where}: {wanted}; found {show(value)}")
        return RawTurn(None, where)
    spoken = value.get(role_key)
    role = _ROLES.get(spoken) if isinstance(spoken, str) else None
    if role is None:
        wanted = f"expected one of {', '.join(_ROLES)}"
        notes.reject("invalid-turn", f"{where}.{role_key}: {wanted}; found {show(spoken)}")
    turn = RawTurn(role, where)
    part_marks = _read_content(turn, value.get(content_key), f"{form}[].{content_key}", notes)
    if len(value) > 2 or part_marks:
        notes.not_read(unread(value, (role_key, content_key, *MARKS, *SPANS), f"{form}[]."))
        mark = _joined_marks(_read_mark(value, where, notes), part_marks, where, notes)
        if mark and role in ("user", "system"):
            notes.reject(
                "invalid-loss-mark",
                f"{where}: expected marks for loss only on the assistant's turns; the words of the"
                f" {role} never carry loss",
            )
        turn.loss = mark is not False or role != "assistant"
    return turn


def _read_content(turn: RawTurn, content: Any, key: str, notes: Notes) -> list[bool | None]:
    """Read the content of a turn into it; the marks of its text parts, if it has parts."""
    where, marks = f"{turn.where}.{key.rpartition('.')[2]}", []
    if _is_list_of(content, lambda part: isinstance(part, dict)):
        marks = _read_parts(turn, content, key, notes)
    elif _is_list_of(content, is_text) and turn.role == "assistant":
        turn.text, turn.references = content[0], tuple(content)
    elif is_text(content):
        turn.text = content
    else:
        wanted = "text, or a list of right answers" if turn.role == "assistant" else "text"
        notes.reject("invalid-value", f"{where}: expected {wanted}; found {show(content)}")
    if turn.role == "assistant" and turn.text is not None:
        turn.references = turn.references or (turn.text,)
        if not all(map(str.strip, turn.references)):
            notes.reject("empty-text", f"{where}: expected an answer; found an empty one")
    return marks


def _is_list_of(content: Any, is_element: Any) -> bool:
    return isinstance(content, list) and bool(content) and all(map(is_element, content))


def _read_parts(
    turn: RawTurn, parts: Sequence[dict[str, Any]], key: str, notes: Notes
) -> list[bool | None]:
    where = f"{turn.where}.{key.rpartition('.')[2]}"
    images: list[Any] = []
    marks: list[bool | None] = []
    text = ""
    for index, part in enumerate(parts):
        kind = part.get("type")
        if kind == "text" and is_text(part.get("text")):
            piece, read = part["text"], "text"
            marks.append(_read_mark(part, f"{where}[{index}]", notes))
        elif kind in ("image", "image_url"):
            read, image = part_image(part)
            images.append(image)
            piece = IMAGE
        else:
            wanted = "expected a part of type text (with text) or image"
            notes.reject("invalid-turn", f"{where}[{index}]: {wanted}; found {show(part)}")
            return []
        notes.not_read(unread(part, ("type", *MARKS, *SPANS, read), f"{key}[]."))
        at_head = text and not text.replace(IMAGE, "").strip()
        text += ("\n" if at_head else "") + piece
    turn.text, turn.images = text, tuple(images)
    return marks


def _read_mark(fields: Mapping[str, Any], where: str, notes: Notes) -> bool | None:
    """Whether the words of a turn, or of a part of it, carry loss by its marks; None where there
    is no mark.
    """
    for key in SPANS:
        if is_filled(fields.get(key)):
            notes.reject(
                "invalid-loss-mark",
                f"{where}.{key}: expected a mark for the whole answer, such as loss: false; marks"
                " on parts of an answer are not supported",
            )
    marks = {key: fields[key] for key in MARKS if fields.get(key) is not None}
    wrong = [key for key, value in marks.items() if not _is_mark(value)]
    for key in wrong:
        notes.reject(
            "invalid-loss-mark",
            f"{where}.{key}: expected true or false, 1 or 0; found {show(marks[key])}. Other"
            " weights belong to tasks, not to turns",
        )
    if wrong or not marks:
        return None
    if len(set(map(bool, marks.values()))) > 1:
        shown = ", ".join(f"{key}: {value}" for key, value in marks.items())
        notes.reject("invalid-loss-mark", f"{where}: expected marks that agree; found {shown}")
    return bool(next(iter(marks.values())))


def _is_mark(value: Any) -> bool:
    return isinstance(value, bool | int | float) and value in (0, 1)


def _joined_marks(
    turn: bool | None, parts: Sequence[bool | None], where: str, notes: Notes
) -> bool | None:
    """The mark of a turn from its own mark and those of its text parts."""
    if all(mark is None for mark in parts):
        return turn
    carried = {turn is not False if mark is None else mark for mark in parts}
    if len(carried) > 1 or turn not in (None, *carried):
        notes.reject(
            "invalid-loss-mark",
            f"{where}: expected one mark for the whole answer; found parts with loss and parts"
            " without",
        )
    return carried.pop()
