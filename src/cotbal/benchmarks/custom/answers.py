"""What the right answers of a task are: boxes, a few words or sentences; and the metric for
them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from cotbal.benchmarks.releases.benchmark import TaskPlan
from cotbal.data.reading.formats import read_rows
from cotbal.errors import DataError
from cotbal.metrics import box_iou
from cotbal.metrics._words import word_count

_SAMPLE = 1000  # answers that a metric is chosen by
_FEW_WORDS = 5
_MOSTLY = 0.9
_NUMBER = r"\s*-?\d+(?:\.\d+)?\s*"
_FOUR = ",".join([_NUMBER] * 4)
_TWO = rf"\({_NUMBER},{_NUMBER}\)"
_BOX = re.compile(rf"\s*\[{_FOUR}\]\s*")
_OTHER_BOX = re.compile(  # with tags around it, such as <box>
    rf"\s*(?:<[^<>]*>\s*)*(?:{_FOUR}|\({_FOUR}\)|\[\s*\[{_FOUR}\]\s*\]|\[{_FOUR}\]"
    rf"|\[?{_TWO}\s*,?\s*{_TWO}\]?|(?:<loc\d+>\s*){{4}})\s*(?:<[^<>]*>\s*)*"
)


def right_answers(path: Path, most: int | None = _SAMPLE) -> Iterator[tuple[int, str]]:
    """Number and text of the answers in a prepared file, of its first `most` records."""
    for row in islice(read_rows(path), most):
        if not isinstance(row, tuple):
            continue
        number, content = row
        for turn in content["conversations"]:
            if turn["from"] != "gpt":
                continue
            texts = turn["value"] if isinstance(turn["value"], list) else [turn["value"]]
            for text in texts:
                yield number, text


def suited(answers: Sequence[str], task: str) -> tuple[str, str]:
    """The metric that suits the answers, and why.

    Raises:
        DataError: they are boxes in another form than that of the metric for boxes.
    """
    boxes = _fraction(_BOX.fullmatch, answers)
    if boxes > _MOSTLY:
        return "box_iou", f"{100 * boxes:.0f} % of the right answers are boxes [x1, y1, x2, y2]"
    if _fraction(_OTHER_BOX.fullmatch, answers) > _MOSTLY:
        raise DataError(
            f"{task}: the right answers are boxes such as {answers[0][:60]!r}; `box_iou` reads"
            f" [x1, y1, x2, y2], in any unit; write them so, or add --metric {task}=...",
            "invalid-box",
        )
    short = _fraction(lambda answer: word_count(answer) <= _FEW_WORDS, answers)
    if short > 0.5:
        return (
            "exact_match",
            f"{100 * short:.0f} % of the right answers have at most {_FEW_WORDS} words",
        )
    return (
        "cider",
        f"{100 * (1 - short):.0f} % of the right answers have more than {_FEW_WORDS} words",
    )


def _fraction(fits: Callable[[str], object], answers: Sequence[str]) -> float:
    return sum(map(bool, map(fits, answers))) / len(answers)


def demand_corners(plan: TaskPlan, out: Path) -> None:
    """Check every answer of a task that is a box, those that are trained on too.

    Raises:
        DataError: one is no box of corners, so the others are probably none either. In training, a
            box whose edges meet is one: a small box may be so by rounding.
    """
    for split in plan.splits:
        path = out / "data" / f"{plan.name}_{split.name}.jsonl"
        for number, answer in right_answers(path, None):
            suspect = _is_turned(answer) if split.name == "train" else _BOX.fullmatch(answer)
            error = box_iou.problem_of([answer]) if suspect else ""
            if error:
                raise DataError(f"{path}, record {number}: {error}", "invalid-box")


def _is_turned(answer: str) -> bool:
    if not _BOX.fullmatch(answer):
        return False
    x1, y1, x2, y2 = map(float, answer.strip(" \n[]").split(","))
    return x2 < x1 or y2 < y1
