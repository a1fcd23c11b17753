"""Lets the tests of this directory import `record_rows`: pytest's importlib mode adds no directory
by itself.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
