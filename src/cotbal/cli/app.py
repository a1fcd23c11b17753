"""The command line: its commands, and how it ends."""

from __future__ import annotations

import errno
import importlib
import os
import shlex
import shutil
import signal
import sys
import threading
from collections import UserDict
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cotbal.cli.options import expanded
from cotbal.errors import CotbalError, RunsFailed

# In the order of the help page. Each is a function in the module of the same name, or an app of
# several commands.
COMMANDS = (
    "init",
    "check",
    "plan",
    "tune",
    "balance",
    "train",
    "run",
    "compare",
    "ablate",
    "curve",
    "response",
    "export",
    "judge",
    "demo",
    "weights",
    "design",
    "steer",
    "outcome",
    "overall",
    "agree",
    "status",
    "cancel",
    "rescore",
    "verify",
    "report",
    "zeroshot",
    "submission",
    "import",
    "prepare",
)
MODULES = {"import": "imports"}  # where the name is not that of a module


class _Commands(UserDict[str, Any]):
    """Name -> command, imported and read when it is first used: most calls use one of them."""

    def __getitem__(self, name: str) -> Any:
        if self.data[name] is None:
            self.data[name] = _imported(name)
        return self.data[name]


class _Program(TyperGroup):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = _Commands(dict.fromkeys(COMMANDS))


def _imported(name: str) -> Any:
    module = importlib.import_module(f"cotbal.cli.{MODULES.get(name, name)}")
    if hasattr(module, "app"):
        return typer.main.get_group(module.app)
    single = typer.Typer(add_completion=False, rich_markup_mode="markdown")
    single.command()(expanded(getattr(module, name)))
    return typer.main.get_command(single)


app = typer.Typer(
    name="cotbal",
    cls=_Program,
    help=(
        "Weights for the tasks of a vision-language fine-tuning mixture: measure what tasks do to"
        " each other, and get one weight per task, with intervals.\n\nStart with `cotbal demo`, or"
        " with `cotbal init` for a recipe of your own. For a goal (more of some tasks), use `cotbal"
        " response`, then `cotbal steer`."
    ),
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        import importlib.metadata

        print(f"cotbal {importlib.metadata.version('cotbal')}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Options before the command."""


# Ignored by default, and sent by no program to end another; None on Windows.
REMINDER: signal.Signals | None = getattr(signal, "SIGURG", None)
REMINDER_SECONDS = 0.5

# Errors of a disk or directory that the user named. Any other error with a file is a bug of ours.
_OF_THE_DISK = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EEXIST,
    errno.EIO,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
    errno.ESTALE,
}


class _Stopped(BaseException):
    """Ctrl-C or SIGTERM; our own, because the command-line library turns KeyboardInterrupt into
    exit code 1.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


class _Stopping:
    """Handler of SIGINT and SIGTERM: raises `_Stopped`, and again until it arrives at `main`.

    Python ignores what is raised inside a callback of a weak reference or a `__del__`, where a
    signal may be handled too, and the command would continue.
    """

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self.number = 0

    def __call__(self, number: int, _frame: object) -> None:
        notice = "Runs may save a checkpoint first; press Ctrl-C again to end them at once."
        print(f"\nStopping. {notice}", file=sys.stderr)
        first, self.number = not self.number, number
        if first and REMINDER is not None:
            signal.signal(REMINDER, self._raise_if_lost)
            threading.Thread(target=self._remind, daemon=True).start()
        raise _Stopped(number)

    def _remind(self) -> None:
        main_thread = threading.main_thread().ident
        assert main_thread is not None
        assert REMINDER is not None
        while not self.arrived.wait(REMINDER_SECONDS):
            signal.pthread_kill(main_thread, REMINDER)

    def _raise_if_lost(self, *_: object) -> None:
        error = sys.exc_info()[1]
        while error is not None and not isinstance(error, _Stopped):
            error = error.__context__
        if error is None and not self.arrived.is_set():
            raise _Stopped(self.number)


def main() -> None:
    """Run the command line; a user's error, or a disk's, is one message and exit code 2, Ctrl-C is
    130.
    """
    stopping = _Stopping()
    signal.signal(signal.SIGINT, stopping)
    signal.signal(signal.SIGTERM, stopping)
    try:
        _run()
    finally:
        stopping.arrived.set()


def _run() -> None:
    try:
        app()
    except _Stopped as stopped:
        print(
            f"\nStopped; finished runs and checkpoints are kept. Resume with: {_command()}",
            file=sys.stderr,
        )
        sys.exit(stopped.exit_code)
    except Exception as error:
        message = _message(error)
        if message is None:
            raise
        print(f"cotbal: {message}", file=sys.stderr)
        sys.exit(2)


def _message(error: Exception) -> str | None:
    """What a user can do about it; None for a bug of ours."""
    if isinstance(error, RunsFailed):
        return f"{error}\nResume with: {_command()}"
    if isinstance(error, CotbalError):
        return str(error)
    if _is_exhaustion(error):
        return (
            "expected more memory, processes or threads; the system gave no more. Free some, then"
            f" rerun the command to resume: {_command()}"
        )
    if isinstance(error, shutil.Error):
        return _disk_error(error)
    if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
        return _disk_error(error)
    return None


def _is_exhaustion(error: Exception) -> bool:
    """Whether the system has no more memory, or the user no more processes or threads."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOMEM, errno.EAGAIN)
    return isinstance(error, MemoryError) or "can't start new thread" in str(error)


def _disk_error(error: OSError) -> str:
    """What failed, and what to do about a full disk or a file in the way."""
    text = str(error.strerror)
    if error.filename is not None:
        text = f"{error.filename}: {text}"
    if isinstance(error, shutil.Error):  # of a copied tree: (from, to, why) for every file
        text = str(error.args[0][0][2])
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in text:
        return f"{text}; make room, then rerun the command to resume: {_command()}"
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return f"{text}; expected a directory there, give another place"
    return text


def _command() -> str:
    """The command as it can be run again: by its path where it is not on PATH, as in a Makefile."""
    by_path = Path(sys.argv[0]).name == "cotbal" and shutil.which("cotbal") is None
    return shlex.join([sys.argv[0] if by_path else "cotbal", *sys.argv[1:]])
