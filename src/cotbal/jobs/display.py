"""Live output: running jobs, each with its phase and time left; a line for counted work; a bar."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress import Progress
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cotbal.jobs.executors import Job, Outcome

BAR = 24  # characters


class LiveDisplay:
    """Shows jobs while they run: a context manager for jobs to run, jobs already done and the
    number of jobs after them.

    It only reads the `progress.json` that workers write, so it shows the jobs of every executor in
    the same way.
    """

    def __init__(
        self,
        waiting: Sequence[Job],
        finished: Sequence[Job],
        later: int = 0,
        console: Console | None = None,
    ) -> None:
        self.jobs = list(waiting)
        self.console = console or Console(stderr=True, emoji=False)
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
            runs = "1 run is" if self.kept == 1 else f"{self.kept} runs are"
            self.console.print(f"{runs} already done and kept.")
        self.live.start()
        return self._ended

    def __exit__(self, *error: object) -> None:
        self.live.stop()

    def _ended(self, outcome: Outcome) -> None:
        self.outcomes[outcome.job.name] = outcome
        mark = "[green]done[/]" if outcome.ok else "[red]failed[/]"
        line = f"{mark}  {outcome.job.name}  {duration(outcome.seconds)}"
        left = len(self.jobs) - len(self.outcomes)
        seconds = self._seconds_left()
        if left and seconds is not None:
            line += f", {left} to go, about {duration(seconds)}{self.then}"
        self.console.print(line, highlight=False)

    def _table(self) -> RenderableType:
        runs, total = (Table.grid(padding=(0, 2, 0, 0)) for _ in range(2))
        for job in self._open_jobs():
            row = self._row(job)
            if row is not None:
                runs.add_row(*row)
        share = self._work_done() / max(self._work(), 1e-9)
        seconds = self._seconds_left()
        left = "estimating" if seconds is None else f"{duration(seconds)} left"
        count = f"{len(self.outcomes)} of {len(self.jobs)} runs{self.then}"
        total.add_row(*_bar_row(Text("together", style="bold"), share, count, left))
        return Group(runs, total)

    def _open_jobs(self) -> list[Job]:
        return [job for job in self.jobs if job.name not in self.outcomes]

    def _row(self, job: Job) -> tuple[RenderableType, ...] | None:
        progress = self._progress(job)
        if progress is None:
            return None
        fraction = float(progress["fraction"])
        counted = f"{progress['done']}/{progress['total']}"
        detail = f"{progress['phase']} {counted} {progress['detail']}".rstrip()
        if progress.get("loss") is not None:
            detail += f"  loss {progress['loss']:.2f}"
        elapsed = time.time() - self.begun.setdefault(job.name, time.time())
        left = ""
        if fraction > 0.02 and elapsed > 2:
            left = f"{duration(elapsed * (1 - fraction) / fraction)} left"
        return _bar_row(Text(job.name), fraction, detail, left)

    def _progress(self, job: Job) -> dict[str, Any] | None:
        """The progress of a worker of this session; a file of an earlier session does not count."""
        try:
            progress: dict[str, Any] = json.loads(
                (job.directory / "progress.json").read_text(encoding="utf-8")
            )
        except (OSError, json.JSONDecodeError):
            return None
        return progress if float(progress["time"]) >= self.started - 1 else None

    def _work(self) -> float:
        return sum(job.cost for job in self.jobs)

    def _work_done(self) -> float:
        done = sum(outcome.job.cost for outcome in self.outcomes.values())
        for job in self._open_jobs():
            progress = self._progress(job)
            if progress is not None:
                done += job.cost * float(progress["fraction"])
        return done

    def _seconds_left(self) -> float | None:
        """None while it is too early to tell."""
        done, total = self._work_done(), self._work()
        elapsed = time.time() - self.started
        if elapsed <= 2 or done <= 0.01 * total:
            return None
        return elapsed * (total - done) / done


def _bar_row(name: Text, fraction: float, *cells: str) -> tuple[RenderableType, ...]:
    return (name, ProgressBar(100, 100 * fraction, width=BAR), f"{fraction:4.0%}", *cells)


@contextmanager
def steps() -> Iterator[Callable[[str, int, int], None]]:
    """A status line for work that is counted: (what, done, total)."""
    screen = Console(stderr=True, emoji=False)
    with screen.status("") as line:
        yield lambda what, done, total: line.update(f"{escape(what)} {done}/{total}")


@contextmanager
def bar() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar of the file that is being read: (what, done, total)."""
    screen = Console(stderr=True, emoji=False)
    with Progress(console=screen, disable=not screen.is_terminal, transient=True) as progress:
        shown = progress.add_task("", total=None)
        yield lambda what, done, total: progress.update(
            shown, description=escape(what), completed=done, total=total
        )


def duration(seconds: float) -> str:
    """Seconds for a person: 42 s, 3 min 05 s, 2 h 10 min."""
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
