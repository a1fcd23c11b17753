"""`cotbal verify`: what differs is named, archived on request, and made again by the command."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from cotbal.data.files import (
    digest_of,
    is_running,
    locked,
    read_json,
    temporary,
    write_sealed,
    write_sealed_text,
)
from cotbal.errors import RunError
from cotbal.jobs import pipeline
from cotbal.jobs.checkpoint_files import checkpoint_state
from cotbal.jobs.execute import Options
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.verify import Verification, repair, verify
from cotbal.recipe.recipe import load_recipe
from cotbal.training.partial_checkpoints import mark_complete
from helpers.errors import names_all, raises
from helpers.pipeline_fakes import EXECUTOR, write_mixture

RERUN = ("scores.csv", "balance.json", "weights.json", "recipe.yaml")
Damage = Callable[[Path], None]


def step(*_: object) -> None: ...


def run(home: Path) -> RunDir:
    root = RunDir(home / "run")
    recipe = load_recipe(home / "mixture" / "recipe.yaml")
    prepared = pipeline.plan(recipe, root, ("ew", "cotbal"))
    pipeline.run(prepared, Options(EXECUTOR))
    return root


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture and a finished job, with a model, losses and a partial checkpoint."""
    home = tmp_path_factory.mktemp("verify")
    few = {"bootstrap": 100, "replicates": 1}
    write_mixture(home / "mixture", tasks=("ocr", "vqa"), balance=few)
    root = run(home)
    final = root.final("ew")
    final.checkpoint.mkdir()
    (final.checkpoint / "model.safetensors").write_bytes(b"m" * 1000)
    model = {"checkpoint": checkpoint_state(final.checkpoint)}
    write_sealed(final.trained, model)
    write_sealed(final.outcome, {**read_json(final.outcome), **model})
    partial = root.probe("mini").partial / "checkpoint-4"
    partial.mkdir(parents=True)
    (partial / "optimizer.pt").write_bytes(b"o" * 100)
    mark_complete(partial)
    return home


@pytest.fixture
def home(finished: Path, tmp_path: Path) -> Path:
    """A copy, which a test may damage."""
    shutil.copytree(finished / "run", tmp_path / "run")
    (tmp_path / "mixture").symlink_to(finished / "mixture")
    return tmp_path


@pytest.fixture
def root(home: Path) -> RunDir:
    return RunDir(home / "run")


def named(checked: Verification, root: RunDir) -> list[str]:
    return [str(difference.file.relative_to(root.root)) for difference in checked.differences]


def test_a_finished_job_is_as_it_was_written(root: RunDir) -> None:
    checked = verify(root, step)
    assert checked.differences == ()
    assert checked.unchecked == ()
    assert checked.leftovers == ()
    assert checked.scores == len([*root.root.rglob("scores/*.json")]) > 10
    assert checked.compared > 50


