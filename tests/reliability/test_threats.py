"""Threats of docs/threat-model.md that no other test is about. Nothing that others wrote is run."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from cotbal.errors import CotbalError, RecipeError, ScoresError
from cotbal.jobs.executors._slurm_script import script
from cotbal.recipe.strict_yaml import read_yaml
from cotbal.scores.harnesses import lmms_eval
from cotbal.training import vlm
from helpers.errors import raises
from helpers.tiny_vlm import build
from unit.executors.test_slurm_script import job, run

RECORDED = Path(__file__).parents[1] / "unit" / "harnesses" / "recorded" / "lmms_eval" / "EW"


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.mark,)  # type: ignore[return-value]


def test_yaml_makes_no_python_objects(tmp_path: Path) -> None:
    path, mark = tmp_path / "recipe.yaml", tmp_path / "mark"
    for tag in ("object/apply:os.system", "object/new:os.system", "name:os.system", "module:os"):
        path.write_text(f"name: !!python/{tag} ['touch {mark}']\n")
        for version in ("1.1", "1.2"):
            with raises(RecipeError, "broken-file", path):
                read_yaml(path, version)  # type: ignore[arg-type]
    assert not mark.exists()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("sound"))


def test_weights_of_a_checkpoint_are_not_unpickled(sound: Path, tmp_path: Path) -> None:
    checkpoint, mark = tmp_path / "checkpoint", tmp_path / "mark"
    shutil.copytree(sound, checkpoint)
    (checkpoint / "model.safetensors").unlink()
    with (checkpoint / "pytorch_model.bin").open("wb") as file:
        torch.save(Evil(mark), file)
    (checkpoint / "adapter_model.bin").write_bytes(pickle.dumps(Evil(mark)))
    with raises(CotbalError, "invalid-checkpoint", checkpoint):
        vlm.load(str(checkpoint), "float32", False)
    assert not mark.exists()


def test_code_of_a_checkpoint_is_not_run(sound: Path, tmp_path: Path) -> None:
    checkpoint, mark = tmp_path / "checkpoint", tmp_path / "mark"
    shutil.copytree(sound, checkpoint)
    (checkpoint / "evil.py").write_text(f"open({str(mark)!r}, 'w')\n")
    config = json.loads((checkpoint / "config.json").read_text())
    names = {"AutoConfig": "evil.Config", "AutoModelForImageTextToText": "evil.Model"}
    changed = {**config, "model_type": "evil", "auto_map": names}
    (checkpoint / "config.json").write_text(json.dumps(changed))
    with raises(CotbalError, "invalid-checkpoint", checkpoint):
        vlm.load(str(checkpoint), "float32", False)
    assert not mark.exists()


def test_results_of_others_read_no_other_files(tmp_path: Path) -> None:
    """Files of samples are named after tasks, which a result file names."""
    (source,) = RECORDED.glob("checkpoints__*/*_results.json")
    content = json.loads(source.read_text())
    task = next(iter(content["results"]))
    (tmp_path / "secret.jsonl").write_text("secret\n")
    stem = source.name.removesuffix("_results.json")
    folder = tmp_path / "run"
    (folder / f"{stem}_samples_x").mkdir(parents=True)
    for key in ("results", "n-samples"):
        content[key]["x/../../secret"] = content[key].pop(task)
    (folder / source.name).write_text(json.dumps(content))
    with pytest.raises(ScoresError) as caught:
        lmms_eval.read(folder)
    assert caught.value.code == "invalid-scores"


def test_a_path_is_no_shell_command(tmp_path: Path) -> None:
    """In the script for Slurm, whatever a folder or an option is called."""
    mark = tmp_path / "mark"
    directory = tmp_path / f"a'$(touch {mark.name})`touch {mark.name}`\"; touch {mark.name} #"
    text = script(job(directory, gpus=0), {"X": f"$(touch {mark})"})
    assert run(text, directory, "srun: exit 0") == 0
    assert not list(tmp_path.rglob("mark"))
