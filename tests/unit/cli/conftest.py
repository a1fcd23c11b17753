"""The command line as a user meets it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cotbal.errors import CotbalError
from helpers.commands import Command, Ended


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
    from cotbal.cli import app

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    errors: list[CotbalError | None] = []
    parse_and_run = app.app

    def recorded() -> None:
        try:
            parse_and_run()
        except CotbalError as error:
            errors.append(error)
            raise

    monkeypatch.setattr(app, "app", recorded)
    monkeypatch.chdir(tmp_path)

    def command(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["cotbal", *map(str, arguments)])
        capsys.readouterr()
        errors[:] = [None]
        with pytest.raises(SystemExit) as ended:
            app.main()
        shown = capsys.readouterr()
        return Ended(int(ended.value.code or 0), shown.out, shown.err, errors[-1])

    yield command
    for number, handler in handlers.items():
        signal.signal(number, handler)
