"""`cotbal` as a user's shell runs it: another process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LIMIT = 240


def command(*arguments: str | Path) -> list[str]:
    """The argv of a command."""
    return [sys.executable, "-m", "cotbal", *map(str, arguments)]


def cotbal(*arguments: str | Path, code: int = 0) -> str:
    """Run it to its end; everything it printed."""
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, check=False, timeout=LIMIT
    )
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr
