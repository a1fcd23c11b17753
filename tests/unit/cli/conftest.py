"""The command line as a user meets it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def recipe_path(tmp_path: Path) -> Path:
    """A small mixture on disk: three balanced tasks and one that is not."""
    from helpers.pipeline_fakes import write_mixture

    return write_mixture(tmp_path / "mixture")


@pytest.fixture
def cotbal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Command]:
    """`cotbal(*arguments)` in this process, in a directory of its own."""
    from cotbal.cli.app import main

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.chdir(tmp_path)

    def command(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["cotbal", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        return Ended(int(ended.value.code or 0), shown.out, shown.err)

    yield command
    for number, handler in handlers.items():
        signal.signal(number, handler)
