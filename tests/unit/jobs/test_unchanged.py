"""A worker uses only what is as its job was planned, and as it was written."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cotbal.data.files import archive, read_json, read_jsonl, write_sealed, write_sealed_rows
from cotbal.errors import RunError
from cotbal.jobs import helper, worker
from cotbal.jobs.inputs import identity_digest
from cotbal.training.ranks import Stopped
from cotbal.training.run_paths import RunPaths
from cotbal.training.train import Session
from helpers.errors import raises
from helpers.planned_runs import plan_final


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture, and a run directory whose final run `ew` has a job file and was not begun."""
    home = tmp_path_factory.mktemp("unchanged")
    plan_final(home)
    return home


def begin(home: Path) -> None:
    worker.main([str(home / "run" / "final" / "ew" / "job.json")])


def replace_record(home: Path) -> None:
    path = home / "data" / "data" / "color_train.jsonl"
    path.write_text(path.read_text().replace('"red"', '"rot"'))


def replace_question(home: Path) -> None:
    path = home / "data" / "data" / "paint_test.jsonl"
    path.write_text(path.read_text().replace("Which color", "What color"))


def replace_image(home: Path) -> None:
    Image.new("RGB", (48, 48), "gray").save(home / "data" / "images" / "red.png")


def replace_checkpoint(home: Path) -> None:
    path = home / "data" / "base" / "config.json"
    path.write_text(path.read_text() + "\n")


def change_recipe(home: Path) -> None:
    path = home / "run" / "recipe.yaml"
    path.write_text(path.read_text().replace("learning_rate: 0.01", "learning_rate: 0.02"))


def change_portions(home: Path) -> None:
    path = home / "run" / "portions" / "color.csv"
    path.write_text(path.read_text().replace("\n1,", "\n0,"))


def change_job(home: Path) -> None:
    path = home / "run" / "final" / "ew" / "job.json"
    job = json.loads(path.read_text())
    del job["sha256"]
    path.write_text(json.dumps({**job, "run": {**job["run"], "seed": 1}}))


@pytest.mark.parametrize(
    ("change", "entry"),
    [
        (replace_record, "tasks.color.train"),
        (replace_question, "tasks.paint.test"),
        (replace_image, "tasks.color.train.images"),
        (replace_checkpoint, "model.checkpoint"),
        (change_recipe, "optimization.learning_rate"),
        (change_portions, "tasks.color.train.records"),
        (change_job, "run.seed"),
    ],
)
def test_a_worker_does_not_begin_with_what_has_changed(
    planned: Path, tmp_path: Path, change: Callable[[Path], None], entry: str
) -> None:
    backup = shutil.copytree(planned, tmp_path / "backup")
    change(planned)
    try:
        with raises(RunError, "changed-inputs", f"{entry}: was "):
            begin(planned)
        assert not (planned / "run" / "final" / "ew" / "partial").exists()
    finally:
        shutil.rmtree(planned)
        shutil.copytree(backup, planned)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("run",), None),
        (("run",), {"name": "ew"}),
        (("run", "seed"), "frog"),
        (("run", "portions"), ["color"]),
        (("run", "of_a_later_version"), 1),
        (("root",), 1),
    ],
)
def test_a_worker_names_a_job_file_of_another_form(
    planned: Path, tmp_path: Path, keys: tuple[str, ...], value: object
) -> None:
    """One that is sealed: another version wrote it."""
    run = shutil.copytree(planned / "run" / "final" / "ew", tmp_path / "ew")
    job = read_json(run / "job.json")
    (job if len(keys) == 1 else job[keys[0]])[keys[-1]] = value
    write_sealed(run / "job.json", job)
    for process in (worker, helper):
        with raises(RunError, "broken-file", "job.json"):
            process.main([str(run / "job.json")])


def test_partial_checkpoints_are_marked_with_the_identity_of_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = plan_final(tmp_path)
    sessions: list[Session] = []

    def stopped(*arguments: Any) -> None:
        sessions.append(arguments[-1])
        raise Stopped

    monkeypatch.setattr(worker.training, "train", stopped)
    with pytest.raises(SystemExit):
        begin(tmp_path)
    (session,) = sessions
    assert session.identity == identity_digest(read_json(run / "job.json")["identity"])


