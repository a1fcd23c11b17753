"""`cotbal` as a user's shell runs it: another process.

The processes are forked from one that has imported torch and transformers, which takes longer than
most commands do.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
import runpy
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

from helpers.budget import count_children_of

LIMIT = 600  # seconds; for a machine that others use, too

_forked = multiprocessing.get_context("forkserver")
_forked.set_forkserver_preload(
    ["cotbal.cli", "cotbal.training", "cotbal.evaluation", "torch.optim"]
)


def command(*arguments: str | Path) -> list[str]:
    """The argv of a command, for a process that imports everything itself."""
    return [sys.executable, "-m", "cotbal", *map(str, arguments)]


def start(output: Path, *arguments: str | Path, cwd: Path | None = None) -> BaseProcess:
    """Start a command that adds everything that it prints to the file `output`."""
    return _start(["cotbal", *map(str, arguments)], output, cwd or Path.cwd())


def _start(argv: list[str], output: Path, cwd: Path) -> BaseProcess:
    process = _forked.Process(target=_main, args=(argv, output, cwd, dict(os.environ)))
    process.start()
    count_children_of(multiprocessing.forkserver._forkserver._forkserver_pid)  # type: ignore[attr-defined]
    return process


def cotbal(*arguments: str | Path, code: int = 0, cwd: Path | None = None) -> str:
    """Run a command to its end; everything that it printed."""
    return _ended(["cotbal", *map(str, arguments)], code, cwd or Path.cwd())


def script(path: Path, *arguments: str | Path, cwd: Path) -> str:
    """Run a script of Python to its end; everything that it printed."""
    return _ended([str(path), *map(str, arguments)], 0, cwd)


def _ended(argv: list[str], code: int, cwd: Path) -> str:
    with tempfile.NamedTemporaryFile(prefix="cotbal-", suffix=".txt") as output:
        process = _start(argv, Path(output.name), cwd)
        process.join(LIMIT)
        if process.is_alive():
            process.kill()
        printed = output.read().decode()
    assert process.exitcode == code, printed
    return printed


def _main(argv: list[str], output: Path, where: Path, environment: Mapping[str, str]) -> None:
    """In the forked process, whose files, directory and environment are its own."""
    with output.open("ab") as printed, open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(printed.fileno(), 1)
        os.dup2(printed.fileno(), 2)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(where)
    folders = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:0] = [folder for folder in folders if folder not in sys.path]
    sys.argv = argv
    if argv[0] != "cotbal":
        runpy.run_path(argv[0], run_name="__main__")
        return
    from cotbal.cli import main

    main()
