"""Box accuracy: the IoU of the first `[x1,y1,x2,y2]` of an answer with a reference is above 0.5."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from cotbal.metrics._samples import per_sample

MAXIMUM = 1.0
HIGHER_IS_BETTER = True

_THRESHOLD = 0.5
_BRACKETS = re.compile(r"\[(.*?)\]")
Box = tuple[float, float, float, float]


def score(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """1.0 if the box fits any of its references, otherwise 0.0; float64, shape [n].

    An answer without a box is wrong. Answers and references may have any unit in common.
    """
    return per_sample(_is_right, predictions, references)


def problem_of(references: Sequence[str]) -> str:
    """Why the references of a sample are invalid, such as a box without area; empty if valid."""
    boxes = {text: box for text in references if (box := _parse(text)) is not None}
    if not boxes:
        return f"expected a box such as [0.1,0.2,0.5,0.6]; found {references[0]!r}"
    wrong = next((text for text, box in boxes.items() if not _has_area(box)), None)
    if wrong is None:
        return ""
    return (
        f"expected a box [x1, y1, x2, y2] with x1 < x2 and y1 < y2; found {wrong!r}; if it is x, y,"
        " width and height, the form of COCO, write [x, y, x + width, y + height]"
    )


def constant_answer(references: Sequence[Sequence[str]]) -> str:
    """The median of every coordinate over all reference boxes; empty without a box."""
    boxes = [box for accepted in references for box in map(_parse, accepted) if box is not None]
    if not boxes:
        return ""
    return "[" + ",".join(f"{float(value):g}" for value in np.median(np.array(boxes), axis=0)) + "]"


def _is_right(answer: str, accepted: Sequence[str]) -> bool:
    box = _parse(answer)
    boxes = (_parse(reference) for reference in accepted)
    return box is not None and any(
        _iou(box, other) > _THRESHOLD for other in boxes if other is not None
    )


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
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    overlap = max(0.0, width) * max(0.0, height)
    union = _area(a) + _area(b) - overlap
    return overlap / union if union > 0 else 0.0


def _has_area(box: Box) -> bool:
    x1, y1, x2, y2 = box
    return x1 < x2 and y1 < y2 and all(map(math.isfinite, box))


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])
