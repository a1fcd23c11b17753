"""The script for a GPU, on a CPU with tiny models."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType

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
        [sys.executable, SCRIPT, "--device", "cpu", "--size", "tiny"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    table = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert not [line for line in table if "FAILED" in line]
    for part in script.CHECKS:
        assert [line for line in table if line.startswith(f"| {part.__name__} |")]
    for what in ("update: stock trainer", "head (64", "LoRA step |", "answers", "resumed after"):
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
    monkeypatch.setattr(script, "CHECKS", (wrong, right))
    assert script.check(target(script), 1.0) == 1
    table = capsys.readouterr().out
    assert "| first | 1 | fine |" in table
    assert "| wrong | FAILED |" in table
    assert "expected 2, found 3" in table
    assert "| second | 2 | fine |" in table


def test_no_part_starts_when_the_time_is_over(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "CHECKS", (right, right))
    assert script.check(target(script), -1.0) == 2
    assert "| second |" not in capsys.readouterr().out


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
