"""GLEU of a corpus: shared n-grams of all sentences over all n-grams, `gleu` weighted by length."""

from __future__ import annotations

from cotbal.metrics._samples import Answers, PerSample, References
from cotbal.metrics.gleu import HIGHER_IS_BETTER, MAXIMUM, constant_answer, counts, score

__all__ = ["HIGHER_IS_BETTER", "MAXIMUM", "constant_answer", "score", "weights"]


def weights(predictions: Answers, references: References) -> PerSample:
    """Number of n-grams of the answer or its best reference, the larger; float64, shape [n]."""
    _, grams = counts(predictions, references)
    return grams
