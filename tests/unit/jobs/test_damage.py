"""Files of a run directory that are not as they were written are not used."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cotbal.balance import Balance
from cotbal.data.files import read_json, write_sealed
from cotbal.errors import RunError
from cotbal.jobs import pipeline
from cotbal.jobs.checkpoint_files import checkpoint_state, need_whole_checkpoint
from cotbal.jobs.execute import Options
from cotbal.jobs.plan import Prepared
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.weigh import weigh
from cotbal.recipe.recipe import load_recipe
from cotbal.training.run_paths import RunPaths
from helpers.errors import raises
from helpers.pipeline_fakes import EXECUTOR


@pytest.fixture
def root(recipe_path: Path, tmp_path: Path) -> RunDir:
    root = RunDir(tmp_path / "run")
    pipeline.run(prepared(recipe_path, root), Options(EXECUTOR))
    return root


def prepared(recipe_path: Path, root: RunDir) -> Prepared:
    return pipeline.plan(load_recipe(recipe_path), root, ("ew", "cotbal"))


def change(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


def halve(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("cut", [False, True])
def test_damaged_scores_are_computed_again(root: RunDir, cut: bool) -> None:
    before = weigh(root).to_json()
    file = root.probe("mini").scores("ocr", "validation")
    content = file.read_bytes()
    halve(file) if cut else change(file, "1.0,", "0.0,")
    assert weigh(root).to_json() == before
    assert file.read_bytes() == content


def test_damaged_answers_are_not_scored(root: RunDir) -> None:
    probe = root.probe("full:ocr")
    probe.scores("vqa", "validation").unlink()
    halve(probe.generations("vqa", "validation"))
    with raises(RunError, "damaged-file", "vqa.validation.jsonl"):
        weigh(root)


@pytest.mark.parametrize("file", ["plan", "weights", "balance"])
def test_files_between_commands_hold_their_digest(root: RunDir, file: str) -> None:
    path: Path = getattr(root, file)
    change(path, "1.", "2.")
    with raises(RunError, "damaged-file", path):
        read_json(path)


def test_damaged_weights_are_not_trained_with(recipe_path: Path, root: RunDir) -> None:
    shutil.rmtree(root.final("cotbal").root)
    weight = str(read_json(root.weights)["tasks"]["ocr"])
    change(root.weights, weight, weight.replace(weight[-1], str((int(weight[-1]) + 1) % 10)))
    with raises(RunError, "damaged-file", root.weights):
        pipeline.train(prepared(recipe_path, root), "cotbal", Options(EXECUTOR))


@pytest.fixture
def model(root: RunDir) -> RunPaths:
    """A final run with a model of two files, as a worker leaves it."""
    paths = root.final("ew")
    paths.checkpoint.mkdir()
    (paths.checkpoint / "config.json").write_text("{}")
    (paths.checkpoint / "model.safetensors").write_bytes(bytes(1000))
    state = checkpoint_state(paths.checkpoint)
    write_sealed(paths.outcome, {**read_json(paths.outcome), "checkpoint": state})
    return paths


def train(recipe_path: Path, root: RunDir, restart: bool = False) -> Balance | RunPaths:
    options = Options(EXECUTOR, restart_changed=restart)
    return pipeline.train(prepared(recipe_path, root), "ew", options)


def test_a_model_that_lost_a_file_is_not_done(
    recipe_path: Path, root: RunDir, model: RunPaths
) -> None:
    train(recipe_path, root)
    halve(model.checkpoint / "model.safetensors")
    with raises(RunError, "changed-settings", "model.safetensors: was 1,000 bytes, is 500"):
        train(recipe_path, root)
    train(recipe_path, root, restart=True)
    assert model.root.with_name("ew.old-1").exists()


def test_a_removed_model_is_reported(recipe_path: Path, root: RunDir, model: RunPaths) -> None:
    """Its scores are still good, so only a command that is to make the model fails."""
    shutil.rmtree(model.checkpoint)
    (remark,) = (line for line in prepared(recipe_path, root).warnings if "removed" in line)
    assert str(model.checkpoint) in remark
    pipeline.run(prepared(recipe_path, root), Options(EXECUTOR))
    with raises(RunError, "missing-checkpoint", model.checkpoint):
        train(recipe_path, root)


def test_a_model_with_another_byte_answers_nothing(model: RunPaths) -> None:
    need_whole_checkpoint(model)
    (model.checkpoint / "model.safetensors").write_bytes(bytes(999) + b"x")
    with raises(RunError, "damaged-file", model.checkpoint):
        need_whole_checkpoint(model)


def test_a_run_without_its_job_file_is_not_taken_for_done(recipe_path: Path, root: RunDir) -> None:
    root.final("ew").job.unlink()
    with raises(RunError, "changed-settings", "job.json"):
        train(recipe_path, root)


def test_a_run_that_has_begun_without_its_job_file_is_not_resumed(
    recipe_path: Path, root: RunDir
) -> None:
    """Nobody knows what its checkpoints were made from."""
    paths = root.final("ew")
    paths.outcome.unlink()
    paths.job.unlink()
    with raises(RunError, "changed-settings", "job.json"):
        train(recipe_path, root)
    train(recipe_path, root, restart=True)
    assert paths.done
    assert paths.root.with_name("ew.old-1").exists()
