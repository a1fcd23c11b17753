"""`cotbal`, or a script, as a user's shell runs it: another process.

The processes are forked from one that has imported torch and transformers, which takes longer than
most commands do.
"""

from __future__ import annotations

import gc
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
    [
        "transformers.trainer",
        "transformers.models.llava.modeling_llava",
        "peft",
        "cotbal.cli.app",
        "cotbal.jobs.worker",
        "cotbal.data.batches.row_lengths",
    ]
)


def command(*arguments: str | Path) -> list[str]:
    """The argv of a command, for a process that imports everything itself."""
    return [sys.executable, "-m", "cotbal", *map(str, arguments)]


def start(output: Path, *arguments: str | Path, cwd: Path | None = None) -> BaseProcess:
    """Start a command that adds everything that it prints to the file `output`."""
    return _start(output, ["cotbal", *map(str, arguments)], cwd)


def cotbal(*arguments: str | Path, code: int = 0, cwd: Path | None = None) -> str:
    """Run a command to its end; everything that it printed."""
    return _to_its_end(["cotbal", *map(str, arguments)], code, cwd)


def script(path: str | Path, *arguments: str | Path, cwd: Path | None = None) -> str:
    """Run a Python script to its end; everything that it printed."""
    return _to_its_end([str(path), *map(str, arguments)], 0, cwd)


def _start(output: Path, argv: list[str], cwd: Path | None) -> BaseProcess:
    where = cwd or Path.cwd()
    process = _forked.Process(target=_main, args=(argv, output, where, dict(os.environ)))
    process.start()
    server = multiprocessing.forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    count_children_of(server)
    return process


def _to_its_end(argv: list[str], code: int, cwd: Path | None) -> str:
    with tempfile.NamedTemporaryFile(prefix="cotbal-", suffix=".txt") as output:
        process = _start(Path(output.name), argv, cwd)
        process.join(LIMIT)
        if process.is_alive():
            process.kill()
            process.join()
        printed = output.read().decode()
    assert process.exitcode == code, printed
    return printed


def _main(argv: list[str], output: Path, where: Path, environment: Mapping[str, str]) -> None:
    """The command, in the forked process: its files, directory and environment are its own."""
    gc.freeze()  # every training collects garbage, which would visit all that was imported
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

    from cotbal.cli.app import main
    from helpers import forked_modules

    forked_modules.install()
    main()
