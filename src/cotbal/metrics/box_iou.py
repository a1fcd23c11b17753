"""Box accuracy: the IoU of the first `[x1,y1,x2,y2]` of an answer with a reference is above 0.5."""

from __future__ import annotations

import math
import re

import numpy as np

from cotbal.metrics._samples import Accepted, Answers, PerSample, References, per_sample

MAXIMUM = 1.0
HIGHER_IS_BETTER = True

_THRESHOLD = 0.5
_BRACKETS = re.compile(r"\[(.*?)\]")
Box = tuple[float, float, float, float]


def score(predictions: Answers, references: References) -> PerSample:
    """1.0 if the box fits any of its references, otherwise 0.0; float64, shape [n].

    An answer without a box is wrong. Answers and references may have any unit in common.
    """
    return per_sample(_is_right, predictions, references)


def problem_of(references: Accepted) -> str:
    """Why the references of a sample are invalid, such as a box without area; empty if valid."""
    if not _boxes(references):
        return f"expected a box such as [0.1,0.2,0.5,0.6]; found {references[0]!r}"
    for text in references:
        box = _parse(text)
        if box is not None and not _has_area(box):
            return (
                f"expected a box [x1, y1, x2, y2] with x1 < x2 and y1 < y2; found {text!r}; if it"
                " is x, y, width and height, the form of COCO, write"
                " [x, y, x + width, y + height]"
            )
    return ""


def constant_answer(references: References) -> str:
    """The median of every coordinate over all reference boxes; empty without a box."""
    boxes: list[Box] = []
    for accepted in references:
        boxes += _boxes(accepted)
    if not boxes:
        return ""
    median = np.median(np.array(boxes), axis=0)
    coordinates = ",".join(f"{value:g}" for value in median.tolist())
    return f"[{coordinates}]"


def _is_right(answer: str, accepted: Accepted) -> bool:
    box = _parse(answer)
    if box is None:
        return False
    return any(_iou(box, other) > _THRESHOLD for other in _boxes(accepted))


def _boxes(references: Accepted) -> list[Box]:
    """The boxes among the references of a sample."""
    parsed = map(_parse, references)
    return [box for box in parsed if box is not None]


def _parse(text: str) -> Box | None:
    match = _BRACKETS.search(text)
    if match is None:
        return None
    try:
        x1, y1, x2, y2 = map(float, match[1].split(","))
    except ValueError:
        return None
    return x1, y1, x2, y2


def _iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes; 0 when their union is empty."""
    left, top, right, bottom = zip(a, b, strict=True)
    overlap = _area((max(left), max(top), min(right), min(bottom)))
    union = _area(a) + _area(b) - overlap
    if union <= 0:
        return 0.0
    return overlap / union


def _has_area(box: Box) -> bool:
    x1, y1, x2, y2 = box
    return x1 < x2 and y1 < y2 and all(map(math.isfinite, box))


def _area(box: Box) -> float:
    x1, y1, x2, y2 = box
    width = max(0.0, x2 - x1)
    height = max(0.0, y2 - y1)
    return width * height
