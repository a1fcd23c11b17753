"""`exact_match` that takes a while, so that kills and faults land in it."""

from __future__ import annotations

import time

from cotbal.metrics import exact_match
from cotbal.metrics._samples import Answers, PerSample, References

MAXIMUM = exact_match.MAXIMUM
HIGHER_IS_BETTER = exact_match.HIGHER_IS_BETTER
SECONDS = 0.4


def score(predictions: Answers, references: References) -> PerSample:
    """As `exact_match`."""
    time.sleep(SECONDS)
    return exact_match.score(predictions, references)


def constant_answer(references: References) -> str:
    """As `exact_match`."""
    return exact_match.constant_answer(references)
