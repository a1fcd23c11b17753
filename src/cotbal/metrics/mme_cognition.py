"""Cognition score of MME (Fu et al. 2023): accuracy and accuracy+ in %, added up over its four
categories, on 0-800.

The paper reports perception (`mme`) alone; many others report both, and a file of all fourteen
categories serves both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cotbal.metrics import mme
from cotbal.metrics._categories import Records, categories, leveled_among
from cotbal.metrics.mme import HIGHER_IS_BETTER, constant_answer, problem_of

__all__ = ["HIGHER_IS_BETTER", "MAXIMUM", "constant_answer", "problem_of", "score", "weights"]

MAXIMUM = 800.0


def score(
    predictions: Sequence[str], references: Sequence[Sequence[str]], records: Records = ()
) -> np.ndarray:
    """400 for a right answer, 400 more when all answers on its image are right; float64, [n].

    The score is their mean under `weights`. Fewer categories than four, as in a subset, are scaled
    up to four.
    """
    found: np.ndarray = mme.score(predictions, references, records) * (MAXIMUM / mme.MAXIMUM)
    return found


def weights(
    predictions: Sequence[str], references: Sequence[Sequence[str]], records: Records = ()
) -> np.ndarray:
    """The same for every category of cognition, and inside it for every answer; float64, shape [n].

    Raises:
        CotbalError: there are categories of perception alone.
    """
    names = categories(records, len(predictions))
    counted = [name in {*mme.COGNITION, ""} for name in names]
    return leveled_among(counted, names, "mme_cognition: expected categories of cognition", "mme")
