from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cotbal.benchmarks.zeroshot import command
from cotbal.benchmarks.zeroshot.columns import columns_named
from cotbal.errors import CotbalError
from helpers.errors import raises
from helpers.fake_lmms import interpreter
from helpers.scripts import loaded


class Loader(yaml.SafeLoader):
    """`!function module.name` stays a text."""


Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))


def test_an_environment(python: str) -> None:
    environment = command.find_environment(python)
    assert environment.tasks == Path("/opt/lmms/tasks")
    assert environment.versions == {
        "lmms_eval": "0.7.3",
        "transformers": "5.24.0",
        "torch": "2.13.0",
    }
    assert environment.warnings == ()


def test_another_version_is_a_warning(tmp_path: Path) -> None:
    (warning,) = command.find_environment(interpreter(tmp_path, version="0.8.0")).warnings
    assert "0.8.0" in warning
    assert "0.7.3" in warning


@pytest.mark.parametrize(
    ("changes", "name"), [({"tasks": None}, "lmms-eval"), ({"decord": False}, "decord")]
)
def test_an_environment_that_lacks_something(
    tmp_path: Path, changes: dict[str, Any], name: str
) -> None:
    with raises(CotbalError, "missing-program", name, "lmms-eval[video-legacy]==0.7.3"):
        command.find_environment(interpreter(tmp_path, **changes))


def test_the_probe_works_in_a_real_interpreter_without_lmms_eval() -> None:
    with raises(CotbalError, "missing-program", "lmms-eval"):
        command.find_environment(sys.executable)


def test_no_interpreter(tmp_path: Path) -> None:
    with raises(CotbalError, "missing-program", "--python", "nowhere"):
        command.find_environment(str(tmp_path / "nowhere"))


def test_the_files_name_the_tasks_of_the_environment(python: str, tmp_path: Path) -> None:
    command.write_files(command.find_environment(python), tmp_path / "lmms")
    tasks = {
        p.stem: yaml.load(p.read_text(), Loader)
        for p in (tmp_path / "lmms" / "tasks").glob("*.yaml")
    }
    assert {name: task["task"] for name, task in tasks.items()} == {name: name for name in tasks}
    included = {name: task["include"] for name, task in tasks.items()}
    assert included["cotbal_mmvet"] == "/opt/lmms/tasks/mmvet/mmvet.yaml"
    assert all(path.startswith("/opt/lmms/tasks/") for path in included.values())
    assert tasks["cotbal_textvqa"]["lmms_eval_specific_kwargs"]["default"]["ocr"] is True
    assert tasks["cotbal_mmvet"]["lmms_eval_specific_kwargs"]["default"]["pre_prompt"] == ""
    module = loaded(tmp_path / "lmms" / "tasks" / "cotbal_documents.py")
    file, _, function = tasks["cotbal_seed_image"]["process_docs"].partition(".")
    assert file == "cotbal_documents"
    assert callable(getattr(module, function))
    entries = next((tmp_path / "lmms" / "plugin").glob("*.dist-info/entry_points.txt")).read_text()
    assert entries == "[lmms_eval.models]\ncotbal = cotbal_llava:manifest\n"
    assert (tmp_path / "lmms" / "plugin" / "cotbal_llava.py").exists()


def test_functions_of_the_task_files() -> None:
    module = loaded(Path(command.__file__).parent / "lmms" / "tasks" / "cotbal_documents.py")

    class Rows(dict):
        def select(self, places: list[int]) -> list[int]:
            return places

    assert module.images_only(Rows(data_type=["image", "video", "image"])) == [0, 2]


@pytest.mark.parametrize("name", ["cotbal_scienceqa", "cotbal_scienceqa_img"])
def test_scienceqa_is_asked_by_lmms_eval_itself_which_writes_context_before_a_hint(
    name: str,
) -> None:
    """`sqa_doc_to_text` of lmms-eval 0.7.3 in its `default` form: "Context: A hint.\nWhich?"."""
    folder = Path(command.__file__).parent / "lmms" / "tasks"
    task = yaml.load((folder / f"{name}.yaml").read_text(), Loader)
    assert "doc_to_text" not in task
    assert task["lmms_eval_specific_kwargs"]["default"] == {
        "format": "default",
        "pre_prompt": "",
        "post_prompt": "\nAnswer with the option's letter from the given choices directly.",
    }


def argv(python: str, tmp_path: Path, how: command.How, column: str = "POPE") -> tuple[str, ...]:
    environment = command.find_environment(python)
    (chosen,) = columns_named(column)
    return command.argv(
        environment, how, tmp_path / "model", chosen, tmp_path / "lmms", tmp_path / "out"
    )


def test_the_command(python: str, tmp_path: Path) -> None:
    line = argv(python, tmp_path, command.How(limit=8))
    assert line[:5] == (python, "-m", "lmms_eval", "--model", "cotbal_llava")
    given = dict(itertools.pairwise(line))
    assert given["--model_args"] == f"pretrained={tmp_path}/model,dtype=bfloat16,device_map=cuda:0"
    assert given["--tasks"] == "pope_adv,pope_pop,pope_random"
    assert (given["--include_path"], given["--output_path"]) == (
        f"{tmp_path}/lmms/tasks",
        f"{tmp_path}/out",
    )
    assert given["--batch_size"] == "1"
    assert "--log_samples" in line
    assert line[line.index("--limit") + 1] == "8"
    # A failed evaluation ends with code 0 otherwise.
    assert line[-2:] == ("--verbosity", "DEBUG")
    assert "--limit" not in argv(python, tmp_path, command.How())


def test_another_model_of_the_harness(python: str, tmp_path: Path) -> None:
    line = argv(python, tmp_path, command.How(model="qwen2_5_vl", model_args="max_pixels=12845056"))
    assert (
        line[line.index("--model_args") + 1] == f"pretrained={tmp_path}/model,max_pixels=12845056"
    )


@pytest.mark.parametrize("name", ["a,b", "a b", "a=b", "[a]"])
def test_a_path_that_the_harness_would_not_read(python: str, tmp_path: Path, name: str) -> None:
    with raises(CotbalError, "invalid-name", "lmms-eval"):
        argv(python, tmp_path / name, command.How())


def test_what_is_shown_can_be_pasted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", "theirs")
    given = command.variables(tmp_path)
    assert given["PYTHONPATH"].split(":") == [f"{tmp_path}/plugin", "theirs"]
    monkeypatch.delenv("PYTHONPATH")
    assert command.variables(tmp_path) == {"PYTHONPATH": f"{tmp_path}/plugin"}
    assert command.shown(("p", "a b"), {"X": "1 2"}) == "X='1 2' p 'a b'"