def half(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def zeros(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(8) + content[len(content) // 2 + 8 :])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


MINI, FINAL = "probes/mini", "final/ew"
DAMAGED = {  # file -> the file that is named, if another, and what is archived
    "recipe.yaml": ["recipe.yaml", "recipe.yaml.sha256"],
    "plan.json": ["plan.json"],
    "weights.json": ["weights.json"],
    "balance.json": ["balance.json"],
    "scores.csv": ["scores.csv", "scores.csv.sha256"],
    "portions/ocr.csv": ["portions/ocr.csv", "portions/ocr.csv.sha256"],
    "images/ocr.train.npz": ["images/ocr.train.npz"],
    f"{MINI}/job.json": [MINI],
    f"{MINI}/outcome.json": [f"{MINI}/outcome.json"],
    f"{MINI}/generations/ocr.validation.jsonl": [
        f"{MINI}/generations/ocr.validation.jsonl",
        f"{MINI}/generations/ocr.validation.jsonl.sha256",
        f"{MINI}/scores/ocr.validation.json",
        f"{MINI}/outcome.json",
    ],
    f"{MINI}/scores/ocr.validation.json": [f"{MINI}/scores/ocr.validation.json"],
    f"{MINI}/partial/checkpoint-4/optimizer.pt": [f"{MINI}/partial/checkpoint-4"],
    f"{FINAL}/checkpoint/model.safetensors": [FINAL],
    f"{FINAL}/trained.json": [f"{FINAL}/trained.json"],
}
NAMED = {f"{MINI}/partial/checkpoint-4/optimizer.pt": f"{MINI}/partial/checkpoint-4"}
NAMED[f"{FINAL}/checkpoint/model.safetensors"] = f"{FINAL}/checkpoint"


def damages() -> list[Any]:
    """Every file with every damage; `make test` has one of each file, and every kind of damage."""
    cases = []
    for (i, file), (j, damage) in product(enumerate(DAMAGED), enumerate((half, zeros, flip))):
        marks = () if (i + j) % 3 == 0 else (pytest.mark.extended,)
        cases.append(pytest.param(file, damage, id=f"{file}-{damage.__name__}", marks=marks))
    return cases


@pytest.mark.parametrize(("file", "damage"), damages())
def test_a_damaged_file_is_named_archived_and_made_again(
    home: Path, root: RunDir, file: str, damage: Damage
) -> None:
    before = {name: (root.root / name).read_bytes() for name in RERUN}
    damage(root.root / file)
    checked, archived = repair(root, step)
    assert named(checked, root) == [NAMED.get(file, file)]
    (difference,) = checked.differences
    assert [str(path.relative_to(root.root)) for path in difference.archived] == DAMAGED[file]
    assert len(archived) == len(DAMAGED[file])
    assert all(path.exists() for path in archived)
    run(home)
    assert {name: (root.root / name).read_bytes() for name in RERUN} == before
    assert verify(root, step).differences == ()


@pytest.mark.parametrize("field", ["method", "flags", "signature"])
def test_states_of_images_that_no_zip_reader_reads_are_named(root: RunDir, field: str) -> None:
    """An unknown method of compression is a NotImplementedError, an encrypted member a
    RuntimeError, another signature a BadZipFile.
    """
    path = root.images / "ocr.train.npz"
    content = bytearray(path.read_bytes())
    member = content.index(b"PK\1\2")  # in the directory at the end
    content[member + {"signature": 0, "flags": 8, "method": 10}[field]] = 99
    path.write_bytes(bytes(content))
    assert named(verify(root, step), root) == ["images/ocr.train.npz"]


DELETED = {
    "plan.json": "plan.json",
    "weights.json": "weights.json",
    "balance.json": "balance.json",
    "scores.csv": "scores.csv",
    "scores.csv.sha256": "scores.csv",
    "portions/vqa.csv": "portions/vqa.csv",
    "portions/vqa.csv.sha256": "portions/vqa.csv",
    f"{MINI}/job.json": f"{MINI}/job.json",
    f"{MINI}/generations/vqa.validation.jsonl": f"{MINI}/generations/vqa.validation.jsonl",
    f"{MINI}/generations/vqa.validation.jsonl.sha256": f"{MINI}/generations/vqa.validation.jsonl",
    f"{MINI}/scores/vqa.validation.json": f"{MINI}/scores/vqa.validation.json",
    f"{MINI}/partial/checkpoint-4/optimizer.pt": f"{MINI}/partial/checkpoint-4",
    f"{FINAL}/checkpoint/model.safetensors": f"{FINAL}/checkpoint",
}


AS_OTHERS = ("scores.csv.sha256", "portions/vqa.csv.sha256")  # as the digest of the answers


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(file, marks=(pytest.mark.extended,) if file in AS_OTHERS else ())
        for file in DELETED
    ],
)
def test_a_missing_file_is_named_and_made_again(home: Path, root: RunDir, file: str) -> None:
    before = {name: (root.root / name).read_bytes() for name in RERUN}
    (root.root / file).unlink()
    checked, _ = repair(root, step)
    assert named(checked, root) == [DELETED[file]]
    run(home)
    assert {name: (root.root / name).read_bytes() for name in RERUN} == before
    assert verify(root, step).differences == ()


def test_missing_facts_of_a_finished_training_are_named(home: Path, root: RunDir) -> None:
    """The run has its outcome, so no command writes them again."""
    trained = root.final("ew").trained
    trained.unlink()
    checked, archived = repair(root, step)
    assert archived == []
    assert checked.differences == ()
    (line,) = checked.unchecked
    assert names_all(line, trained, "outcome.json")
    root.final("ew").outcome.unlink()
    run(home)
    assert trained.exists()
    assert verify(root, step).unchecked == ()


def test_scores_with_a_digest_that_the_answers_contradict(root: RunDir) -> None:
    file = root.probe("mini").scores("vqa", "validation")
    content = read_json(file)
    content["metrics"]["exact_match"]["samples"][3] = 0.5
    write_sealed(file, content)
    checked = verify(root, step)
    assert named(checked, root) == ["probes/mini/scores/vqa.validation.json"]
    assert any("weights" in line for line in checked.unchecked)


@pytest.mark.parametrize("field", ["ratios", "sampling"])
def test_a_job_whose_run_has_another_form_is_named(root: RunDir, field: str) -> None:
    job = root.final("ew").job
    content = read_json(job)
    content["run"][field] = 5
    write_sealed(job, content)
    assert named(verify(root, step), root) == ["final/ew/job.json"]


def test_a_job_whose_identity_lacks_its_checkpoint_is_named(root: RunDir) -> None:
    job = root.probe("mini").job
    content = read_json(job)
    del content["identity"]["model.checkpoint"]
    write_sealed(job, content)
    assert named(verify(root, step), root) == ["probes/mini/job.json"]


def test_weights_with_a_digest_that_the_scores_contradict(root: RunDir) -> None:
    content = read_json(root.balance)
    content["difficulty"][0] += 1e-6
    write_sealed(root.balance, content)
    assert named(verify(root, step), root) == ["balance.json"]
    write_sealed(root.weights, {**read_json(root.weights), "tasks": {"ocr": 1.0}})
    assert named(verify(root, step), root) == ["balance.json", "weights.json"]


def test_given_weights_are_not_those_of_the_probes(root: RunDir) -> None:
    units = dict.fromkeys(read_json(root.weights)["weights"], 1.0)
    write_sealed(root.weights, {"weights": units, "tasks": {**units, "chat": 1.0}})
    checked = verify(root, step)
    assert checked.differences == ()
    assert [line for line in checked.unchecked if str(root.weights) in line]


def test_changed_data_are_named_and_nothing_is_archived(home: Path, root: RunDir) -> None:
    mixture = shutil.copytree(home / "mixture", home / "copied")
    (home / "mixture").unlink()
    mixture.rename(home / "mixture")
    recipe = root.recipe.read_text()
    old = read_json(root.probe("mini").job)
    write_sealed_text(root.recipe, _moved(recipe, home))
    assert verify(root, step).differences == (), "data may lie elsewhere"
    records = home / "mixture" / "ocr_train.jsonl"
    records.write_text(records.read_text().replace("answer 0", "answer 9"))
    checked, archived = repair(root, step)
    assert archived == []
    assert set(named(checked, root)) == {
        str(path.relative_to(root.root)) for path in root.root.rglob("job.json")
    }
    records.unlink()
    checked = verify(root, step)
    assert checked.differences == ()
    assert [line for line in checked.unchecked if "ocr_train.jsonl" in line]
    assert read_json(root.probe("mini").job) == old


def _moved(recipe: str, home: Path) -> str:
    """The recipe with its data in the mixture of this test."""
    content = yaml.safe_load(recipe)
    old = str(Path(content["images"]).parent)
    return recipe.replace(old, str(home / "mixture"))


def test_losses_are_those_of_the_training(home: Path, root: RunDir) -> None:
    paths = root.final("ew")
    paths.training.write_text('{"step": 1}\n')
    outcome = read_json(paths.outcome)
    write_sealed(paths.outcome, {**outcome, "losses": "0" * 64})
    checked, archived = repair(root, step)
    assert named(checked, root) == ["final/ew/training.jsonl"]
    assert [path.name for path in archived] == ["training.jsonl.old-1"]
    again = verify(root, step)
    assert again.differences == ()
    assert [line for line in again.unchecked if "training.jsonl" in line]


def test_a_removed_model_is_no_damage(root: RunDir) -> None:
    shutil.rmtree(root.final("ew").checkpoint)
    checked = verify(root, step)
    assert checked.differences == ()
    assert [line for line in checked.unchecked if "final/ew/checkpoint" in line]


def test_a_run_that_is_being_worked_on_is_left_alone(root: RunDir) -> None:
    paths = root.probe("mini")
    half(paths.outcome)
    with locked(paths.lock):
        checked, archived = repair(root, step)
    assert archived == []
    assert [line for line in checked.unchecked if str(paths.root) in line]


def test_nothing_changes_between_the_findings_of_a_repair_and_the_repair(root: RunDir) -> None:
    half(root.weights)
    changed: list[str] = []

    def of_another_command(what: str, *_: object) -> None:
        with suppress(RunError), locked(root.lock):
            changed.append(what)

    verify(root, of_another_command)
    assert changed
    changed.clear()
    repair(root, of_another_command)
    assert changed == []


def test_a_directory_in_use_is_not_verified(root: RunDir) -> None:
    with locked(root.lock), raises(RunError, "directory-in-use", root.root):
        verify(root, step)
    with locked(root.lock), raises(RunError, "directory-in-use", root.root):
        repair(root, step)


def test_a_directory_that_cannot_be_written_is_verified(
    root: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rejected(*_: object, **__: object) -> None:
        raise PermissionError("read only")

    with locked(root.lock):
        monkeypatch.setattr("filelock.FileLock.acquire", rejected)
        with raises(RunError, "directory-in-use", root.root):
            verify(root, step)
    assert verify(root, step).differences == ()


def test_another_directory_is_no_run_directory(tmp_path: Path) -> None:
    with raises(RunError, "no-run-directory", tmp_path):
        verify(RunDir(tmp_path), step)


NOBODY = 2**22 + 1  # above the largest number of a process


def left(root: RunDir, process: int) -> Path:
    """A file that a process of this number has not completed."""
    path = temporary(root.probe("mini").outcome)
    stem, kind = path.name.rsplit("-", 2)[0], path.name.rpartition("-")[2]
    path = path.with_name(f"{stem}-{process}-{kind}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{")
    return path


def test_leftovers_of_ended_processes_go(home: Path, root: RunDir) -> None:
    dead, alive = left(root, NOBODY), left(root, 1)
    checked, _ = repair(root, step)
    assert checked.differences == ()
    assert checked.leftovers == (dead,)
    assert not dead.exists()
    assert alive.exists()
    dead.write_text("{")
    run(home)
    assert not dead.exists()
    assert json.loads(root.probe("mini").outcome.read_text())
    assert digest_of(root.score_table).exists()


def test_leftovers_of_a_process_that_was_still_ending_go_with_the_command(
    home: Path, root: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(root.root)
    path = left(root, NOBODY)
    last = [root.final(method).outcome for method in ("ew", "cotbal")]

    def is_ending(_: int) -> bool:
        return not all(outcome.exists() for outcome in last)

    monkeypatch.setattr("cotbal.data.files.is_running", is_ending)
    run(home)
    assert not is_ending(NOBODY)
    assert not path.exists()


def test_a_process_that_nobody_has_waited_for_does_not_run() -> None:
    process = os.fork()
    if process == 0:
        os._exit(0)
    os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
    try:
        os.kill(process, 0)  # it still has its number
        assert not is_running(process)
    finally:
        os.waitpid(process, 0)
    assert is_running(os.getpid())
