from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cotbal.data.files import write_json
from cotbal.jobs.display import LiveDisplay, duration
from cotbal.jobs.executors import Job, Outcome
from helpers.errors import a_line_names, names_all


def screen() -> Console:
    return Console(file=io.StringIO(), width=160, force_terminal=False)


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def drawn(display: LiveDisplay) -> str:
    """The live view as it looks now."""
    console = screen()
    console.print(display._table())
    return text(console)


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    made = [
        Job("mini", tmp_path / "mini", (), 10.0),
        Job("full:ocr", tmp_path / "full-ocr", (), 30.0),
    ]
    for job in made:
        job.directory.mkdir()
    return made


def progress(job: Job, **changed: Any) -> None:
    entry = {
        "phase": "training",
        "done": 31,
        "total": 100,
        "detail": "",
        "fraction": 0.31,
        "loss": 1.844,
    }
    write_json(job.directory / "progress.json", {**entry, "time": time.time(), **changed})


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "0 s"),
        (42.4, "42 s"),
        (59.4, "59 s"),
        (59.7, "1 min 00 s"),
        (60.0, "1 min 00 s"),
        (185.0, "3 min 05 s"),
        (3599.7, "1 h 00 min"),
        (7800.0, "2 h 10 min"),
        (7859.0, "2 h 10 min"),
        (100_000.0, "27 h 46 min"),
    ],
)
def test_duration(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_a_run_shows_its_phase_its_step_and_its_loss(jobs: list[Job]) -> None:
    display = LiveDisplay(jobs, [], console=screen())
    progress(jobs[0])
    shown = drawn(display)
    run, whole = shown.splitlines()
    assert names_all(run, "mini", "31%", "training", "31/100", "loss", "1.84")
    assert "full:ocr" not in shown, "it has not begun"
    assert names_all(whole, "8%", 0, 2)
    assert duration(0)[-1] not in whole.split(), "no time is predicted yet"


def test_the_whole_job_is_weighed_by_the_length_of_its_runs(jobs: list[Job]) -> None:
    display = LiveDisplay(jobs, [], console=screen())
    progress(jobs[0], fraction=1.0)
    progress(jobs[1], fraction=0.5)
    assert "62%" in drawn(display)  # (10 + 15) of 40


def test_runs_that_come_after_these_are_counted_apart(jobs: list[Job]) -> None:
    alone, followed = (drawn(LiveDisplay(jobs, [], later, screen())) for later in (0, 3))
    assert names_all(followed, 0, 2, 3)
    assert not names_all(alone, 3)


def test_the_time_left(jobs: list[Job]) -> None:
    display = LiveDisplay(jobs, [], console=screen())
    display.started -= 100
    display.begun["mini"] = time.time() - 30
    progress(jobs[0], fraction=0.5)
    progress(jobs[1], fraction=0.5)
    shown = drawn(display)
    run, _, whole = shown.splitlines()
    assert names_all(run, "mini", duration(30))
    assert names_all(whole, 0, 2, duration(100))


def test_what_an_earlier_session_left_behind_is_not_shown(jobs: list[Job]) -> None:
    progress(jobs[0], time=time.time() - 3600)
    assert "mini" not in drawn(LiveDisplay(jobs, [], console=screen()))


def test_a_progress_file_that_is_broken_is_no_problem(jobs: list[Job]) -> None:
    (jobs[0].directory / "progress.json").write_text('{"phase": "trai')
    *_, whole = drawn(LiveDisplay(jobs, [], console=screen())).splitlines()
    assert names_all(whole, "0%", 0, 2)


def test_ends_are_shown_as_they_come(jobs: list[Job]) -> None:
    console = screen()
    display = LiveDisplay(jobs, [], console=console)
    display.started += 3600  # too early for an estimate of what is left, however slow the machine
    with display as ended:
        ended(Outcome(jobs[0], True, 75.0))
        ended(Outcome(jobs[1], False, 3.0, "boom"))
    ends = [line.split(maxsplit=2) for line in text(console).splitlines()[:2]]
    assert ends == [["done", "mini", duration(75)], ["failed", "full:ocr", duration(3)]]


def test_how_many_are_left_is_shown_once_it_can_be_estimated(jobs: list[Job]) -> None:
    console = screen()
    display = LiveDisplay(jobs, [], console=console)
    display.started -= 20
    with display as ended:
        ended(Outcome(jobs[0], True, 20.0))
    assert a_line_names(text(console), "mini", duration(20), 1, duration(60))


def test_what_was_done_before_is_counted(jobs: list[Job]) -> None:
    console = screen()
    with LiveDisplay(jobs[:1], jobs[1:], console=console):
        pass
    assert text(console).startswith("1 ")
    fresh = screen()
    with LiveDisplay(jobs, [], console=fresh):
        pass
    assert not text(fresh).startswith(("0", "1", "2"))


def test_an_ended_run_leaves_the_live_view(jobs: list[Job]) -> None:
    display = LiveDisplay(jobs, [], console=screen())
    progress(jobs[0])
    display._ended(Outcome(jobs[0], True, 1.0))
    shown = drawn(display)
    assert "mini" not in shown
    assert a_line_names(shown, "25%", 1, 2)


def test_an_error_goes_through(jobs: list[Job]) -> None:
    with pytest.raises(KeyboardInterrupt), LiveDisplay(jobs, [], console=screen()):
        raise KeyboardInterrupt
