from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from cotbal.jobs.executors import STOPPED, Attempts, Job, progress_of
from cotbal.recipe.schema import ResourcesSection

COMMAND = (sys.executable, "-m", "cotbal.jobs.worker", "job.json")


def attempts(directory: Path, **needs: int) -> Attempts:
    return Attempts(Job("mini", directory, COMMAND, needs=ResourcesSection(**needs)))


def checkpoint(directory: Path, step: int) -> None:
    (directory / "partial" / f"checkpoint-{step}").mkdir(parents=True)
    (directory / "partial" / f"checkpoint-{step}" / "complete").write_text("{}")


def test_progress_only_grows(tmp_path: Path) -> None:
    seen = [progress_of(tmp_path)]
    (tmp_path / "partial" / "checkpoint-900").mkdir(parents=True)  # cut off: it does not count
    assert progress_of(tmp_path) == seen[-1]
    for step in (8, 16, 120):
        checkpoint(tmp_path, step)
        seen.append(progress_of(tmp_path))
    (tmp_path / "trained.json").write_text("{}")
    seen.append(progress_of(tmp_path))
    for mark in tmp_path.glob("partial/*/complete"):
        mark.unlink()  # partial checkpoints go when a training ends
    for name in ("first", "second"):  # of sets that are not answered to their end
        (tmp_path / "answers").mkdir(exist_ok=True)
        (tmp_path / "answers" / f"{name}.jsonl").write_text("")
        seen.append(progress_of(tmp_path))
    shutil.rmtree(tmp_path / "answers")  # they are in `generations` when all sets are answered
    (tmp_path / "generations").mkdir()
    (tmp_path / "generations" / "a.test.jsonl").write_text("")
    seen.append(progress_of(tmp_path))
    assert seen == sorted(set(seen))


@pytest.mark.parametrize("code", [0, None, 1, -9])
def test_a_job_with_an_outcome_is_done(tmp_path: Path, code: int | None) -> None:
    (tmp_path / "outcome.json").write_text("{}")
    assert attempts(tmp_path).verdict(code) == "done"


@pytest.mark.parametrize("code", [1, 2, 127])
def test_a_program_that_fails_by_itself_is_not_retried(tmp_path: Path, code: int) -> None:
    assert attempts(tmp_path).verdict(code) == "failed"


def test_behind_a_launcher_only_the_file_of_the_worker_counts(tmp_path: Path) -> None:
    assert attempts(tmp_path, gpus=0, ranks=2).verdict(1) == "retry"
    (tmp_path / "failure.json").write_text(json.dumps({"message": "no frog"}))
    assert attempts(tmp_path, gpus=0, ranks=2).verdict(1) == "failed"
    assert attempts(tmp_path).verdict(None) == "failed"


@pytest.mark.parametrize("code", [None, -9, 137, 143, STOPPED])
def test_what_was_stopped_from_outside_is_retried_a_limited_number_of_times(
    tmp_path: Path, code: int | None
) -> None:
    one = attempts(tmp_path, retries=2)
    assert [one.verdict(code) for _ in range(3)] == ["retry", "retry", "failed"]


def test_a_run_that_advances_is_retried_as_often_as_it_takes(tmp_path: Path) -> None:
    one = attempts(tmp_path, retries=1)
    for step in range(10, 60, 10):
        checkpoint(tmp_path, step)
        assert one.verdict(STOPPED) == "retry"
    assert [one.verdict(STOPPED) for _ in range(2)] == ["retry", "failed"]


def test_a_run_that_is_preempted_while_it_answers_advances(tmp_path: Path) -> None:
    one = attempts(tmp_path, retries=1)
    (tmp_path / "trained.json").write_text("{}")
    (tmp_path / "answers").mkdir()
    for number in range(5):
        (tmp_path / "answers" / f"{number}.jsonl").write_text("")
        assert one.verdict(STOPPED) == "retry"
    assert [one.verdict(STOPPED) for _ in range(2)] == ["retry", "failed"]
