"""Wall times count where results are equal and the machine is idle."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest

from helpers.scripts import BENCHMARKS, loaded

Command = Callable[..., object]


@pytest.fixture
def script() -> ModuleType:
    return loaded(BENCHMARKS / "wall_times.py")


def commands(
    script: ModuleType, walls: Sequence[float], others: float = 0.0, weights: str = "same"
) -> Command:
    """Stands in for `cotbal`: writes weights and takes the next time; `weights` with a field for
    the number of the command.
    """
    left = list(walls)

    def run(*arguments: str | Path) -> object:
        out = Path(arguments[arguments.index("--out") + 1])
        out.mkdir()
        (out / "weights.json").write_text(weights.format(len(left)))
        return script.Spent(left.pop(0), 1.0, others)

    return run


def main(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, command: Command, *arguments: str
) -> None:
    monkeypatch.setenv("COTBAL_CACHE", "unused")  # restored after the test
    monkeypatch.setattr(script, "cotbal", command)
    monkeypatch.setattr(sys, "argv", ["wall_times.py", *arguments, "--rounds", "2"])
    script.main()


def test_workers_take_turns(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two workers, one, then one and two: the gains are 9 / 5 and 8 / 4."""
    main(script, monkeypatch, commands(script, [5, 9, 8, 4]), "workers", "recipe.yaml")
    printed = capsys.readouterr().out
    assert "1.90 [1.80, 2.00]" in printed
    assert "4 equal results of 1 files" in printed


def test_other_work_is_an_error(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="50%"):
        main(script, monkeypatch, commands(script, [5, 6], others=0.5), "demo")


def test_other_results_are_an_error(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError, match="differ"):
        main(script, monkeypatch, commands(script, [5, 6], weights="{}"), "demo")


def test_what_a_command_takes(script: ModuleType) -> None:
    spent = script.cotbal("--version")
    assert spent.processor > 0
    assert spent.wall > 0
    assert 0 <= spent.others <= 1
