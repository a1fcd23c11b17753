"""What `cotbal prepare stamps` writes: records, recipe and licences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from cotbal.benchmarks import stamps
from cotbal.benchmarks.stamps import chat, tasks, written
from cotbal.benchmarks.stamps.packages import MIXTURE_PACKAGES, MODEL_PACKAGES
from cotbal.benchmarks.stamps.things import Thing
from cotbal.errors import CotbalError
from cotbal.recipe.recipe import load_recipe
from helpers.errors import raises

SIZES = {"train": 3, "validation": 2, "test": 1}


def test_records_are_conversations_with_their_image(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 8), "red")
    stamps.write_task(
        tmp_path, "vqa", SIZES, lambda split, at: tasks.Example(f"What {at}?", split, image)
    )
    lines = (tmp_path / "data/vqa_train.jsonl").read_text().splitlines()
    assert len(lines) == 3
    record = json.loads(lines[2])
    assert record["task"] == "vqa"
    assert record["conversations"] == [
        {"from": "human", "value": "<image>\nWhat 2?"},
        {"from": "gpt", "value": "train"},
    ]
    with Image.open(tmp_path / "images" / record["image"]) as saved:
        assert saved.size == (8, 8)
    assert stamps.is_written(tmp_path, "vqa", SIZES)
    assert not stamps.is_written(tmp_path, "vqa", {**SIZES, "train": 4})


def test_records_without_image_end_where_the_source_ends(tmp_path: Path) -> None:
    stamps.write_task(
        tmp_path, "text", SIZES, lambda _, at: tasks.Example("Why?", "so", None) if at < 2 else None
    )
    records = [
        json.loads(line) for line in (tmp_path / "data/text_train.jsonl").read_text().splitlines()
    ]
    assert len(records) == 2
    assert all("image" not in record for record in records)
    assert records[0]["conversations"][0]["value"] == "Why?"


def test_the_written_recipe_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(written.recipe_text(list(tasks.MAKERS), stamps.TEXT_TASK), encoding="utf-8")
    recipe = load_recipe(path)
    assert [task.name for task in recipe.mixture.tasks] == [*tasks.MAKERS, "text_chat"]
    assert [task.name for task in recipe.mixture.tasks if not task.balanced] == ["text_chat"]
    assert recipe.model.language == "lora"
    assert recipe.model.vision == "frozen"


def test_licences_name_every_package() -> None:
    text = written.licences_text()
    for package in (*MIXTURE_PACKAGES, *MODEL_PACKAGES):
        assert f"| {package.name} | {package.version} |" in text
        assert package.sha256 in text


def test_everything_is_kept_when_it_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"train": 80, "validation": 20, "test": 20}
    for name in (*tasks.MAKERS, stamps.TEXT_TASK):
        stamps.write_task(tmp_path, name, sizes, lambda *_: tasks.Example("Q?", "a", None))
    (tmp_path / "recipe.yaml").write_text("mine")
    monkeypatch.setattr(stamps, "provide", lambda *_: pytest.fail("nothing is missing"))
    assert stamps.prepare(tmp_path, size="small", report=lambda _: None) == tmp_path / "recipe.yaml"
    assert (tmp_path / "recipe.yaml").read_text() == "mine"


def test_chat_is_split_without_overlap() -> None:
    pairs = [(f"q{n}", f"a{n}") for n in range(50)]
    shares = chat.split_chat(pairs, {"train": 60, "validation": 20, "test": 20}, seed=1)
    assert {split: len(part) for split, part in shares.items()} == {
        "train": 30,
        "validation": 10,
        "test": 10,
    }
    assert len({pair for part in shares.values() for pair in part}) == 50


def test_signs_show_single_words() -> None:
    from cotbal.benchmarks.stamps.signs import lexicon

    names = ["cow", "red panda", "ox", "hippopotamus", "tiger"]
    assert lexicon([Thing(n, "x", "", "x", Path("x"), True) for n in names], seed=0) == [
        "cow",
        "tiger",
    ]


def test_an_unknown_size_is_rejected(tmp_path: Path) -> None:
    with raises(CotbalError, "invalid-option", "full, small", "huge"):
        stamps.prepare(tmp_path, size="huge")
