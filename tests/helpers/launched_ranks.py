"""A script of cases on several ranks, started once for all tests of a file: it costs the import of
transformers.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

TESTS = Path(__file__).parents[1]
Results = dict[str, dict[str, Any]]  # of every case


def launch(cases: str, count: int, checkpoint: Path, out: Path) -> list[Results]:
    """What every rank found; `cases` starts its ranks itself, and each leaves `rank<number>.pt` in
    `out`.
    """
    command = [sys.executable, cases, str(checkpoint), str(out), str(count)]
    paths = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(out / f"rank{number}.pt") for number in range(count)]
