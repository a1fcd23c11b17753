"""`cotbal prepare custom`: the metric and the answer length that suit the right answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cotbal.benchmarks import custom
from cotbal.benchmarks.custom.answers import suited
from cotbal.errors import DataError
from cotbal.recipe.recipe import load_recipe
from helpers.errors import names_all, raises
from helpers.raw_mixtures import own_images
from helpers.raw_releases import as_json
from helpers.shell import cotbal


def silent(what: str, done: int, total: int) -> None:
    pass


def made(raw: Path, answers: list[str], **options: Any) -> Path:
    """The recipe for one question per answer."""
    own_images(raw / "images", len(answers))
    turns = [{"from": "human", "value": "Where is it?"}, {"from": "gpt", "value": ""}]
    as_json(
        raw / "boxes.json",
        [
            {"image": f"{n}.jpg", "conversations": [turns[0], {**turns[1], "value": answer}]}
            for n, answer in enumerate(answers)
        ],
    )
    places, choices = custom.Places(raw, raw.parent / "out"), custom.Choices(validation=2)
    return custom.prepare(places, choices, silent, **options).recipe


@pytest.mark.parametrize(
    ("answer", "metric", "tokens"),
    [
        ("红色", "exact_match", 32),
        ("两个红苹果", "exact_match", 32),
        ("一个男人在海滩上骑马", "cider", 256),
        ("桟橋でアオサギが待っている", "cider", 256),
        ("東京タワー", "exact_match", 32),
        ("สีแดง", "exact_match", 32),
        ("ผู้ชายสองคน", "exact_match", 256),
        ("ผู้ชายคนหนึ่งกำลังขี่ม้าอยู่บนชายหาด", "cider", 256),
        ("말 두 마리", "exact_match", 32),
        ("Two red apples", "exact_match", 32),
        ("A" * 600, "exact_match", 256),
        ("A" * 601, "exact_match", 1024),
    ],
)
def test_captions_in_scripts_without_spaces(
    tmp_path: Path, answer: str, metric: str, tokens: int
) -> None:
    recipe = load_recipe(made(tmp_path / "raw", [answer] * 5))
    assert recipe.mixture["boxes"].metric == metric
    assert recipe.file.generation.max_new_tokens == tokens


@pytest.mark.parametrize(
    "box", ["[0.1, 0.2, 0.3, 0.4]", "[100, 200, 300, 400]", "[-3,0,12.5,9]", "[0, 0, 999, 1000]"]
)
def test_corners_in_any_unit_are_boxes(tmp_path: Path, box: str) -> None:
    recipe = load_recipe(made(tmp_path / "raw", [box] * 5))
    assert recipe.mixture["boxes"].metric == "box_iou"


COCO_FORM = "if it is x, y, width and height, the form of COCO, write [x, y, x + width, y + height]"


@pytest.mark.parametrize("metrics", [None, {"boxes": "box_iou"}])
def test_boxes_in_the_form_of_coco_are_an_error(tmp_path: Path, metrics: Any) -> None:
    """One that cannot be corners tells that the others are none either, trained on or not."""
    boxes = ["[10, 20, 300, 400]"] * 5
    boxes[4] = "[300, 20, 40, 50]"
    with raises(DataError, "invalid-box", "record ", "'[300", COCO_FORM):
        made(tmp_path / "raw", boxes, metrics=metrics)


@pytest.mark.parametrize("flat", ["[10, 20, 10, 400]", "[0, 0, 0, 0]"])
def test_a_box_whose_edges_meet_is_an_error_in_evaluation_alone(tmp_path: Path, flat: str) -> None:
    def prepared(*validation: str) -> Path:
        turns = [{"from": "human", "value": "Where is it?"}, {"from": "gpt", "value": ""}]
        for split, boxes in (("train", [flat]), ("val", validation)):
            said = [[turns[0], {**turns[1], "value": box}] for box in boxes]
            as_json(tmp_path / f"raw/{split}.json", [{"conversations": turns} for turns in said])
        out = tmp_path / f"out{len(validation)}"
        places, choices = custom.Places(tmp_path / "raw", out), custom.Choices()
        return custom.prepare(places, choices, silent).recipe

    assert load_recipe(prepared("[10, 20, 300, 400]")).mixture["raw"].metric == "box_iou"
    with raises(DataError, "invalid-box", "raw_validation.jsonl, record 2"):
        prepared("[10, 20, 300, 400]", flat)


@pytest.mark.parametrize(
    "box",
    [
        "(100,200),(300,400)",
        "[(100, 200), (300, 400)]",
        "<box>(100,200),(300,400)</box>",
        "<|box_start|>(100,200),(300,400)<|box_end|>",
        "<box>[[100, 200, 300, 400]]</box>",
        "(0.1, 0.2, 0.3, 0.4)",
        "0.1, 0.2, 0.3, 0.4",
        "<loc0100><loc0200><loc0300><loc0400>",
    ],
)
def test_boxes_in_another_form_are_an_error(box: str) -> None:
    with raises(DataError, "invalid-box", "boxes", "--metric boxes"):
        suited([box] * 3, "boxes")


@pytest.mark.parametrize("answer", ["192.168.1.1", "1, 2 and 3", "(A)", "[1, 2]", "10:20, 30:40"])
def test_numbers_that_are_no_box(answer: str) -> None:
    assert suited([answer] * 3, "ocr")[0] == "exact_match"


def test_check_reports_references_that_are_no_corners(tmp_path: Path) -> None:
    recipe = made(tmp_path / "raw", ["[10, 20, 300, 400]"] * 5)
    path = recipe.parent / "data/boxes_validation.jsonl"
    path.write_text(path.read_text().replace("[10, 20, 300, 400]", "[300, 20, 40, 50]"))
    output = cotbal("check", recipe, code=2)
    assert names_all(output, f"{path}, record 1: box_iou", "[x1, y1, x2, y2] with x1 < x2")
    assert COCO_FORM in output
