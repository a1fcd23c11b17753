"""How a run begins in a process that was forked from one with its imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# The second of two runs of one process, after the first was killed while it drew a progress bar.
KILLED_BEFORE = """
import os
from tqdm.std import tqdm

from cotbal.jobs.begin import begin

shared = tqdm.get_lock()
if os.fork() == 0:
    shared.acquire()
    os._exit(1)
os.wait()
begin("counting", [])
"""
COUNTING = "from tqdm.auto import tqdm\nprint(sum(tqdm([1, 2])))\n"


def test_a_killed_run_leaves_no_lock_to_other_runs(tmp_path: Path) -> None:
    (tmp_path / "counting.py").write_text(COUNTING)
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-c", KILLED_BEFORE],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "3\n"
