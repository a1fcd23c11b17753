"""Perception score of MME (Fu et al. 2023): sum of accuracy and accuracy+ in % over ten categories.

The range is 0-2000. Accuracy+ is the share of images whose two questions are both answered right.
The four categories of cognition have weight 0 here; `mme_cognition` is their score.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from cotbal.metrics._categories import Records, categories, leveled_among
from cotbal.metrics._samples import Accepted, Answers, PerSample, References, per_sample
from cotbal.metrics._yes_no import LABELS, label, problem_of

__all__ = ["HIGHER_IS_BETTER", "MAXIMUM", "constant_answer", "problem_of", "score", "weights"]

MAXIMUM = 2000.0
HIGHER_IS_BETTER = True

_EACH = 1000.0  # ten categories of 100 % accuracy, and as much accuracy+
COGNITION = {"commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning"}


def score(predictions: Answers, references: References, records: Records = ()) -> PerSample:
    """1000 for a right answer, 1000 more when all answers on its image are right; float64, [n].

    The score is their mean under `weights`. Fewer categories than ten, as in a subset, are scaled
    up to ten.
    """
    right = per_sample(_is_right, predictions, references)
    images = _images(records, len(right))
    wrong = set()
    for image, good in zip(images, right, strict=True):
        if not good:
            wrong.add(image)
    all_right = np.array([image not in wrong for image in images], np.float64)
    return _EACH * (right + all_right)


def weights(predictions: Answers, references: References, records: Records = ()) -> PerSample:
    """The same for every category of perception, and inside it for every answer; float64, [n].

    Raises:
        CotbalError: there are categories of cognition alone.
    """
    names = categories(records, len(predictions))
    counted = [name not in COGNITION for name in names]
    return leveled_among(counted, names, "mme: expected categories of perception", "mme_cognition")


def constant_answer(references: References) -> str:
    """Yes or no, whichever is right more often."""
    samples: Counter[str] = Counter()
    for accepted in references:
        labels = set(map(label, accepted))
        samples.update(labels)
    return "Yes" if samples["yes"] >= samples["no"] else "No"


def _is_right(answer: str, accepted: Accepted) -> bool:
    word = _yes_or_no(answer)
    return bool(word) and word in map(label, accepted)


def _yes_or_no(text: str) -> str:
    """Which of both is in the first four letters, otherwise empty, as in the official program."""
    plain = text.lower().strip().replace(".", "")
    start = plain[:4]
    for word in LABELS:
        if word in start:
            return word
    return ""


def _images(records: Records, n: int) -> list[tuple[str, ...]]:
    """Category and images of every sample; for a sample without images, its number."""
    images = []
    for i, category in enumerate(categories(records, n)):
        names = records[i].get("images") if records else None
        number = str(i)
        images.append((category, *(names or [number])))
    return images
