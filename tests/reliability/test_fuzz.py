"""A small fuzz campaign; `fuzz.py` runs one of any size."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fuzz
from fuzz_readers import READERS, Reader

OF_RUNS = [name for name in READERS if name.startswith("run/")]


def figures_of(readers: list[str], inputs: int, out: Path) -> dict[str, dict[str, Any]]:
    """Of a campaign in a process of its own: children are forked without threads of this one."""
    options = ["--readers", ",".join(readers), "--inputs", inputs, "--seed", "7", "--out", out]
    command = [sys.executable, fuzz.__file__, *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures: dict[str, dict[str, Any]] = json.loads(out.read_text())
    return figures


@pytest.mark.extended
@pytest.mark.parametrize("name", [name for name in READERS if name not in OF_RUNS])
def test_no_input_is_more_than_an_error(name: str, tmp_path: Path) -> None:
    figures = figures_of([name], 150, tmp_path / "out.json")[name]
    assert figures["inputs"] == 150
    assert figures["failures"] == 0, figures["examples"]


@pytest.mark.extended
def test_no_file_of_a_run_directory_is_more_than_an_error(tmp_path: Path) -> None:
    figures = figures_of(OF_RUNS, 5 * len(OF_RUNS), tmp_path / "out.json")
    assert [of_file["inputs"] for of_file in figures.values()] == [5] * len(OF_RUNS)
    assert not [of_file["examples"] for of_file in figures.values() if of_file["failures"]]


@pytest.mark.parametrize("name", READERS)
def test_sound_files_are_read(name: str, tmp_path: Path) -> None:
    """Otherwise a campaign would look at the first check of a reader only."""
    reader = READERS[name]
    for number, content in enumerate(reader.seeds):
        path = tmp_path / str(number) / reader.file
        path.parent.mkdir()
        path.write_bytes(content)
        reader.read(path)
    generators = (random.Random(3), random.Random(3))
    first, second = (fuzz.damaged(reader, generator) for generator in generators)
    assert first == second


def _hang(_: Path) -> None:
    while True:
        pass


def _end(path: Path) -> None:
    if b"b" in path.read_bytes():
        os.kill(os.getpid(), signal.SIGKILL)


def _take(_: Path) -> int:
    return len(bytearray(3 * fuzz.MEMORY))


def _fail(_: Path) -> None:
    raise KeyError("x")


@pytest.mark.parametrize(
    ("read", "kind"),
    [(_hang, "slow"), (_end, "ended"), (_take, "memory"), (_fail, "exception"), (len, "exception")],
)
def test_failures_are_counted(read: object, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(READERS, "x", Reader("x", [b"b"], read))  # type: ignore[arg-type]
    monkeypatch.setattr(fuzz, "SECONDS", 0.1)
    monkeypatch.setattr(fuzz, "damaged", lambda *_: b"b")
    counts = fuzz.campaign("x", 3)
    assert (counts.inputs, counts.failures, dict(counts.kinds)) == (3, 3, {kind: 3})
    assert counts.examples[0].startswith(f"0: {kind}")
