"""`training.jsonl` is used as the training wrote it, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cotbal.data.files import append_jsonl, read_json, write_sealed
from cotbal.errors import RunError
from cotbal.jobs import pipeline
from cotbal.jobs.execute import Options
from cotbal.jobs.losses import digest_of_losses, read_losses
from cotbal.jobs.mini import suggest_mini
from cotbal.jobs.plan import Prepared
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.verify import repair, verify
from cotbal.recipe.recipe import load_recipe
from cotbal.report import write_report
from cotbal.training.run_paths import RunPaths
from helpers.errors import names_all, raises
from helpers.pipeline_fakes import EXECUTOR


@pytest.fixture
def prepared(recipe_path: Path, tmp_path: Path) -> Prepared:
    return pipeline.plan(load_recipe(recipe_path), RunDir(tmp_path / "run"), ("ew", "cotbal"))


@pytest.fixture
def root(prepared: Prepared) -> RunDir:
    """A finished job, with a digest of the losses of EW's final run."""
    pipeline.run(prepared, Options(EXECUTOR))
    paths = prepared.root.final("ew")
    losses = {"losses": digest_of_losses(paths)}
    for file in (paths.trained, paths.outcome):
        write_sealed(file, {**read_json(file), **losses})
    return prepared.root


def flip(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"1.0", b"3.0", 1))


def step(*_: object) -> None: ...


@pytest.mark.parametrize("ended", ["outcome", "trained"])
@pytest.mark.parametrize("damage", [flip, Path.unlink])
def test_losses_of_an_ended_training_are_those_that_it_wrote(
    prepared: Prepared, root: RunDir, ended: str, damage: object
) -> None:
    paths = root.final("ew")
    assert read_losses(paths)[0]["task_losses"]["ocr"] == 1.0
    if ended == "trained":
        paths.outcome.unlink()
    assert callable(damage)
    damage(paths.training)
    with raises(RunError, "damaged-file", paths.training):
        read_losses(paths)
    with raises(RunError, "damaged-file", paths.training):
        suggest_mini(prepared)
    difference = next(iter(verify(root, step).differences))
    assert difference.file == paths.training


OTHER = (
    [1],
    {"epoch": "half"},
    {"epoch": 0.5, "task_losses": {"ocr": "low"}, "task_tokens": {"ocr": 1}},
    {"epoch": 0.5, "task_losses": {"ocr": 1.0}},
    {"epoch": 0.5, "task_losses": {"ocr": 1.0}, "task_tokens": {"ocr": 0}},
    {"epoch": 10**400},
    {"epoch": -1e308},
    {"epoch": 0.5, "weights": 3},
    {"weights": {"ocr": 1.0}},
)


@pytest.mark.parametrize("line", OTHER)
def test_lines_of_another_form_are_one_error(prepared: Prepared, line: object) -> None:
    """Of a training that has not ended, so that there is no digest."""
    paths = prepared.root.final("ew")
    append_jsonl(paths.training, line)
    with raises(RunError, "broken-file", paths.training):
        read_losses(paths)


@pytest.mark.parametrize("line", [*OTHER, {"epoch": 0.5}])
def test_a_plan_needs_no_sound_losses(
    prepared: Prepared, recipe_path: Path, line: dict[str, object]
) -> None:
    """They only tell how long a run takes."""
    paths = prepared.root.final("ew")
    write_sealed(paths.job, {"records": 100, "ranks": 1})
    append_jsonl(paths.training, line)
    again = pipeline.plan(load_recipe(recipe_path), prepared.root, ("ew", "cotbal"))
    assert {planned.seconds for planned in again.plan.runs} == {None}
    paths.training.write_text(json.dumps({"epoch": 0.5, "seconds": 10.0}) + "\n")
    again = pipeline.plan(load_recipe(recipe_path), prepared.root, ("ew", "cotbal"))
    assert None not in {planned.seconds for planned in again.plan.runs}


def test_deleted_losses_are_named_until_the_run_is_trained_again(root: RunDir) -> None:
    paths = root.final("ew")
    paths.training.unlink()
    checked, archived = repair(root, step)
    assert [difference.file for difference in checked.differences] == [paths.training]
    assert archived == []
    assert checked.unchecked == (), "weights do not depend on losses"
    assert [difference.file for difference in verify(root, step).differences] == [paths.training]


def test_archived_losses_are_remarked_on(root: RunDir) -> None:
    paths = root.final("ew")
    flip(paths.training)
    _, archived = repair(root, step)
    assert [path.name for path in archived] == ["training.jsonl.old-1"]
    again = verify(root, step)
    assert again.differences == ()
    (line,) = again.unchecked
    assert names_all(line, paths.training)


@pytest.mark.parametrize("damage", [flip, Path.unlink])
def test_a_report_says_which_losses_it_leaves_out(root: RunDir, damage: object) -> None:
    assert "training.jsonl" not in write_report(root.root).read_text()
    assert callable(damage)
    damage(root.final("ew").training)
    page = write_report(root.root).read_text()
    (note,) = [line for line in page.splitlines() if "training.jsonl" in line]
    assert names_all(note, "ew", "training.jsonl", "<code>cotbal verify</code>")


def test_a_run_that_trained_nothing_has_no_losses(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    write_sealed(paths.outcome, {"losses": None})
    assert read_losses(paths) == []
