"""Forms that hold a part of a benchmark: the authors' own annotations (VisATB), and copies of
lmms-lab for testing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cotbal.benchmarks import academic, chat, large
from cotbal.benchmarks.releases.benchmark import Prepared, SplitPlan
from cotbal.benchmarks.releases.gallery import Gallery
from cotbal.benchmarks.releases.sources import Choices, Job
from cotbal.errors import DataError
from cotbal.recipe.recipe import load_recipe
from helpers import raw_hub, raw_mixtures, raw_releases
from helpers.errors import raises
from helpers.raw_hub import visatb, visatb_records

ONE_WORD = "\nAnswer the question using a single word or phrase."
Records = list[dict[str, Any]]


def silent(what: str, done: int, total: int) -> None:
    pass


def made(raw: Path, task: str, **choices: Any) -> dict[str, Records]:
    places = academic.Places(raw, raw.parent / "out")
    return records(
        academic.prepare(places, academic.Choices(**choices), silent, tasks=[task]),
        raw.parent / "out",
    )


def records(prepared: Prepared, out: Path) -> dict[str, Records]:
    return {
        s.split: [json.loads(line) for line in (out / s.file).read_text().splitlines()]
        for s in prepared.splits
    }


def split_of(task: str, split: str) -> SplitPlan:
    plan = next(plan for plan in academic.plans() if plan.name == task)
    return next(part for part in plan.splits if part.name == split)


def read(raw: Path, task: str, split: str, form: str) -> Records:
    """The records of one split in one form, whatever else is missing."""
    source = next(source for source in split_of(task, split).sources if source.form == form)
    job = Job(Choices(), Gallery(raw.parent / "images", raw / "images"), silent)
    return [conversation.record(task) for conversation in source.read(source.find(raw), job)]


def said(record: dict[str, Any]) -> list[Any]:
    return [turn["value"] for turn in record["conversations"]]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


def test_the_authors_records_are_read_as_they_are(raw: Path) -> None:
    merged = {"id": "2354786", "task": "GQA", "image": "gqa/images/2354786.jpg"}
    texts = (f"Where is the fork?{ONE_WORD}\n<image>", "Right", "Is it full?", "No")
    one = visatb_records("GQA", "gqa/images/2354786.jpg", ("Is it red?", "Yes"))
    visatb(
        raw,
        "Academic",
        {
            "train/GQA_train-72k.json": [{**merged, "conversations": raw_releases.talk(*texts)}],
            "train/GQA-plus-mini_train-83k.json": [],
            "val/GQA_val-20k.json": one,
            "test/GQA_test-13k.json": one,
        },
    )
    raw_releases.write_image(raw, "gqa/images/2354786.jpg")
    splits = made(raw, "GQA", prefer="visatb")
    assert said(splits["train"][0]) == [
        f"<image>\nWhere is the fork?{ONE_WORD}",
        "Right",
        "Is it full?",
        "No",
    ]
    assert (splits["train"][0]["id"], splits["train"][0]["image"]) == (
        "2354786",
        "gqa/images/2354786.jpg",
    )
    assert [said(r) for r in splits["validation"]] == [["<image>\nIs it red?", "Yes"]]
    assert splits["testdev"][0]["id"].startswith("test_")


def test_the_original_release_comes_first(raw: Path) -> None:
    raw_releases.gqa(raw)
    visatb(
        raw,
        "Academic",
        {"train/GQA_train-72k.json": visatb_records("GQA", "gqa/images/1.jpg", ("a", "b"))},
    )
    assert len(made(raw, "GQA")["train"]) == 2


@pytest.mark.parametrize(
    ("row", "code", "name"),
    [
        ({"task": "VQAv2"}, "unknown-value", "'VQAv2'"),
        ({"mood": "sad"}, "unknown-key", "'mood'"),
        ({"conversations": [{"from": "human", "value": "x"}]}, "invalid-turns", "human"),
        ({"image": "../../etc/passwd"}, "invalid-name", "'../../etc/passwd'"),
        ({"task": None}, "wrong-type", "task"),
        ({"image": None}, "missing-key", "image"),
    ],
)
def test_the_authors_records_of_another_kind_are_rejected(
    raw: Path, row: dict[str, Any], code: str, name: str
) -> None:
    (good,) = visatb_records("GQA", "gqa/images/1.jpg", ("a", "b"))
    visatb(raw, "Academic", {"train/GQA_train-72k.json": [{**good, **row}]})
    with raises(DataError, code, "record 1", name):
        read(raw, "GQA", "train", "visatb")


def test_an_evaluation_record_of_several_turns_is_rejected(raw: Path) -> None:
    rows = visatb_records("GQA", "gqa/images/1.jpg", ("a", "b"))
    rows[0]["conversations"] *= 2
    visatb(raw, "Academic", {"val/GQA_val-20k.json": rows})
    with raises(DataError, "invalid-turns", "record 1"):
        read(raw, "GQA", "validation", "visatb")


def test_several_right_answers_stay_several(raw: Path) -> None:
    rows = visatb_records("OCRVQA", "ocr_vqa/images/1.jpg", ("Who?", ["Ada ", "A. Quill"]))
    visatb(raw, "Academic", {"val/OCRVQA_val-20k.json": rows})
    assert said(read(raw, "OCRVQA", "validation", "visatb")[0])[1] == ["Ada", "A. Quill"]


def test_sharegpt_is_found_among_all_tasks(raw: Path) -> None:
    rows = visatb_records("GQA", "gqa/images/1.jpg", ("Is it red?", "Yes"))
    rows += visatb_records(
        "ShareGPT", None, ("How deep is a well?", "It depends."), ("Sing.", "La.")
    )
    visatb(
        raw,
        "Academic",
        {"train/Academic_train-475k.json": rows, "train/Academic-mini_train-14k.json": []},
    )
    splits = made(raw, "ShareGPT", prefer="visatb")
    assert [said(r) for r in splits["train"]] == [
        ["How deep is a well?", "It depends."],
        ["Sing.", "La."],
    ]


def test_the_authors_draw_of_sharegpt4v_is_taken_whole_or_not_at_all(raw: Path) -> None:
    """Their training records with our held-out images would be a leak."""
    raw_releases.sharegpt4v(raw)
    rows = visatb_records("ShareGPT4V", "sam/images/sa_545504.jpg", ("Describe it.", "Birds."))
    visatb(raw, "Academic", {"train/ShareGPT4V_train-98k.json": rows})
    assert [len(rows) for rows in made(raw, "ShareGPT4V", prefer="visatb").values()] == [2, 2, 2]
    for split in ("val", "test"):
        visatb(raw, "Academic", {f"{split}/ShareGPT4V_{split}-2k.json": rows})
    (raw.parent / "out/data/ShareGPT4V.json").unlink()
    assert [len(rows) for rows in made(raw, "ShareGPT4V", prefer="visatb").values()] == [1, 1, 1]


def test_splits_whose_counterpart_would_overlap_or_is_unknown_have_no_such_form() -> None:
    forms = {(task, s.name): {source.form for source in s.sources} for task, s in every_split()}
    assert all("visatb" in prepared for (_, split), prepared in forms.items() if split == "train")
    for task in ("VQAv2", "RefCOCO-caption", "RefCOCO-bbox"):
        assert not any(
            "visatb" in prepared
            for (name, s), prepared in forms.items()
            if name == task and s != "train"
        )


def every_split() -> Iterator[tuple[str, SplitPlan]]:
    for plan in academic.plans():
        for split in plan.splits:
            yield plan.name, split


def test_the_authors_chat_records_are_read_by_task(raw: Path) -> None:
    raw_mixtures.chat(raw)
    for name, task in (("complex-reasoning", "complex_reasoning"), ("detail", "detail")):
        rows = visatb_records(task, "coco/train2017/000000442786.jpg", ("Why?", f"For {task}."))
        visatb(
            raw,
            "Chat",
            {f"train/{name}_train-77k.json": rows, f"train/{name}-mini_train-2k.json": []},
        )
    places = chat.Places(raw, raw.parent / "out")
    prepared = chat.prepare(
        places, chat.Choices(prefer="visatb"), silent, tasks=["detail", "complex_reasoning"]
    )
    assert [(s.task, s.form) for s in prepared.splits if s.split == "train"] == [
        ("detail", "visatb"),
        ("complex_reasoning", "visatb"),
    ]
    assert [t.name for t in load_recipe(prepared.recipe).mixture.tasks] == [
        "detail",
        "complex_reasoning",
    ]


def test_the_error_says_why_the_authors_large_files_are_not_read(raw: Path) -> None:
    visatb(raw, "Large", {"train/captioning_train-679k.json": []})
    with raises(DataError, "missing-file", "COCO train", "YanqiDai/VisATB"):
        large.prepare(
            large.Places(raw, raw.parent / "out"), large.Choices(), silent, tasks=["COCO"]
        )


@pytest.mark.parametrize("coco", [True, False])
@pytest.mark.parametrize("split", ["RefCOCO_testA", "RefCOCO_testB", "RefCOCOg_test"])
def test_test_regions_of_lmms_lab_are_those_of_the_release(
    raw: Path, split: str, coco: bool
) -> None:
    raw_hub.lmms_refcoco(raw, coco)
    original = raw.parent / "original"
    raw_releases.refcoco(original)
    for task in ("RefCOCO-caption", "RefCOCO-bbox"):
        ours, theirs = read(raw, task, split, "lmms"), read(original, task, split, "original")
        assert [r["image"] for r in ours] == [r["image"] for r in theirs] != []
        index = (
            1 if task == "RefCOCO-caption" else 0
        )  # the other text is the box, which the copy has made smaller
        assert [said(r)[index] for r in ours] == [said(r)[index] for r in theirs]


def test_the_box_of_lmms_lab_is_measured_in_its_image(raw: Path) -> None:
    """The portrait image of 400 x 500: 50 pixels left and right of it; by hand (64 + 31 + 50) /
    500 = 0.29.
    """
    raw_hub.lmms_refcoco(raw)
    (record,) = read(raw, "RefCOCO-bbox", "RefCOCOg_test", "lmms")
    assert said(record)[1] == "[0.29, 0.1, 0.49, 0.29]"
    assert (raw.parent / "images" / record["image"]).read_bytes() == raw_releases.drawing(
        "navy", size=(400, 500)
    )


@pytest.mark.parametrize(
    ("changed", "code", "name"),
    [
        ({"bbox": [64.0, 48.5, 400.0, 96.0]}, "invalid-box", "200 x 200"),
        ({"bbox": [0.1, 0.2, 0.3]}, "invalid-box", "bbox"),
        ({"file_name": "000000700001.jpg"}, "invalid-name", "'000000700001.jpg'"),
        ({"image": {"bytes": b"none", "path": None}}, "missing-image", "row 1"),
        ({"mood": "sad"}, "unknown-key", "'mood'"),
    ],
)
def test_other_regions_of_lmms_lab_are_rejected(
    raw: Path, changed: dict[str, Any], code: str, name: str
) -> None:
    row = raw_hub.lmms_region(1, 700001, ["a cat"], **changed)
    raw_releases.as_parquet(raw / "lmms-lab/RefCOCO/data/testA-00000-of-00001.parquet", [row])
    with raises(DataError, code, name):
        read(raw, "RefCOCO-bbox", "RefCOCO_testA", "lmms")


def test_training_and_validation_have_no_form_of_lmms_lab() -> None:
    for split in ("train", "validation"):
        assert "lmms" not in {source.form for source in split_of("RefCOCO-bbox", split).sources}


def test_chartqa_of_lmms_lab_is_tested_on_like_the_release(raw: Path) -> None:
    raw_hub.lmms_chartqa(raw)
    original = raw.parent / "original"
    raw_releases.chartqa(original)
    ours, theirs = (
        read(raw, "ChartQA", "test", "lmms"),
        read(original, "ChartQA", "test", "original"),
    )
    assert [said(r) for r in ours] == [said(r) for r in theirs]
    rows = [
        {
            "type": "robot_test",
            "question": "q",
            "answer": "a",
            "image": {"bytes": b"", "path": None},
        }
    ]
    raw_releases.as_parquet(raw / "lmms-lab/ChartQA/data/test-00000-of-00001.parquet", rows)
    with raises(DataError, "unknown-value", "row 1", "robot_test"):
        read(raw, "ChartQA", "test", "lmms")
