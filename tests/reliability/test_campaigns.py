"""Small kill and fault campaigns; `kills.py` and `faults.py` run them of any size."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import faults
import kills


def campaign(script: Any, options: Sequence[str], folder: Path) -> list[dict[str, Any]]:
    """In a process of its own, which forks drivers and workers."""
    out = folder / "out.jsonl"
    command = [sys.executable, script.__file__, *options, "--work", folder / "work", "--out", out]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return kills.done(out)


@pytest.mark.extended
@pytest.mark.parametrize("job", [job for job in kills.JOBS if job != "ranks"])
def test_killed_jobs_end_as_undisturbed_ones(job: str, tmp_path: Path) -> None:
    reports = campaign(kills, ["--kills", "4", "--jobs", job, "--seed", "3"], tmp_path)
    assert kills.summary(reports)["kills"] >= 4
    assert kills.summary(reports)["problems"] == []


@pytest.mark.extended
def test_damaged_files_lead_to_the_same_results_or_to_a_repair(tmp_path: Path) -> None:
    machine = ("two drivers", "renamed directory", "clock that jumps")
    options = ["--cases", "12", "--writes", "2", "--machine", *machine, "--seed", "3"]
    figures = faults.summary(campaign(faults, options, tmp_path))
    assert figures["damaged"] > 8
    assert figures["machine"] == dict.fromkeys(machine, "identical")
    assert sum(figures["writes"].values()) == 2
    assert figures["problems"] == []


WRITING = """
import os, sys
from pathlib import Path
from failing_writes import Writes
root = Path(sys.argv[1])
writes = Writes(root / "in", fails=int(sys.argv[2]))
writes.watch()
try:
    (root / "in").mkdir()
    (root / "in").mkdir(exist_ok=True)
    (root / "out").write_text("not counted")
    (root / "in/a").write_text("a")
    (root / "in/a").read_text()
    if os.fork() == 0:
        (root / "in/a").rename(root / "in/b")
        os._exit(0)
    os.wait()
    (root / "in/c").write_text("c")
except OSError as error:
    print(error.errno, Path(error.filename).name)
print(writes.count)
"""


@pytest.mark.parametrize(("fails", "said"), [(0, "4"), (2, "28 a 2"), (4, "28 c 4")])
def test_one_write_fails_in_whatever_process(fails: int, said: str, tmp_path: Path) -> None:
    script = tmp_path / "writing.py"
    script.write_text(WRITING)
    command = [sys.executable, str(script), str(tmp_path), str(fails)]
    path = str(Path(faults.__file__).parent)
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={"PYTHONPATH": path}
    )
    assert done.stdout.split() == said.split()


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    root = tmp_path / "run"
    for name in ("scores.csv", "probes/mini/scores/a.json", "probes/full-a/scores/a.json"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1.0")
    (root / "log.txt").write_text("at 12:00")
    return root


def test_a_campaign_compares_results_and_nothing_else(finished: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for path in finished.rglob("*.*"):
        copied = other / path.relative_to(finished)
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_bytes(path.read_bytes())
    (other / "log.txt").write_text("at 13:00")
    assert kills.difference(other, finished) == ""
    (other / "probes/mini/scores/a.json").write_text("1.1")
    assert "probes/mini/scores/a.json" in kills.difference(other, finished)
    (other / "probes/mini/scores/a.json").unlink()
    assert "probes/mini/scores/a.json" in kills.difference(other, finished)


def test_every_file_gets_every_damage(finished: Path) -> None:
    planned = faults.cases(finished, seed=0)
    files = {str(path.relative_to(finished)) for path in finished.rglob("*.*")}
    assert sorted(planned) == sorted((name, damage) for name in files for damage in faults.DAMAGES)
    assert {faults.pattern(name) for name, _ in planned[:12]} == {
        "scores.csv",
        "probes/*/scores/a.json",
        "log.txt",
    }


def test_files_that_have_met_few_damages_come_first() -> None:
    planned = [(name, damage) for name in "ab" for damage in ("cut", "zero")]
    left = faults.spread(planned, {("a", "cut")})
    assert left == [("b", "cut"), ("a", "zero"), ("b", "zero")]


def test_what_is_neither_identical_nor_repaired_is_a_problem() -> None:
    results = ("identical", "error", "left to verify", "WRONG: differs: a", "CRASH 1")
    rows = [{"file": name, "damage": "cut", "result": name} for name in results]
    rows += [
        {"file": "", "damage": "write 3", "result": "identical", "first": code} for code in (0, 2)
    ]
    assert [row["file"] for row in faults.summary(rows)["problems"]] == [*results[3:]]
    ends = {"error, then identical": 1, "no error, then identical": 1}
    assert faults.summary(rows)["writes"] == ends
    assert json.dumps(faults.summary(rows))
