"""Lengths of records: by the checkpoint's own processor in a process of its own, or by its
tokenizer.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from cotbal.benchmarks.releases.conversation import Asked
from cotbal.benchmarks.releases.length import turn_counter
from cotbal.data.batches import lengths
from cotbal.data.batches.collate import Collator, RejectedImages, Row
from cotbal.data.batches.lengths import Length, open_meter
from cotbal.data.batches.processors import load_processor
from cotbal.data.batches.questions import collator_for
from cotbal.data.batches.row_lengths import RowLengths
from cotbal.data.files import default_cache
from cotbal.data.reading.records import open_records
from cotbal.data.sampling import kept_records
from cotbal.errors import CotbalError, DataError
from cotbal.jobs import evaluation_sets
from cotbal.jobs.inputs import open_inputs, warnings
from cotbal.loss import IGNORED
from cotbal.recipe.recipe import Recipe, load_recipe
from helpers.errors import names_all, raises
from helpers.plain_rows import valid_tokens
from helpers.tiny_families import FAMILIES, build
from helpers.tiny_vlm import mixture


@pytest.fixture
def recipe_path(tmp_path: Path) -> Path:
    path = mixture(tmp_path, {"short": 2, "long": 9})
    path.write_text(re.sub(r"max_new_tokens: \d+", "max_new_tokens: 16", path.read_text()))
    return path


class InProcess:
    """The processor here instead of in a process that takes seconds to start."""

    exact = True

    def __init__(self, recipe: Recipe, errors: Any) -> None:
        processor = load_processor(recipe.checkpoint, recipe.model.remote_code)
        measuring = RowLengths(collator_for(processor, recipe.images, recipe.model.max_length))
        self.lengths, self.rejected = measuring.lengths, measuring.rejected

    def close(self) -> None:
        pass


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lengths, "_ProcessorMeter", InProcess)


def store_lengths(base: Path) -> None:
    """Padding and truncation, as a tokenizer.json holds them that was saved while both were on."""
    path = base / "tokenizer.json"
    content = json.loads(path.read_text())
    content["padding"] = {
        "strategy": {"Fixed": 204},
        "direction": "Left",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": content["added_tokens"][0]["content"],
    }
    content["truncation"] = {
        "direction": "Left",
        "max_length": 3,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    path.write_text(json.dumps(content))


def first(path: Path, task: str) -> Row:
    records = open_records(path.parent / f"data/{task}_train.jsonl", path.parent / "cache")
    return Row(records[0], task, None)


def batches(path: Path, task: str) -> list[list[int]]:
    collator = Collator(
        load_processor(str(path.parent / "base"), False), path.parent / "images", 120
    )
    row = first(path, task)
    made = collator.training([row])
    prompt = collator.prompts([row])["input_ids"]
    return [
        made["input_ids"].tolist(),
        made["labels"].tolist(),
        prompt.tolist(),
        [valid_tokens(collator, row)],
    ]


def test_stored_padding_and_truncation_change_no_batch(recipe_path: Path) -> None:
    before = batches(recipe_path, "long")
    store_lengths(recipe_path.parent / "base")
    assert batches(recipe_path, "long") == before


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("exact", [True, False])
def test_stored_padding_and_truncation_change_no_count(
    recipe_path: Path, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On which exported weights and the plan rest."""
    if not exact:
        monkeypatch.setattr(lengths, "_installed", lambda package: package == "tokenizers")
    before = open_inputs(load_recipe(recipe_path)).tokens
    assert before == {"short": 3, "long": 10}
    store_lengths(recipe_path.parent / "base")
    assert open_inputs(load_recipe(recipe_path)).tokens == before


def test_stored_truncation_does_not_hide_long_turns(recipe_path: Path) -> None:
    base = recipe_path.parent / "base"
    asked = Asked("What is left of the big red drum?", "a tree")
    before = turn_counter(str(base))(asked)
    store_lengths(base)
    assert turn_counter(str(base))(asked) == before > 10


@pytest.mark.usefixtures("in_process")
def test_counts_honour_max_length_and_say_so(recipe_path: Path) -> None:
    recipe = load_recipe(recipe_path, ["model.max_length=52"])
    inputs = open_inputs(recipe)
    collator = Collator(load_processor(recipe.checkpoint, False), recipe.images, 52)
    labels = collator.training([first(recipe_path, "long")])["labels"]
    assert inputs.tokens == {"short": 3, "long": float((labels != IGNORED).sum())}
    (warning,) = [line for line in warnings(recipe, inputs) if "max_length" in line]
    lost = 240 - 24 * inputs.tokens["long"]
    assert 0 < lost < 240
    assert names_all(warning, "task long", "model.max_length = 52", f"{lost:.0f} of 240")