@pytest.mark.parametrize("replaced", [False, True])
def test_a_worker_reads_its_job_when_it_has_the_lock(
    planned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    """While it waited for it, a command may have archived the run and written another job."""
    run = tmp_path / "ew"
    shutil.copytree(planned / "run" / "final" / "ew", run)
    begun, jobs = worker.job_begun, []

    @contextmanager
    def late(paths: RunPaths) -> Iterator[Any]:
        archive(run)
        if replaced:
            write_sealed(run / "job.json", {"of": "another"})
        with begun(paths) as entered:
            yield entered

    class Execution:
        def __init__(self, job: dict[str, Any], *_: object) -> None:
            jobs.append(job)

        def execute(self) -> None: ...

    monkeypatch.setattr(worker, "job_begun", late)
    monkeypatch.setattr(worker, "_Execution", Execution)
    if replaced:
        worker.main([str(run / "job.json")])
    else:
        with pytest.raises(SystemExit):
            worker.main([str(run / "job.json")])
    assert jobs == ([{"of": "another"}] if replaced else [])
    assert not (run / "failure.json").exists()


def test_a_copy_with_other_times_is_what_was_planned(planned: Path) -> None:
    for path in (planned / "data").rglob("*"):
        path.touch()
    begin(planned)
    assert (planned / "run" / "final" / "ew" / "outcome.json").exists()


def test_a_trained_run_needs_its_training_data_no_more(planned: Path) -> None:
    run = planned / "run" / "final" / "ew"
    begin(planned)
    (run / "outcome.json").unlink()
    (run / "generations" / "paint.test.jsonl").unlink()
    data = planned / "data" / "data" / "color_train.jsonl"
    data.rename(data.with_suffix(".away"))
    begin(planned)
    data.with_suffix(".away").rename(data)
    assert (run / "outcome.json").exists()


def test_partial_checkpoints_go_after_a_kill_while_they_were_removed(planned: Path) -> None:
    run = planned / "run" / "final" / "ew"
    begin(planned)
    (run / "outcome.json").unlink()
    (run / "partial" / "checkpoint-2").mkdir(parents=True)
    begin(planned)
    assert (run / "outcome.json").exists()
    assert not (run / "partial").exists()


def test_the_digest_of_the_losses_is_that_of_the_training(planned: Path) -> None:
    """Also if the file is damaged while the run answers."""
    run = planned / "run" / "final" / "ew"
    begin(planned)
    losses = (run / "training.jsonl").read_bytes()
    (run / "outcome.json").unlink()
    half(run / "training.jsonl")
    begin(planned)
    (run / "training.jsonl").write_bytes(losses)
    assert read_json(run / "outcome.json")["losses"] == hashlib.sha256(losses).hexdigest()


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zeros(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:1000] + bytes(4000) + content[5000:])


@pytest.mark.parametrize(
    ("damage", "file", "kept"),
    [
        (half, "generations/paint.test.jsonl", "checkpoint/model.safetensors"),
        (half, "scores/paint.test.json", "generations/paint.test.jsonl"),
        (zeros, "checkpoint/model.safetensors", "job.json"),
        (half, "trained.json", "job.json"),
        (shutil.rmtree, "checkpoint", "job.json"),
    ],
)
def test_what_was_damaged_is_made_again(
    planned: Path, damage: Callable[[Path], None], file: str, kept: str
) -> None:
    run = planned / "run" / "final" / "ew"
    if not (run / "outcome.json").exists():
        begin(planned)
    names = (
        "checkpoint/model.safetensors",
        "generations/paint.test.jsonl",
        "scores/paint.test.json",
    )
    before = [(run / name).read_bytes() for name in names]
    (run / "outcome.json").unlink()
    stamp = (run / kept).stat().st_mtime_ns
    damage(run / file)
    begin(planned)
    assert [(run / name).read_bytes() for name in names] == before
    assert (run / kept).stat().st_mtime_ns == stamp


@pytest.mark.parametrize("killed", [False, True])
def test_answers_of_a_discarded_model_go_with_it(
    planned: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """Where `trained.json` was archived by a repair, or the worker was killed while it discarded
    the model.
    """
    run = planned / "run" / "final" / "ew"
    if not (run / "outcome.json").exists():
        begin(planned)
    answers, scores = (
        run / name for name in ("generations/paint.test.jsonl", "scores/paint.test.json")
    )
    write_sealed_rows(answers, [{**row, "answer": "of another"} for row in read_jsonl(answers)])
    (run / "outcome.json").unlink()
    write_sealed_rows(run / "answers" / "a.jsonl", [["paint.test", 0, "of another"]])
    if killed:
        half(run / "trained.json")
        remove, removed = shutil.rmtree, []

        def interrupted(path: Path, **options: Any) -> None:
            if removed:
                raise KeyboardInterrupt
            removed.append(path)
            remove(path, **options)

        with monkeypatch.context() as patch:
            patch.setattr(worker.shutil, "rmtree", interrupted)
            with pytest.raises(KeyboardInterrupt):
                begin(planned)
    else:
        (run / "trained.json").unlink()
    begin(planned)
    assert len(read_jsonl(answers)) == 8
    assert b"of another" not in answers.read_bytes()
    assert scores.exists()


def test_a_model_that_was_deleted_after_its_last_answer_is_not_trained_again(
    planned: Path, tmp_path: Path
) -> None:
    """As where a worker is killed between the two."""
    run = planned / "run" / "final" / "ew"
    if not (run / "outcome.json").exists():
        begin(planned)
    backup = shutil.copytree(planned, tmp_path / "backup")
    write_sealed(run / "job.json", {**read_json(run / "job.json"), "keep_checkpoint": False})
    (run / "outcome.json").unlink()
    (run / "checkpoint" / "model.safetensors").unlink()
    answers = run / "generations" / "paint.test.jsonl"
    stamp = answers.stat().st_mtime_ns
    try:
        begin(planned)
        assert (run / "outcome.json").exists()
        assert not (run / "checkpoint").exists()
        assert answers.stat().st_mtime_ns == stamp
    finally:
        shutil.rmtree(planned)
        shutil.copytree(backup, planned)
