"""Weights from a table of validation scores: no torch, no recipe.

The table has one row per probe (`mini`, `full:<task>`) and one column per task; higher is better.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cotbal.balance import Settings, balance
from cotbal.scores.matrix import read_scores

result = balance(read_scores(Path(sys.argv[1])), settings=Settings(temperature=0.5))
for unit in result.units:
    print(result.sentence(unit))
for flag in result.flags:
    print(f"{flag.kind}: {flag.message}")
