"""`prepare()` writes a complete benchmark: records, images, base, licences and a recipe that fits
them.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from cotbal.benchmarks import pocket
from cotbal.errors import CotbalError
from helpers.errors import raises

TASKS = ["caption", "region_caption", "vqa", "relation", "chart", "ocr", "grounding", "chat"]
SPLITS = {"train": 64, "validation": 32, "test": 32}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pocket.prepare(tmp_path_factory.mktemp("pocket"), size="tiny", report=lambda line: None)


def records(recipe: Path, task: str, split: str) -> list[dict]:
    lines = (recipe.parent / "data" / f"{task}_{split}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_recipe_names_files_that_exist_and_one_unbalanced_task(prepared: Path) -> None:
    recipe = yaml.safe_load(prepared.read_text())
    assert list(recipe["tasks"]) == TASKS
    for name, task in recipe["tasks"].items():
        assert task.get("balanced", True) == (name != "chat")
        for split, count in SPLITS.items():
            assert task[split] == f"data/{name}_{split}.jsonl"
            assert len(records(prepared, name, split)) == count
    assert (prepared.parent / recipe["model"]["checkpoint"] / "model.safetensors").exists()
    assert "CC BY-SA 4.0" in (prepared.parent / "LICENCES.md").read_text()


@pytest.mark.parametrize("task", TASKS)
def test_every_record_is_one_turn_with_one_image_that_opens(prepared: Path, task: str) -> None:
    for split in SPLITS:
        for record in records(prepared, task, split):
            human, answer = record["conversations"]
            assert (human["from"], answer["from"], record["task"]) == ("human", "gpt", task)
            assert answer["value"].strip()
            assert human["value"].count("<image>") == ("image" in record) == (task != "chat")
            if "image" in record:
                with Image.open(prepared.parent / "images" / record["image"]) as image:
                    image.load()
                    assert (image.size, image.mode) == ((48, 48), "RGB")


def test_splits_share_no_image(prepared: Path) -> None:
    seen: dict[str, set[str]] = defaultdict(set)
    for split in SPLITS:
        for path in (prepared.parent / "images" / split).iterdir():
            seen[digest(path)].add(split)
    assert len(seen) == 3 * sum(SPLITS.values())
    assert all(len(splits) == 1 for splits in seen.values())


def test_splits_share_no_record_id_and_no_chat_question(prepared: Path) -> None:
    for task in TASKS:
        ids = [record["id"] for split in SPLITS for record in records(prepared, task, split)]
        assert len(set(ids)) == sum(SPLITS.values())
    questions = {
        split: {record["conversations"][0]["value"] for record in records(prepared, "chat", split)}
        for split in SPLITS
    }
    assert len(set.union(*questions.values())) == sum(len(asked) for asked in questions.values())


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_ones(
    prepared: Path, tmp_path: Path
) -> None:
    again = pocket.prepare(tmp_path / "again", size="tiny", report=lambda line: None)
    other = pocket.prepare(tmp_path / "other", size="tiny", seed=1, report=lambda line: None)
    relative = sorted(
        path.relative_to(prepared.parent) for path in prepared.parent.rglob("*") if path.is_file()
    )
    assert [digest(again.parent / path) for path in relative] == [
        digest(prepared.parent / path) for path in relative
    ]
    for name in (
        "data/ocr_train.jsonl",
        "data/chat_test.jsonl",
        "images/validation/chart_000000.png",
    ):
        assert digest(other.parent / name) != digest(prepared.parent / name)


def test_a_second_call_returns_at_once_and_another_size_is_rejected(prepared: Path) -> None:
    said: list[str] = []
    assert pocket.prepare(prepared.parent, size="tiny", report=said.append) == prepared
    assert said == []
    with raises(CotbalError, "changed-settings", "size tiny, seed 0"):
        pocket.prepare(prepared.parent, size="demo", report=said.append)
    with raises(CotbalError, "invalid-option", "demo, study, tiny", "huge"):
        pocket.prepare(prepared.parent, size="huge", report=said.append)


def test_an_interrupted_preparation_is_done_again(prepared: Path, tmp_path: Path) -> None:
    recipe = pocket.prepare(tmp_path, size="tiny", report=lambda line: None)
    recipe.unlink()
    (tmp_path / "data" / "vqa_test.jsonl").write_text("half a line")
    assert pocket.prepare(tmp_path, size="tiny", report=lambda line: None) == recipe
    assert digest(tmp_path / "data" / "vqa_test.jsonl") == digest(
        prepared.parent / "data" / "vqa_test.jsonl"
    )


def test_base_loads_expands_the_image_and_masks_all_but_the_answer(prepared: Path) -> None:
    base = prepared.parent / "base"
    assert (base / "model.safetensors").stat().st_size < 10_000_000
    processor = AutoProcessor.from_pretrained(base)
    model = AutoModelForImageTextToText.from_pretrained(base)
    assert 1_000_000 < sum(parameter.numel() for parameter in model.parameters()) < 2_000_000
    record = records(prepared, "grounding", "train")[0]
    question, answer = (turn["value"] for turn in record["conversations"])
    messages = [
        {
            "role": "user",
            "content": [
                {"type": "image"},
                {"type": "text", "text": question.removeprefix("<image>\n")},
            ],
        },
        {"role": "assistant", "content": [{"type": "text", "text": answer}]},
    ]
    text = processor.apply_chat_template(messages, tokenize=False)
    with Image.open(prepared.parent / "images" / record["image"]) as image:
        batch = processor(text=[text], images=[image.convert("RGB")], return_tensors="pt")
    assert (batch["input_ids"] == processor.image_token_id).sum() == 36
    assert batch["pixel_values"].shape == (1, 3, 48, 48)
    with torch.no_grad():
        logits = model(**batch).logits
    assert logits.shape[:2] == batch["input_ids"].shape
    assert torch.isfinite(logits).all()
    masked = processor.tokenizer.apply_chat_template(
        messages,
        chat_template=processor.chat_template,
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    kept = [
        token
        for token, mask in zip(masked["input_ids"], masked["assistant_masks"], strict=True)
        if mask
    ]
    assert processor.tokenizer.decode(kept) == f"{answer}<|end|>"


@pytest.mark.parametrize("task", TASKS)
def test_every_word_of_the_records_is_one_token_or_falls_apart_into_known_characters(
    prepared: Path, task: str
) -> None:
    tokenizer = AutoProcessor.from_pretrained(prepared.parent / "base").tokenizer
    for record in records(prepared, task, "test"):
        for turn in record["conversations"]:
            text = turn["value"].removeprefix("<image>\n")
            ids = tokenizer.encode(text, add_special_tokens=False)
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.decode(ids) == text
            assert len(ids) <= 30