@pytest.mark.usefixtures("in_process")
def test_a_task_that_would_train_nothing_stops_the_plan(recipe_path: Path) -> None:
    with raises(DataError, "nothing-trained", "task short", "model.max_length = 44"):
        open_inputs(load_recipe(recipe_path, ["model.max_length=44"]))


@pytest.mark.usefixtures("in_process")
def test_probes_of_a_shorter_max_length_are_measured_too(recipe_path: Path) -> None:
    recipe = load_recipe(recipe_path, ["probes={model: {max_length: 52}}"])
    inputs = open_inputs(recipe)
    assert inputs.tokens == {"short": 3, "long": 10}
    (warning,) = [line for line in warnings(recipe, inputs) if "max_length" in line]
    assert names_all(warning, "probes", "task long", "model.max_length = 52")
    with raises(DataError, "nothing-trained", "task short", "model.max_length = 44"):
        open_inputs(load_recipe(recipe_path, ["probes={model: {max_length: 44}}"]))


def test_what_was_measured_once_is_not_measured_again(
    recipe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(recipe_path, ["model.max_length=53"])
    monkeypatch.setattr(lengths, "_ProcessorMeter", InProcess)
    before = open_inputs(recipe)
    monkeypatch.undo()
    monkeypatch.setattr(lengths.sys, "executable", "/bin/false")
    assert open_inputs(recipe).tokens == before.tokens
    with raises(CotbalError, "processor-failed"):
        open_inputs(load_recipe(recipe_path, ["model.max_length=54"]))


@pytest.mark.usefixtures("forked_measuring")
def test_a_processor_without_a_patch_size_is_one_sentence(recipe_path: Path) -> None:
    path = recipe_path.parent / "base" / "processor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "patch_size": None}))
    names = ("`patch_size`", "processor_config.json", "config.json: ")
    with raises(CotbalError, "broken-checkpoint", *names):
        load_processor(str(recipe_path.parent / "base"), False)
    fails_in_the_process(recipe_path, "broken-checkpoint", *names)


def fails_in_the_process(recipe_path: Path, code: str, *names: str) -> None:
    with open_meter(load_recipe(recipe_path)) as meter:
        assert meter is not None
        with raises(CotbalError, code, *names):
            meter.rejected(["red.png"])


def test_a_process_that_dies_is_an_error_with_its_last_line(
    recipe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lengths.sys, "executable", "/bin/false")
    fails_in_the_process(recipe_path, "processor-failed", "base")


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe for a Qwen2-VL, whose processor rejects images of 2000 x 8."""
    root = tmp_path_factory.mktemp("narrow")
    build(FAMILIES["qwen2_vl"], root / "base")
    (root / "images").mkdir()
    Image.new("RGB", (2000, 8)).save(root / "images" / "narrow.png")
    Image.new("RGB", (32, 32)).save(root / "images" / "a.png")
    turns = [{"from": "human", "value": "<image>\nwhat is it?"}, {"from": "gpt", "value": "a tree"}]
    for split in ("train", "validation"):
        (root / f"{split}.jsonl").write_text(
            "".join(
                json.dumps({"id": f"{split}{n}", "image": name, "conversations": turns}) + "\n"
                for n, name in enumerate(("a.png", "narrow.png", "a.png"))
            )
        )
    (root / "recipe.yaml").write_text(
        "name: narrow\nimages: images\nportions: {mini: 1/2}\n"
        "model: {checkpoint: base, dtype: float32}\n"
        "tasks: {ocr: {train: train.jsonl, validation: validation.jsonl}}\n"
    )
    return root / "recipe.yaml"


DRIVER = """
import subprocess, sys, os
argv = [sys.executable, "-m", "cotbal.data.batches.measuring", str(os.getpid())]
subprocess.Popen(argv, stdin=subprocess.PIPE).wait()
"""
SLOW = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(600)"


def test_it_ends_with_a_killed_command_while_it_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text(SLOW)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    started = tmp_path / "pid"
    with subprocess.Popen([sys.executable, "-c", DRIVER], cwd=tmp_path) as driver:
        while not (started.exists() and started.read_text()):
            time.sleep(0.05)
        process = psutil.Process(int(started.read_text()))
        driver.kill()
    process.wait(10)


def test_images_that_the_processor_rejects_are_found(narrow: Path) -> None:
    with open_meter(load_recipe(narrow)) as meter:
        assert meter is not None
        assert [*meter.rejected(["a.png", "narrow.png", "nowhere.png"])] == ["narrow.png"]
        records = open_records(narrow.parent / "train.jsonl", narrow.parent / "cache")
        measured = meter.lengths([(record, None) for record in records])
    assert isinstance(measured[0], Length)
    assert isinstance(measured[1], DataError)
    assert measured[1].code == "rejected-image"
    assert "2000 x 8" in str(measured[1])


def test_a_batch_with_a_rejected_image_names_the_record(narrow: Path) -> None:
    recipe = load_recipe(narrow)
    collator = Collator(load_processor(recipe.checkpoint, False), recipe.images, 2048)
    records = open_records(narrow.parent / "train.jsonl", narrow.parent / "cache")
    rows = [Row(record, "ocr", None) for record in records]
    for make in (collator.training, collator.prompts):
        with raises(RejectedImages, "rejected-image", "record 2 (train1)", "2000 x 8"):
            make(rows)


@pytest.mark.usefixtures("in_process")
def test_drop_leaves_rejected_images_out_of_the_plan_and_of_the_run(narrow: Path) -> None:
    recipe = load_recipe(narrow, ["on_missing_image=drop"])
    inputs = open_inputs(recipe)
    assert inputs.portions["ocr"].indices.tolist() == [0, 2]
    assert inputs.evaluation["ocr.validation"] == 2
    assert [line.partition(": ")[2].split()[0] for line in inputs.dropped] == ["rejected"] * 2
    path = recipe.mixture["ocr"].validation
    assert path is not None
    used = evaluation_sets.used_records(recipe, "ocr", "validation", path)
    assert [used.records[i].number for i in used.indices.tolist()] == [1, 3]


def test_policy_error_leaves_rejected_images_to_the_run(narrow: Path) -> None:
    records = open_records(narrow.parent / "train.jsonl", narrow.parent / "cache")
    kept, _ = kept_records(records, narrow.parent / "images", "error")
    assert kept.tolist() == [0, 1, 2]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """The number of records of every call that measures some; nothing was measured before."""
    monkeypatch.setenv("COTBAL_CACHE", str(tmp_path / "cache"))
    calls: list[int] = []
    real = InProcess.__init__

    def begin(self: InProcess, *settings: Any) -> None:
        real(self, *settings)
        measure = self.lengths
        self.lengths = lambda items: calls.append(len(items)) or measure(items)  # type: ignore

    monkeypatch.setattr(InProcess, "__init__", begin)
    monkeypatch.setattr(lengths, "_ProcessorMeter", InProcess)
    return calls


def test_lengths_that_another_user_wrote_are_not_read(
    recipe_path: Path, measured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(recipe_path)
    expected = open_inputs(recipe).tokens
    open_inputs(recipe)
    assert measured == [24, 24], "once per task"
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    folder = default_cache() / f"lengths-{user}"
    folder.rename(folder.with_name(f"lengths-{user + 1}"))  # theirs, under the name of ours
    assert open_inputs(recipe).tokens == expected
    assert measured == [24] * 4


def test_a_cache_that_cannot_be_written_ends_no_command(
    recipe_path: Path, measured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(lengths, "write_sealed", denied)
    recipe = load_recipe(recipe_path)
    assert open_inputs(recipe).tokens == open_inputs(recipe).tokens
    assert measured == [24] * 4


def test_images_are_measured_once_for_their_size(recipe_path: Path) -> None:
    recipe = load_recipe(recipe_path)
    collator = Collator(load_processor(recipe.checkpoint, False), recipe.images, 120)
    calls: list[int] = []
    real = Collator.training
    meter = RowLengths(collator)
    meter._whole.training = lambda rows: calls.append(1) or real(meter._whole, rows)  # type: ignore
    records = open_records(recipe_path.parent / "data/long_train.jsonl", recipe_path.parent / "c")
    meter.lengths([(record, None) for record in records])
    assert len(calls) == 1
