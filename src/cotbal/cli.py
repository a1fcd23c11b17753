"""The command line: which verbs there are, and how it ends."""

from __future__ import annotations

import errno
import shlex
import signal
import sys

import typer

from cotbal.errors import CotbalError, RunsFailed
from cotbal.verbs import data, exports, imports, jobs, judging, prepare, studies, submission, tables, zeroshot

app = typer.Typer(
    name="cotbal",
    help="Balance the tasks of a vision-language fine-tuning mixture: measure how tasks help each other and how hard "
    "they are, and turn that into one weight a task, with intervals.\n\nStart with `cotbal demo`, or `cotbal init` for "
    "a recipe of your own.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (
    data.init,
    data.check,
    data.plan,
    jobs.balance,
    jobs.train,
    jobs.run,
    studies.compare,
    studies.ablate,
    studies.curve,
    exports.export,
    judging.judge,
    jobs.demo,
):
    app.command()(verb)
for reader in (
    tables.weights,
    tables.overall,
    tables.agree,
    tables.status,
    tables.cancel,
    tables.report,
    zeroshot.zeroshot,
    submission.submission,
):
    app.command()(reader)
app.add_typer(imports.app, name="import")
app.add_typer(prepare.app, name="prepare")


class _Stopped(BaseException):
    """Ctrl-C or SIGTERM; our own, because the command-line library turns KeyboardInterrupt into exit code 1."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


def _stop(number: int, _frame: object) -> None:
    raise _Stopped(number)


def main() -> None:
    """Run the command line; a user's fault is one message and exit code 2, Ctrl-C is 130."""
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    try:
        app()
    except CotbalError as error:
        print(f"cotbal: {error}", file=sys.stderr)
        if isinstance(error, RunsFailed):
            print(f"Resume with: {_command()}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"cotbal: {where}{error.strerror}; what was written before is whole", file=sys.stderr)
        print(f"Make room, and go on with: {_command()}", file=sys.stderr)
        sys.exit(2)
    except _Stopped as stopped:
        print(f"\nStopped; nothing is lost. Go on with: {_command()}", file=sys.stderr)
        sys.exit(stopped.exit_code)


def _command() -> str:
    return f"cotbal {shlex.join(sys.argv[1:])}"
