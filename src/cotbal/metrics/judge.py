"""Relative score of a judge (Liu et al. 2023, LLaVA): ratings of answers over those of references.

In percent. A judge is a language model, which `cotbal judge` calls (docs/judge.md).
"""

from __future__ import annotations

import numpy as np

from cotbal.metrics._samples import PerSample

MAXIMUM = 1000.0  # a rating of 10 for every answer and of 1 for every reference
HIGHER_IS_BETTER = True
GIVEN_BY = "cotbal judge"


def relative(answers: PerSample, references: PerSample) -> tuple[PerSample, PerSample]:
    """`100 * sum(answers) / sum(references)`, as quotients weighted by the references' ratings.

    Args:
        answers: rating of every answer, 0 to 10; NaN where the judge gave none: weight 0.
        references: rating of every reference answer, 1 to 10, or NaN where `answers` is NaN.

    Returns:
        value and weight of every sample.
    """
    known = ~np.isnan(answers)
    weights = np.where(known, references, 0.0)
    zeros = np.zeros(len(answers))
    values = np.divide(100 * answers, references, out=zeros, where=known)
    return values, weights
