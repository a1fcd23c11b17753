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
import fuzz_guided
from fuzz_readers import READERS, Reader

OF_RUNS = [name for name in READERS if name.startswith("run/")]


def figures_of(
    readers: list[str], inputs: int, out: Path, script: str = fuzz.__file__
) -> dict[str, dict[str, Any]]:
    """Of a campaign in a process of its own: children are forked without threads of this one."""
    options = ["--readers", ",".join(readers), "--inputs", inputs, "--seed", "7", "--out", out]
    command = [sys.executable, script, *map(str, options)]
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


def _deep(path: Path) -> None:
    content = path.read_bytes()
    if content.startswith(b"A"):
        _deeper(content)


def _deeper(content: bytes) -> None:
    if content.count(b"A") > 6:
        raise KeyError(content)


def test_inputs_that_reach_new_lines_are_damaged_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzz_guided, "PACKAGE", __file__)  # lines of this file are those traced
    monkeypatch.setitem(READERS, "x", Reader("x", [b"ab"], _deep, words=[b"A"]))
    corpus = fuzz_guided.campaign("x", 1, 400, keep=tmp_path)
    again = fuzz_guided.campaign("x", 1, 400)
    assert len(corpus.contents) > 1
    assert all(content.startswith(b"A") for content in corpus.contents[1:])
    assert corpus.counts.kinds["exception"] == corpus.counts.failures > 0
    assert next(tmp_path.iterdir()).read_bytes().count(b"A") > 6
    assert (again.contents, again.lines) == (corpus.contents, corpus.lines)


@pytest.mark.parametrize("name", ["recipe", "trials", "jsonl", "scores-json"])
def test_trees_of_files_are_changed(name: str) -> None:
    reader = READERS[name]
    changed = {
        fuzz_guided._with_other_tree(reader.seeds[0], reader, random.Random(number))
        for number in range(20)
    }
    assert len(changed - {None}) > 10


@pytest.mark.extended
def test_no_guided_input_is_more_than_an_error(tmp_path: Path) -> None:
    names = [name for name in READERS if name not in OF_RUNS]
    figures = figures_of(names, 30 * len(names), tmp_path / "out.json", fuzz_guided.__file__)
    assert [figures[name]["inputs"] for name in names] == [30] * len(names)
    assert not [of_file["examples"] for of_file in figures.values() if of_file["failures"]]
