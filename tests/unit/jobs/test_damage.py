"""Files of a run directory that are not as they were written are not used."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cotbal.balance import Balance
from cotbal.data.files import read_json, write_sealed
from cotbal.data.sampling import read_manifest
from cotbal.errors import RunError
from cotbal.jobs import pipeline
from cotbal.jobs.checkpoint_files import checkpoint_state, need_whole_checkpoint
from cotbal.jobs.execute import Options
from cotbal.jobs.executors import recorded_handle
from cotbal.jobs.plan import Prepared
from cotbal.jobs.response import as_planned
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.status import status
from cotbal.jobs.verify import verify
from cotbal.jobs.weigh import weigh
from cotbal.recipe.recipe import load_recipe
from cotbal.report.contents import read_contents
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


def edited(path: Path, content: object) -> Path:
    """A file as somebody leaves it who edits it: without a digest, and of another form."""
    text = content if isinstance(content, str) else json.dumps(content)
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(text)
    return path


MEASURED = {"exact_match": {"score": 1.0, "maximum": 1.0, "samples": [1.0]}}
OTHER_FORMS: dict[str, tuple[object, Callable[[RunDir], object]]] = {
    "plan.json": ({"runs": [3]}, status),
    "balance.json": ({"units": ["ocr"]}, lambda root: read_contents(root.root)),
    "portions/ocr.csv": ("index,id\n1\n", lambda root: read_manifest(root.portions("ocr"))),
    "response/design.json": (
        {"runs": "many", "units": {}},
        lambda root: as_planned(load_recipe(root.recipe), root),
    ),
    "probes/mini/outcome.json": ({"seconds": 3}, status),
    "probes/mini/scores/ocr.validation.json": ({"metrics": {"exact_match": 3}}, weigh),
    "probes/mini/scores/vqa.validation.json": (
        {"task": "vqa", "split": "validation", "clusters": [0, 1], "metrics": MEASURED},
        lambda root: read_contents(root.root),
    ),
    "final/ew/failure.json": (["no message"], lambda root: read_contents(root.root)),
    "final/ew/handle.json": (
        {"executor": 7, "id": "7"},
        lambda root: recorded_handle(root.final("ew").root),
    ),
    "weights.json": ("[" * 100_000, lambda root: read_json(root.weights)),
}


@pytest.mark.parametrize("file", OTHER_FORMS)
def test_a_file_of_another_form_is_one_error(root: RunDir, file: str) -> None:
    content, use = OTHER_FORMS[file]
    path = edited(root.root / file, content)
    with raises(RunError, "broken-file", path):
        use(root)


RUN = {"directory": "probes/mini", "kind": "probe", "label": "mini"}


@pytest.mark.parametrize(
    ("run", "use"),
    [
        ({"directory": "probes/mini", "kind": "probe"}, status),  # no label
        ({**RUN, "label": 0.5}, status),
        ({**RUN, "kind": []}, status),
        ({**RUN, "directory": "x" * 5000}, status),
        ({**RUN, "directory": "x" * 5000}, lambda root: read_contents(root.root)),
        ({**RUN, "name": 0.5}, lambda root: read_contents(root.root)),
    ],
)
def test_a_planned_run_of_another_form_is_one_error(
    root: RunDir, run: object, use: Callable[[RunDir], object]
) -> None:
    path = edited(root.plan, {"runs": [run]})
    with raises(RunError, "broken-file", path):
        use(root)


@pytest.mark.parametrize("maximum", [[], "much", {}])
def test_a_maximum_that_is_no_number_is_one_error(root: RunDir, maximum: object) -> None:
    path = root.probe("mini").scores("ocr", "validation")
    content = json.loads(path.read_text())
    del content["sha256"]
    for metric in content["metrics"].values():
        metric["maximum"] = maximum
    edited(path, content)
    with raises(RunError, "broken-file", path):
        weigh(root)


@pytest.mark.parametrize("row", [f"{10**20},a,1,mini", f"1,{'a' * 2**18},1,mini"])
def test_a_portion_of_another_form_is_one_error(root: RunDir, row: str) -> None:
    path = edited(root.portions("ocr"), f"index,id,order,portion\n{row}\n")
    with raises(RunError, "broken-file", path):
        read_manifest(path)


def test_a_name_in_an_outcome_is_text(root: RunDir) -> None:
    edited(root.plan, {"runs": []})  # the name then comes from the outcome
    path = edited(root.probe("mini").outcome, {"run": 7})
    with raises(RunError, "broken-file", path):
        read_contents(root.root)


@pytest.mark.parametrize("job", [{}, {"run": {"name": "mini"}}, {"run": None}, []])
def test_a_job_of_another_form_is_a_difference(root: RunDir, job: object) -> None:
    path = edited(root.probe("mini").job, job)
    checked = verify(root, lambda *_: None)
    assert [difference.file for difference in checked.differences] == [path]


@pytest.mark.parametrize("scores", [{"metrics": 3}, [], {"metrics": {"exact_match": []}}])
def test_scores_of_another_form_are_a_difference(root: RunDir, scores: object) -> None:
    path = edited(root.probe("mini").scores("ocr", "validation"), scores)
    checked = verify(root, lambda *_: None)
    assert [difference.file for difference in checked.differences] == [path]


def test_progress_of_another_form_counts_as_none(root: RunDir) -> None:
    paths = root.final("ew")
    paths.outcome.unlink()
    edited(paths.progress, {"phase": "training", "fraction": "half"})
    (state,) = (state for state in status(root) if state.run == "ew")
    assert (state.state, state.detail.partition(";")[0]) == ("interrupted", "at 0%")


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
