"""Lets the tests of this directory import `balance_cases`: pytest's importlib mode adds no directory by itself."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
