"""Answers of an evaluation that was stopped are not asked for again."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cotbal.jobs import entry, kept_answers, worker
from cotbal.jobs.executors import STOPPED
from cotbal.jobs.kept_answers import KeptAnswers
from cotbal.training.evaluation import Answerer
from helpers.planned_runs import plan_choosing, plan_final
from helpers.tiny_vlm import COLOURS


def test_files_are_read_together_and_damaged_ones_are_removed(tmp_path: Path) -> None:
    for number in range(3):
        kept = KeptAnswers(tmp_path)
        kept.add({("vqa.test", number): f"text\u2028{number}"})
        kept.write()
        kept.write()  # nothing new
    files = sorted(tmp_path.glob("*.jsonl"))
    assert len(files) == 3
    lost = json.loads(files[0].read_text())
    files[0].write_text("x")
    answers = KeptAnswers(tmp_path).read()
    whole = {("vqa.test", number): f"text\u2028{number}" for number in range(3)}
    assert answers == {key: text for key, text in whole.items() if [*key, text] != lost}
    assert len(list(tmp_path.iterdir())) == 4, "the digest of a damaged file is removed with it"
    kept.remove()
    assert KeptAnswers(tmp_path).read() == {}


def test_answers_are_written_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(kept_answers.time, "monotonic", lambda: clock[0])
    kept = KeptAnswers(tmp_path)
    for number in range(5):
        kept.add({("vqa.test", number): "red"})
        clock[0] += kept_answers.SECONDS / 2
    assert len(list(tmp_path.glob("*.jsonl"))) == 2
    assert len(kept.read()) == 5


@pytest.fixture(params=[plan_final, pytest.param(plan_choosing, marks=pytest.mark.extended)])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A mixture, and a run directory whose final run `ew` has a job file and was not begun."""
    return request.param(tmp_path)


def written(run: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (run / "generations").glob("*.jsonl")}


def test_a_run_that_was_stopped_asks_for_missing_answers_only(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    answering = Answerer.__call__

    def noted(self: Answerer, rows: Any, report: Any, known: Any) -> list[str]:
        asked.append(len(rows) - len(known))
        return answering(self, rows, report, known)

    monkeypatch.setattr(Answerer, "__call__", noted)
    job = [str(home / "job.json")]
    with monkeypatch.context() as patch:
        patch.setattr(entry, "stop_signal", lambda: (home / "trained.json").exists)
        for _ in range(2):
            with pytest.raises(SystemExit) as stopped:
                worker.main(job)
            assert stopped.value.code == STOPPED
    assert not (home / "generations").exists()
    assert len(list((home / "answers").glob("*.jsonl"))) == 2
    worker.main(job)
    first = written(home)
    assert sum(len(text.splitlines()) for text in first.values()) == 16
    assert not (home / "answers").exists()
    for folder in ("generations", "scores"):
        shutil.rmtree(home / folder)
    (home / "outcome.json").unlink()
    worker.main(job)
    assert asked == [16, 8, 0, 16]
    assert written(home) == first


def test_what_an_earlier_worker_left_half_written_is_removed(tmp_path: Path) -> None:
    """It may have ended after its next driver tidied up, so the next worker does."""
    home = plan_final(tmp_path)
    (home / "scores").mkdir()
    half = (
        "import sys, pathlib, cotbal.data.files as files;"
        " files.temporary(pathlib.Path(sys.argv[1])).write_text('{')"
    )
    for writer in (home / "scores" / "color.validation.json", home / "job.json"):
        subprocess.run([sys.executable, "-c", half, str(writer)], check=True)
    assert len(list(home.rglob(".*.part"))) == 2
    worker.main([str(home / "job.json")])
    assert list(home.rglob(".*.part")) == []
    assert (home / "outcome.json").exists()


@pytest.mark.extended
def test_chosen_answers_are_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = plan_choosing(tmp_path)
    worker.main([str(home / "job.json")])
    rows = [json.loads(line) for line in written(home)["color.test.jsonl"].splitlines()]
    assert {row["answer"] for row in rows} <= set(COLOURS)
    scores = json.loads((home / "scores" / "color.test.json").read_text())
    right = sum(row["answer"] in row["references"] for row in rows)
    assert scores["metrics"]["exact_match"]["score"] == pytest.approx(right / len(rows))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "(color)" in line]
    assert "chosen among options" in line
