"""The script for a GPU, on a CPU with tiny models."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from helpers.scripts import BENCHMARKS, loaded

SCRIPT = BENCHMARKS / "gpu_check.py"
pytestmark = pytest.mark.extended


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return loaded(SCRIPT)


def target(script: ModuleType) -> object:
    return script.Target("cpu", script.SIZES["tiny"], script.SIZES["tiny"])


def test_every_part_runs_and_passes(script: ModuleType) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--device", "cpu", "--size", "tiny", "--minutes", "30"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    table = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert not [line for line in table if "FAILED" in line]
    for part in script.CHECKS:
        assert [line for line in table if line.startswith(f"| {part.__name__} |")]
    for what in (
        *("update: stock trainer", "head (64", "LoRA step |", "answers, generate, one by one"),
        *("answers, shared images, kept features", "image features", "resumed after"),
    ):
        assert [line for line in table if what in line], what


def wrong(_: object) -> Iterator[tuple[str, str, str]]:
    yield "first", "1", "fine"
    raise AssertionError("expected 2, found 3")


def right(_: object) -> Iterator[tuple[str, str, str]]:
    yield "second", "2", "fine"


def test_an_error_is_a_row_and_a_failure(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The parts behind it still run."""
    monkeypatch.setattr(script, "CHECKS", {wrong: 1.0, right: 1.0})
    assert script.check(target(script), 1.0) == 1
    table = capsys.readouterr().out
    assert "| first | 1 | fine |" in table
    assert "| wrong | FAILED |" in table
    assert "expected 2, found 3" in table
    assert "| second | 2 | fine |" in table


def test_no_part_starts_when_the_time_is_over(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "CHECKS", {right: 1.0, wrong: 1.0})
    assert script.check(target(script), -1.0) == 2
    assert "| second |" not in capsys.readouterr().out


def slow(_: object) -> Iterator[tuple[str, str, str]]:
    yield "third", "3", "fine"
    try:
        time.sleep(60)
    except Exception:
        pytest.fail("a library would handle it")
    yield "fourth", "4", "too late"


def test_a_part_ends_when_its_time_is_over(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "CHECKS", {slow: 1.0, right: 9.0})
    started = time.monotonic()
    assert script.check(target(script), 5 / 60) == 1
    assert time.monotonic() - started < 5
    table = capsys.readouterr().out
    assert "| third | 3 | fine |" in table
    assert "| slow | FAILED |" in table
    assert "| fourth |" not in table
    assert "| second | 2 | fine |" in table


def test_a_part_that_does_not_return_ends_the_check() -> None:
    """A kernel that hangs runs no handler of signals: one that ignores the alarm instead."""
    program = (
        "import signal, time\n"
        "import gpu_check\n"
        "gpu_check.GRACE = 0.1\n"
        "with gpu_check.deadline(0.1):\n"
        "    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])\n"
        "    time.sleep(60)\n"
    )
    paths = os.pathsep.join([str(BENCHMARKS), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert done.returncode == 1
    assert "FAILED" in done.stdout


@pytest.mark.parametrize("way", ["Decoder", "generate"])
def test_wrong_answers_are_found(
    script: ModuleType, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One other token, in one answer of every batch."""
    texts = script.TokenAnswers._texts
    calls = []

    def other(self: Any, tokens: Any) -> list[str]:
        made = texts(self, tokens)
        calls.append(type(tokens) is list)
        if calls[-1] == (way == "Decoder"):
            first, *rest = made[0].split()
            made[0] = " ".join([str(int(first) ^ 1), *rest])
        return made

    monkeypatch.setattr(script.TokenAnswers, "_texts", other)
    with pytest.raises(AssertionError, match="likeliest"):
        list(script.answers(target(script)))
    assert {True, False} == set(calls)


def test_a_wrong_gradient_is_found(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head whose gradient lost the factors of its tokens."""
    plain = script.chunks

    def lossy(problem: object, finish: object = None) -> object:
        equal = script.Problem(
            problem.rows,
            problem.head,
            problem.targets,
            problem.factors.mean().expand_as(problem.factors),
        )
        return plain(equal, finish)

    monkeypatch.setattr(script, "chunks", lossy)
    with pytest.raises(AssertionError, match="loss and gradients"):
        list(script.loss_on_the_device(target(script)))
