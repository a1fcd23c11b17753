"""Cognition score of MME (Fu et al. 2023): sum of accuracy and accuracy+ in % over four categories.

The range is 0-800. A file of all fourteen categories can be used for this score and for `mme`.
"""

from __future__ import annotations

from cotbal.metrics import mme
from cotbal.metrics._categories import Records, categories, leveled_among
from cotbal.metrics._samples import Answers, PerSample, References
from cotbal.metrics.mme import HIGHER_IS_BETTER, constant_answer, problem_of

__all__ = ["HIGHER_IS_BETTER", "MAXIMUM", "constant_answer", "problem_of", "score", "weights"]

MAXIMUM = 800.0


def score(predictions: Answers, references: References, records: Records = ()) -> PerSample:
    """400 for a right answer, 400 more when all answers on its image are right; float64, [n].

    The score is their mean under `weights`. Fewer categories than four, as in a subset, are scaled
    up to four.
    """
    return mme.score(predictions, references, records) * (MAXIMUM / mme.MAXIMUM)


def weights(predictions: Answers, references: References, records: Records = ()) -> PerSample:
    """The same for every category of cognition, and inside it for every answer; float64, shape [n].

    Raises:
        CotbalError: there are categories of perception alone.
    """
    names = categories(records, len(predictions))
    counted = [name in {*mme.COGNITION, ""} for name in names]
    return leveled_among(counted, names, "mme_cognition: expected categories of cognition", "mme")
