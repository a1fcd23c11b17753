"""`cotbal submission`: a trained model answers VQAv2 test-dev; nothing is answered twice, nothing
is mixed up.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cotbal.data.files import locked, write_sealed_rows
from cotbal.errors import CotbalError, DataError, RunError, RunsFailed
from cotbal.jobs.executors import Job, JobHandle, inline, record_handle
from helpers import tiny_vlm
from helpers.commands import Command
from helpers.errors import a_line_names
from helpers.forked_modules import forking
from helpers.raw_releases import drawing, vqav2_server


@dataclass(frozen=True)
class Setup:
    raw: Path
    run: Path

    @property
    def directory(self) -> Path:
        return self.run / "vqav2_testdev"

    def answers(self) -> list[dict[str, Any]]:
        paths = sorted(self.directory.glob("generations/*.jsonl"))
        return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    """A run directory whose final model is an untrained one, the questions and one image; not to
    be changed.
    """
    root = tmp_path_factory.mktemp("submission")
    tiny_vlm.mixture(root / "runs", {"VQAv2": 1}, train=4, answers=2)
    shutil.copytree(root / "runs/base", root / "runs/final/cotbal/checkpoint")
    vqav2_server(root / "raw")
    image = root / "raw/images/coco/test2015/COCO_test2015_000000000009.jpg"
    image.parent.mkdir(parents=True)
    image.write_bytes(drawing("teal"))
    return Setup(root / "raw", root / "runs/final/cotbal")


@pytest.fixture
def setup(made: Setup, tmp_path: Path) -> Setup:
    """The same, to be changed."""
    shutil.copytree(made.raw.parent, tmp_path / "copy")
    return Setup(tmp_path / "copy/raw", tmp_path / "copy/runs/final/cotbal")


def test_answers_become_the_file_for_the_server(
    setup: Setup, cotbal: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cotbal.jobs.executors.processes.subprocess", forking())
    ended = cotbal("submission", setup.run, "--raw", setup.raw)
    assert ended.code == 0, ended.err
    assert a_line_names(ended.out, "warning", "test-dev", 2, "107,394")
    assert "runs/final/cotbal: " in ended.out
    given = setup.answers()
    assert [answer["id"] for answer in given] == [9001, 9000]
    sent = json.loads((setup.directory / "submission.json").read_text())
    assert [answer["question_id"] for answer in sent] == [9000, 12000, 9001]
    assert sent[1]["answer"] == ""


def test_a_stopped_command_resumes_where_it_was(
    setup: Setup, cotbal: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cotbal.benchmarks.submission.command.PIECE", 1)
    pieces = setup.directory / "generations"
    arguments = ("submission", setup.run, "--raw", setup.raw, "--on", "inline", "--json")
    assert cotbal(*arguments).code == 0
    write_sealed_rows(pieces / "000000000.jsonl", [{"id": 9001, "answer": "Two Cats"}])
    (pieces / "000000001.jsonl").unlink()
    (pieces / ".000000001.jsonl.abc").write_text('{"id": 9000, "ans')  # what a kill leaves behind
    ended = cotbal(*arguments)
    assert ended.code == 0, ended.err
    assert setup.answers()[0] == {"id": 9001, "answer": "Two Cats"}
    assert [answer["id"] for answer in setup.answers()] == [9001, 9000]
    (file,) = json.loads(ended.out)["files"]
    assert {"question_id": 9001, "answer": "2 cats"} in json.loads(Path(file["file"]).read_text())


def test_an_image_of_several_pieces_is_encoded_once(
    setup: Setup, cotbal: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cotbal.benchmarks.submission.command.PIECE", 1)
    monkeypatch.setenv("COTBAL_CACHE", str(tmp_path / "cache"))
    arguments = ("submission", setup.run, "--raw", setup.raw, "--on", "inline")
    for encoded in (1, 0):  # the second time by what the first has left
        assert cotbal(*arguments).code == 0
        log = setup.directory / "log.txt"
        counts = re.findall(r"image features: (\d+) images encoded, (\d+) used", log.read_text())
        assert counts == [(str(encoded), "2")]
        shutil.rmtree(setup.directory)


def test_a_model_that_cannot_be_loaded_is_reported_and_tried_again(
    setup: Setup, cotbal: Command
) -> None:
    weights = setup.run / "checkpoint/model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    arguments = ("submission", setup.run, "--raw", setup.raw, "--on", "inline")
    ended = cotbal(*arguments)
    ended.expect(RunsFailed, "runs-failed", "1 of 1")
    assert (setup.directory / "failure.json").exists()
    weights.write_bytes(whole)
    assert cotbal(*arguments, "--restart-changed").code == 0
    assert not (setup.directory / "failure.json").exists()


def test_answers_of_another_model_are_not_passed_off_as_its_own(
    setup: Setup, cotbal: Command
) -> None:
    arguments = ("submission", setup.run, "--raw", setup.raw, "--on", "inline")
    assert cotbal(*arguments).code == 0
    shutil.rmtree(setup.run / "checkpoint")
    tiny_vlm.build(setup.run / "checkpoint", seed=1)
    refused = cotbal(*arguments)
    refused.expect(RunError, None, "checkpoint: was")
    job = (setup.directory / "job.json").rename(setup.directory / "job.away")
    cotbal(*arguments).expect(RunError, "changed-settings", setup.directory)
    job.rename(setup.directory / "job.json")
    assert cotbal(*arguments, "--restart-changed").code == 0
    assert (setup.run / "vqav2_testdev.old-1/submission.json").exists()
    assert (setup.directory / "submission.json").exists()


@pytest.mark.parametrize("file", ["vqav2_testdev/questions.jsonl", "checkpoint/model.safetensors"])
def test_a_worker_answers_what_its_job_was_written_for(
    setup: Setup, cotbal: Command, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    """The job may have waited in a queue while the questions or the model changed."""
    path, begin = setup.run / file, inline._run_module

    def late(job: Job) -> None:
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        begin(job)

    monkeypatch.setattr(inline, "_run_module", late)
    ended = cotbal("submission", setup.run, "--raw", setup.raw, "--on", "inline")
    ended.expect(RunsFailed, "runs-failed", path if path.suffix == ".jsonl" else path.parent)
    assert setup.answers() == []


def test_what_is_missing_is_reported_in_one_sentence(setup: Setup, cotbal: Command) -> None:
    none = setup.raw / "none"
    for run, more, code, name in (
        (setup.run.parent, (), None, setup.run.parent),
        (setup.run, ("--task", "VQA"), None, "--task"),
        (setup.run, ("--images", setup.raw), None, "1 of 1"),
        (setup.run, ("--images", none), "missing-file", none),
    ):
        ended = cotbal("submission", run, "--raw", setup.raw, *more)
        ended.expect(CotbalError, code, name)
    assert not setup.directory.exists()


def test_one_model_is_asked_by_one_command_at_a_time(
    setup: Setup, cotbal: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("submission", setup.run, setup.run, "--raw", setup.raw, "--on", "inline")
    with locked(setup.directory / "driver.lock"):
        cotbal(*arguments).expect(RunError, None, setup.directory.name)
    queue = tmp_path / "queue.json"
    queue.write_text('{"3": ["queued", "waiting: Priority"]}')
    monkeypatch.setenv("COTBAL_FAKE_QUEUE", str(queue))
    record_handle(setup.directory, JobHandle("helpers.pipeline_fakes.queue", "3"))
    cotbal(*arguments).expect(RunError, None, "job 3 of helpers.pipeline_fakes.queue")
    assert not (setup.directory / "job.json").exists()
    queue.write_text("{}")
    ended = cotbal(*arguments)
    assert ended.code == 0, ended.err
    assert ended.out.count("runs/final/cotbal: ") == 1
    assert not (setup.directory / "driver.json").exists()


def test_answers_of_another_model_are_called_back_before_they_move(
    setup: Setup, cotbal: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("submission", setup.run, "--raw", setup.raw, "--on", "inline")
    assert cotbal(*arguments).code == 0
    queue = tmp_path / "queue.json"
    queue.write_text('{"3": ["running", "on node7"]}')
    monkeypatch.setenv("COTBAL_FAKE_QUEUE", str(queue))
    record_handle(setup.directory, JobHandle("helpers.pipeline_fakes.queue", "3"))
    tiny_vlm.build(setup.run / "checkpoint", seed=1)
    assert cotbal(*arguments, "--restart-changed").code == 0
    assert queue.read_text() == "{}"


def test_unknown_keys_of_questions_are_refused_or_ignored_as_the_user_says(
    setup: Setup, cotbal: Command
) -> None:
    for file in setup.raw.rglob("*_questions.json"):
        content = json.loads(file.read_text())
        content["questions"][0]["source"] = "v2"
        file.write_text(json.dumps(content))
    arguments = ("submission", setup.run, "--raw", setup.raw, "--on", "inline")
    cotbal(*arguments).expect(DataError, None, "--ignore-keys source")
    assert cotbal(*arguments, "--ignore-keys", "source").code == 0


@pytest.mark.parametrize("token", ["<|end|>", "<image>"])
def test_a_question_with_a_special_token_is_an_error(
    setup: Setup, cotbal: Command, token: str
) -> None:
    for file in setup.raw.rglob("*_questions.json"):
        content = json.loads(file.read_text())
        for question in content["questions"]:
            question["question"] = f"What is {token} here?"
        file.write_text(json.dumps(content))
    ended = cotbal("submission", setup.run, "--raw", setup.raw, "--on", "inline")
    ended.expect(CotbalError, None, repr(token), f"What is {token} here?")


def test_an_address_is_for_ray_alone(setup: Setup, cotbal: Command) -> None:
    ended = cotbal("submission", setup.run, "--raw", setup.raw, "--address", "10.0.0.1:6379")
    ended.expect(CotbalError, "conflicting-options", "--address", "processes")
