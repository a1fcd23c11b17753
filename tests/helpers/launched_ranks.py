"""A script of cases on several ranks, started once for all tests of a file: each start costs the
trainings of all cases.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from helpers.shell import script

Results = dict[str, dict[str, Any]]  # of every case


def launch(cases: str, count: int, checkpoint: Path, out: Path, *which: str) -> list[Results]:
    """The results of every rank. `cases` starts its ranks itself, and each writes `rank<number>.pt`
    to `out`.
    """
    script(cases, checkpoint, out, str(count), *which)
    return [torch.load(out / f"rank{number}.pt") for number in range(count)]
