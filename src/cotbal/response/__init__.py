"""Effect of weights on scores: which weights to try, what they do, which to choose for a goal.

Every equation (R1 to R15) is in docs/equations.md; docstrings refer to its number.
"""

from __future__ import annotations

from cotbal.response.choice import Choice
from cotbal.response.choose import choose_weights
from cotbal.response.design import Design, two_level_design
from cotbal.response.finals import Finals, read_finals
from cotbal.response.fit import fit_response
from cotbal.response.prediction import compare_with_outcomes, freeze, read_prediction
from cotbal.response.response import Response
from cotbal.response.trials import Trials, read_trials

__all__ = [
    "Choice",
    "Design",
    "Finals",
    "Response",
    "Trials",
    "choose_weights",
    "compare_with_outcomes",
    "fit_response",
    "freeze",
    "read_finals",
    "read_prediction",
    "read_trials",
    "two_level_design",
]
