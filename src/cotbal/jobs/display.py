"""What moves on the screen: running jobs, each with its phase and ETA; a line for counted work; a
bar.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress import Progress
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cotbal.jobs.executors import Job, Outcome


class LiveDisplay:
    """Shows jobs while they run: a context manager, made of jobs to run, jobs already done and how
    many come after.

    It only reads the `progress.json` that workers write, so it shows any executor's jobs in the
    same way.
    """

    def __init__(
        self,
        waiting: Sequence[Job],
        finished: Sequence[Job],
        later: int = 0,
        console: Console | None = None,
    ) -> None:
        self.jobs = list(waiting)
        self.console = console or Console(stderr=True)
        self.started = time.time()
        self.begun: dict[str, float] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.kept = len(finished)
        self.then = f", {later} after them" if later else ""
        self.live = Live(
            console=self.console,
            get_renderable=self._table,
            refresh_per_second=4,
            transient=True,
            auto_refresh=self.console.is_terminal,
        )

    def __enter__(self) -> Callable[[Outcome], None]:
        if self.kept:
            self.console.print(f"{self.kept} runs are already done and are kept.")
        self.live.start()
        return self._ended

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.live.stop()

    def _ended(self, outcome: Outcome) -> None:
        self.outcomes[outcome.job.name] = outcome
        mark = "[green]done[/]" if outcome.ok else "[red]failed[/]"
        left = len(self.jobs) - len(self.outcomes)
        eta = self._eta()
        rest = (
            f", {left} to go, about {duration(eta)}{self.then}" if left and eta is not None else ""
        )
        self.console.print(
            f"{mark}  {outcome.job.name}  {duration(outcome.seconds)}{rest}", highlight=False
        )

    def _table(self) -> RenderableType:
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        for job in self.jobs:
            if job.name not in self.outcomes and (row := self._row(job)) is not None:
                table.add_row(*row)
        share = self._work_done() / max(sum(job.cost for job in self.jobs), 1e-9)
        eta = self._eta()
        left = "estimating" if eta is None else f"{duration(eta)} left"
        total = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        count = f"{len(self.outcomes)} of {len(self.jobs)} runs{self.then}"
        total.add_row(
            Text("together", style="bold"),
            ProgressBar(100, 100 * share, width=24),
            f"{share:4.0%}",
            count,
            left,
        )
        return Group(table, total)

    def _row(self, job: Job) -> tuple[RenderableType, ...] | None:
        progress = self._progress(job)
        if progress is None:
            return None
        fraction, phase = float(str(progress["fraction"])), str(progress["phase"])
        detail = f"{phase} {progress['done']}/{progress['total']} {progress['detail']}".rstrip()
        if progress.get("loss") is not None:
            detail += f"  loss {progress['loss']:.2f}"
        elapsed = time.time() - self.begun.setdefault(job.name, time.time())
        left = (
            f"{duration(elapsed * (1 - fraction) / fraction)} left"
            if fraction > 0.02 and elapsed > 2
            else ""
        )
        return (
            Text(job.name),
            ProgressBar(100, 100 * fraction, width=24),
            f"{fraction:4.0%}",
            detail,
            left,
        )

    def _progress(self, job: Job) -> dict[str, object] | None:
        """Where a worker of this session is; what an earlier one left behind does not count."""
        try:
            progress: dict[str, object] = json.loads(
                (job.directory / "progress.json").read_text(encoding="utf-8")
            )
        except (OSError, json.JSONDecodeError):
            return None
        return progress if float(str(progress["time"])) >= self.started - 1 else None

    def _work_done(self) -> float:
        done = sum(outcome.job.cost for outcome in self.outcomes.values())
        for job in self.jobs:
            if job.name not in self.outcomes and (progress := self._progress(job)) is not None:
                done += job.cost * float(str(progress["fraction"]))
        return done

    def _eta(self) -> float | None:
        done, total = self._work_done(), sum(job.cost for job in self.jobs)
        elapsed = time.time() - self.started
        return elapsed * (total - done) / done if done > 0.01 * total and elapsed > 2 else None


@contextmanager
def steps() -> Iterator[Callable[[str, int, int], None]]:
    """A status line for work that is counted: (what, done, total)."""
    screen = Console(stderr=True)
    with screen.status("") as line:
        yield lambda what, done, total: line.update(f"{escape(what)} {done}/{total}")


@contextmanager
def bar() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar of the file that is being read: (what, done, total)."""
    screen = Console(stderr=True)
    with Progress(console=screen, disable=not screen.is_terminal, transient=True) as progress:
        shown = progress.add_task("", total=None)
        yield lambda what, done, total: progress.update(
            shown, description=escape(what), completed=done, total=total
        )


def duration(seconds: float) -> str:
    """Seconds as a person says them: 42 s, 3 min 05 s, 2 h 10 min."""
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
