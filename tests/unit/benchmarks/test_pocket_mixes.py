"""The mixes of `pocket`: `skewed` and `dominated` training data, clean evaluation, and `equal`
unchanged.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
import yaml
from transformers import AutoProcessor

from cotbal.benchmarks import pocket
from cotbal.benchmarks.pocket.drawings import Placed
from cotbal.benchmarks.pocket.mixes import detailed_caption, with_wrong_answers
from cotbal.benchmarks.pocket.scenes import Scene, random_scene
from cotbal.errors import CotbalError
from cotbal.metrics import cider
from helpers.errors import raises

COUNTS = {
    "caption": 64,
    "region_caption": 64,
    "vqa": 64,
    "relation": 4,
    "chart": 64,
    "ocr": 16,
    "grounding": 64,
    "chat": 16,
}
# SHA-256 over the records and the recipe of the tiny size as they were before there were mixes.
EQUAL = "3f658a0b6873e84d72df32f2c85d0125288a2fc019fe0ced0cbcc827d91df47c"


def prepare(directory: Path, mix: str) -> Path:
    return pocket.prepare(directory, size="tiny", mix=mix, report=lambda line: None)


@pytest.fixture(scope="module")
def equal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("equal"), "equal")


@pytest.fixture(scope="module")
def skewed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("skewed"), "skewed")


def text(recipe: Path, task: str, split: str) -> str:
    return (recipe.parent / "data" / f"{task}_{split}.jsonl").read_text()


def records(recipe: Path, task: str, split: str) -> list[dict]:
    return [json.loads(line) for line in text(recipe, task, split).splitlines()]


def answers(rows: list[dict]) -> list[str]:
    return [row["conversations"][1]["value"] for row in rows]


def test_the_equal_mix_is_what_it_was_byte_for_byte(equal: Path) -> None:
    digest = hashlib.sha256()
    for path in [*sorted((equal.parent / "data").iterdir()), equal]:
        digest.update(path.read_bytes())
    assert digest.hexdigest() == EQUAL


def test_images_are_those_of_the_equal_mix(equal: Path, skewed: Path) -> None:
    images = sorted((equal.parent / "images").rglob("*.png"))
    assert images
    for image in images:
        other = skewed.parent / "images" / image.relative_to(equal.parent / "images")
        assert other.read_bytes() == image.read_bytes()


def test_record_counts_are_one_to_sixteen(skewed: Path) -> None:
    assert {task: len(records(skewed, task, "train")) for task in COUNTS} == COUNTS
    assert max(COUNTS.values()) == 16 * min(COUNTS.values())


def test_one_task_dominates_with_eight_times_the_records_of_each_other(
    equal: Path, tmp_path: Path
) -> None:
    dominated = prepare(tmp_path, "dominated")
    for task in COUNTS:
        rows = records(equal, task, "train")
        assert records(dominated, task, "train") == rows[: 64 if task == "vqa" else 8]
        assert text(dominated, task, "test") == text(equal, task, "test")


@pytest.mark.parametrize("task", [task for task in COUNTS if task != "caption"])
def test_evaluation_is_that_of_the_equal_mix(equal: Path, skewed: Path, task: str) -> None:
    for split in ("validation", "test"):
        assert text(skewed, task, split) == text(equal, task, split)


def test_two_fifths_of_the_answers_about_regions_belong_to_other_records(
    equal: Path, skewed: Path
) -> None:
    right, given = (records(recipe, "region_caption", "train") for recipe in (equal, skewed))
    wrong = [a != b for a, b in zip(answers(right), answers(given), strict=True)]
    assert sum(wrong) == 25
    assert Counter(answers(right)) == Counter(answers(given))
    questions = [[row["conversations"][0] for row in rows] for rows in (right, given)]
    assert questions[0] == questions[1]


def test_copies_are_equal_but_for_their_ids(equal: Path, skewed: Path) -> None:
    rows = records(skewed, "vqa", "train")
    contents = Counter(json.dumps({**row, "id": ""}) for row in rows)
    assert len({row["id"] for row in rows}) == len(rows)
    assert set(contents.values()) == {4}
    assert rows[:16] == records(equal, "vqa", "train")[:16]


def test_rare_tasks_have_the_first_records_of_the_equal_mix(equal: Path, skewed: Path) -> None:
    for task in ("relation", "ocr", "chat"):
        rows = records(skewed, task, "train")
        assert rows == records(equal, task, "train")[: COUNTS[task]]


def test_captions_are_ten_times_as_long_as_the_other_answers(skewed: Path) -> None:
    tokenizer = AutoProcessor.from_pretrained(skewed.parent / "base").tokenizer
    lengths = {}
    for task in COUNTS:
        encoded = [tokenizer.encode(answer) for answer in answers(records(skewed, task, "test"))]
        assert not any(tokenizer.unk_token_id in ids for ids in encoded)
        lengths[task] = [len(ids) + 1 for ids in encoded]  # and the end of the turn
    means = {task: np.mean(numbers) for task, numbers in lengths.items()}
    others = np.mean([mean for task, mean in means.items() if task != "caption"])
    assert 9 < means["caption"] / others < 11
    recipe = yaml.safe_load(skewed.read_text())
    assert max(lengths["caption"]) < recipe["generation"]["max_new_tokens"]


def test_a_caption_says_what_is_in_the_picture_in_changing_words() -> None:
    scene = Scene("blue", 0, (Placed("frog", (2, 20, 22, 40), big=True),))
    captions = {detailed_caption(scene, Random(seed)).answer for seed in range(100)}
    assert len(captions) > 50
    for caption in captions:
        assert "a big frog left, " in caption
        assert "animal" in caption
        assert "blue" in caption


def test_right_content_in_other_words_scores_far_above_wrong_content() -> None:
    scenes = [random_scene(Random(seed)) for seed in range(100)]
    captions = [detailed_caption(scene, Random(seed)).answer for seed, scene in enumerate(scenes)]
    reworded = [detailed_caption(scene, Random(1000 + i)).answer for i, scene in enumerate(scenes)]
    references = [[caption] for caption in captions]
    assert cider.score(reworded, references).mean() > 4
    assert cider.score([*reworded[1:], reworded[0]], references).mean() < 1


def test_wrong_answers_are_moved_between_the_chosen_records() -> None:
    rows = [
        {"id": str(i), "conversations": [{"value": f"q{i}"}, {"value": f"a{i}"}]} for i in range(10)
    ]
    changed = with_wrong_answers(rows, 4, Random(0))
    differing = [i for i in range(10) if changed[i] != rows[i]]
    assert len(differing) == 4
    assert {changed[i]["conversations"][1]["value"] for i in differing} == {
        f"a{i}" for i in differing
    }
    assert [row["conversations"][0] for row in changed] == [row["conversations"][0] for row in rows]
    assert answers(rows) == [f"a{i}" for i in range(10)]


def test_a_directory_keeps_its_mix_and_an_unknown_one_is_rejected(
    skewed: Path, tmp_path: Path
) -> None:
    assert prepare(skewed.parent, "skewed") == skewed
    with raises(CotbalError, "changed-settings", "mix skewed"):
        prepare(skewed.parent, "equal")
    with raises(CotbalError, "invalid-option", "equal, skewed", "'other'"):
        prepare(tmp_path, "other")
