"""Marks that leave single turns without loss, as other trainers read them.

* ms-swift: `loss: false` or `loss_scale: 0` in a message;
* axolotl: the field that `message_field_training` names, by custom `training` or `train`, and
  `weight: 0` in its ShareGPT form; in a text part also `weight` and `training`;
* OpenAI's fine-tuning format: `weight: 0` in an assistant message;
* LLaMA-Factory's second version: `loss_weight: 0` in a message.

cotbal honours them for whole assistant turns. Its weights belong to tasks, so a mark is all or
nothing; other weights, marks on parts of an answer, and marks that would train on the words of a
user are errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cotbal.data.values import is_filled, show

MARKS = ("loss", "loss_scale", "train", "training", "weight", "loss_weight")
SPANS = ("train_detail", "training_detail")  # axolotl: characters of an answer


def read_mark(fields: Mapping[str, Any], place: str, problems: list[str]) -> bool | None:
    """Whether the marks of a turn, or of a part of it, say that its words carry loss.

    Args:
        place: of the turn in its record, for messages.
        errors: receives what cannot be honoured.

    Returns:
        None where there is no mark.
    """
    for key in SPANS:
        if is_filled(fields.get(key)):
            problems.append(
                f"{place}.{key}: expected a mark for the whole answer, such as loss: false; marks"
                " on parts of an answer are not supported"
            )
    marks = {key: fields[key] for key in MARKS if fields.get(key) is not None}
    wrong = [key for key, value in marks.items() if not _is_mark(value)]
    for key in wrong:
        problems.append(
            f"{place}.{key}: expected true or false, 1 or 0; found {show(marks[key])}. Other"
            " weights belong to tasks, not to turns"
        )
    if wrong or not marks:
        return None
    if len(set(map(bool, marks.values()))) > 1:
        found = ", ".join(f"{key}: {value}" for key, value in marks.items())
        problems.append(f"{place}: expected marks that agree; found {found}")
    return bool(next(iter(marks.values())))


def joined_marks(
    turn: bool | None, parts: Sequence[bool | None], place: str, problems: list[str]
) -> bool | None:
    """The mark of a turn from its own mark and those of its text parts."""
    if all(mark is None for mark in parts):
        return turn
    carried = {turn is not False if mark is None else mark for mark in parts}
    if len(carried) > 1 or turn not in (None, *carried):
        problems.append(
            f"{place}: expected one mark for the whole answer; found parts with loss and parts"
            " without"
        )
    return carried.pop()


def _is_mark(value: Any) -> bool:
    return isinstance(value, bool | int | float) and value in (0, 1)
