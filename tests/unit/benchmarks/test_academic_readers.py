"""Every reader of the Academic Benchmark against a hand-made release in each of its forms."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from cotbal.benchmarks import academic
from cotbal.benchmarks.academic.regions import box_text
from cotbal.benchmarks.academic.sharegpt import cleaned
from cotbal.benchmarks.releases.conversation import Asked
from cotbal.errors import DataError
from helpers import raw_releases as raw_files
from helpers.errors import raises

ONE_WORD = "\nAnswer the question using a single word or phrase."
Splits = Mapping[str, list[dict[str, Any]]]


def silent(what: str, done: int, total: int) -> None:
    pass


def prepared(raw: Path, out: Path, task: str, **choices: Any) -> Splits:
    """The records of every split of one task, by split."""
    made = academic.prepare(
        academic.Places(raw, out), academic.Choices(**choices), silent, tasks=[task]
    )
    return {
        s.split: [json.loads(line) for line in (out / s.file).read_text().splitlines()]
        for s in made.splits
    }


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Splits]:
    """`make(task, *releases, **choices)`: write the releases, prepare the task."""

    def made(task: str, *releases: Callable[[Path], None], **choices: Any) -> Splits:
        for release in releases:
            release(tmp_path / "raw")
        return prepared(tmp_path / "raw", tmp_path / "out", task, **choices)

    return made


Make = Callable[..., Splits]


def said(record: Mapping[str, Any]) -> list[str]:
    return [turn["value"] for turn in record["conversations"]]


def test_vqav2_merges_by_image_in_the_order_of_the_questions(make: Make) -> None:
    splits = make("VQAv2", raw_files.vqav2)
    first, second = splits["train"]
    stem = f"{raw_files.LIGHT:012d}"
    assert (first["id"], first["image"], first["task"]) == (
        stem,
        f"coco/train2017/{stem}.jpg",
        "VQAv2",
    )
    assert said(first) == [
        f"<image>\nWhat hangs over the door?{ONE_WORD}",
        "Lamp",
        "How many steps are there?",
        "3",
    ]
    assert said(second) == [f"<image>\nIs it raining?{ONE_WORD}", "No"]


def test_vqav2_evaluates_on_two_draws_without_a_common_question(make: Make) -> None:
    splits = make("VQAv2", raw_files.vqav2)
    ids = [
        {record["id"].rpartition("_")[2] for record in splits[name]}
        for name in ("validation", "val2014_rest")
    ]
    assert ids[0] | ids[1] == {str(number) for number, _, _ in raw_files.vqav2_questions("val2014")}
    assert not ids[0] & ids[1]
    images = {record["image"] for name in ("validation", "val2014_rest") for record in splits[name]}
    first, second, third = raw_files.HELD
    assert images == {
        f"coco/val2017/{first:012d}.jpg",
        f"coco/train2017/{second:012d}.jpg",
        f"coco/val2014/COCO_val2014_{third:012d}.jpg",
    }


def test_vqav2_of_the_hub_gives_the_same_evaluation(make: Make, tmp_path: Path) -> None:
    original = make("VQAv2", raw_files.vqav2, raw_files.vqav2_hub)
    for folder in ("val2014", "val2017"):
        shutil.rmtree(tmp_path / "raw/images/coco" / folder)
    hub = prepared(tmp_path / "raw", tmp_path / "hub", "VQAv2", prefer="hub")
    for name in ("validation", "val2014_rest"):
        assert [(r["id"], said(r)) for r in hub[name]] == [
            (r["id"], said(r)) for r in original[name]
        ]
    kept = {
        r["image"]
        for name in ("validation", "val2014_rest")
        for r in hub[name]
        if "val2014" in r["image"]
    }
    assert len(kept) == 2
    assert all(
        (tmp_path / "hub/images" / name).read_bytes() == raw_files.drawing("navy") for name in kept
    )


def test_vqav2_rejects_files_that_do_not_belong_together(make: Make, tmp_path: Path) -> None:
    raw_files.vqav2(tmp_path / "raw")
    path = tmp_path / "raw/vqav2/v2_mscoco_train2014_annotations.json"
    content = json.loads(path.read_text())
    dropped = content["annotations"].pop()
    path.write_text(json.dumps(content))
    with raises(DataError, "unmatched-record", "record 1", dropped["question_id"]):
        make("VQAv2")
    content["annotations"] += [dropped, {**dropped, "question_id": 99}]
    path.write_text(json.dumps(content))
    with raises(DataError, "unmatched-record", "v2_mscoco_train2014_annotations.json"):
        make("VQAv2")


@pytest.mark.parametrize("form", [raw_files.gqa, raw_files.gqa_hub])
def test_gqa_takes_the_short_answer_and_merges_by_image(
    make: Make, form: Callable[[Path], None]
) -> None:
    splits = make("GQA", form)
    first, second = splits["train"]
    assert (first["id"], first["image"]) == ("2354786", "gqa/images/2354786.jpg")
    assert said(first) == [
        f"<image>\nOn which side is the fork?{ONE_WORD}",
        "Right",
        "Is the cup full?",
        "No",
    ]
    assert said(second) == [f"<image>\nWhat is above the shelf?{ONE_WORD}", "Clock"]
    assert [len(splits[name]) for name in ("validation", "testdev")] == [3, 3]
    assert {record["image"] for record in splits["testdev"]} == {
        "gqa/images/n161786.jpg",
        "gqa/images/n161787.jpg",
    }
    assert all(len(record["conversations"]) == 2 for record in splits["testdev"])


def test_chartqa_merges_people_and_machines_by_chart(make: Make, tmp_path: Path) -> None:
    splits = make("ChartQA", raw_files.chartqa)
    assert [record["id"] for record in splits["train"]] == ["41699", "00339", "two_col_7"]
    assert said(splits["train"][0]) == [
        f"<image>\nWhich bar is the tallest?{ONE_WORD}",
        "Blue",
        "What was sold in 2011?",
        "12.5",
    ]
    assert [record["id"] for record in splits["test"]][::2] == ["test_human_0", "test_augmented_0"]
    assert (tmp_path / "out/images/chartqa/val/png").is_symlink()


def test_chartqa_of_the_hub_knows_a_chart_by_its_bytes(make: Make, tmp_path: Path) -> None:
    splits = make("ChartQA", raw_files.chartqa_hub)
    original = prepared_original(tmp_path)
    assert [said(record) for record in splits["train"]] == [
        said(record) for record in original["train"]
    ]
    shared = tmp_path / "out/images" / splits["train"][0]["image"]
    assert shared.read_bytes() == raw_files.drawing("gold", "PNG")


def prepared_original(tmp_path: Path) -> Splits:
    raw_files.chartqa(tmp_path / "again")
    return prepared(tmp_path / "again", tmp_path / "again_out", "ChartQA")


@pytest.mark.parametrize("form", [raw_files.ocrvqa, raw_files.ocrvqa_hub])
def test_ocrvqa_drops_a_cover_with_an_empty_answer_and_keeps_its_splits(
    make: Make, form: Callable[[Path], None]
) -> None:
    splits = make("OCRVQA", form)
    assert [record["id"] for record in splits["train"]] == ["0761183272", "0439136350"]
    assert splits["train"][0]["image"] == "ocr_vqa/images/0761183272.jpg"
    assert said(splits["train"][0])[:2] == [f"<image>\nWho wrote it?{ONE_WORD}", "Ada Quill"]
    assert [record["id"] for record in splits["validation"]] == [
        "validation_0393062252_0",
        "validation_0393062252_1",
    ]
    assert [said(record)[1] for record in splits["test"]] == ["Cy Vale"]


def test_ocrvqa_rejects_a_split_that_it_does_not_know(make: Make, tmp_path: Path) -> None:
    raw_files.ocrvqa(tmp_path / "raw")
    path = tmp_path / "raw/ocrvqa/dataset.json"
    content = json.loads(path.read_text())
    content["0439136350"]["split"] = 4
    path.write_text(json.dumps(content))
    with raises(DataError, "unknown-value", "cover 0439136350", "split"):
        make("OCRVQA")


@pytest.mark.parametrize(
    ("size", "pad", "decimals", "text"),
    [
        ((640, 480), True, 2, "[0.1, 0.23, 0.3, 0.38]"),
        ((640, 480), False, 2, "[0.1, 0.1, 0.3, 0.3]"),
        ((480, 640), True, 3, "[0.225, 0.075, 0.425, 0.225]"),
        ((101, 200), True, 2, "[0.56, 0.24, 1.21, 0.72]"),
    ],
)
def test_boxes_are_parts_of_the_padded_square(
    size: tuple[int, int], pad: bool, decimals: int, text: str
) -> None:
    """640 x 480: 80 pixels above; (48 + 80) / 640 = 0.2, and so on by hand."""
    box = {
        (640, 480): (64.0, 64.0 if pad else 48.0, 128.0, 96.0),
        (480, 640): (64.0, 48.0, 128.0, 96.0),
        (101, 200): (64.0, 48.0, 128.0, 96.0),
    }[size]
    assert box_text(box, *size, decimals, pad) == text


@pytest.mark.parametrize("form", [raw_files.refcoco, raw_files.refcoco_hub])
def test_refcoco_caption_merges_both_sets_by_image_in_segments(
    make: Make, form: Callable[[Path], None]
) -> None:
    splits = make("RefCOCO-caption", form)
    light, dark = f"{raw_files.LIGHT:012d}", f"{raw_files.DARK:012d}"
    assert [(r["id"], len(r["conversations"]) // 2) for r in splits["train"]] == [
        (f"{light}_0", 9),
        (f"{light}_1", 2),
        (f"{dark}_0", 1),
    ]
    first, rest, _ = splits["train"]
    assert said(first)[:2] == [
        "<image>\nPlease provide a short description for this region: [0.1, 0.2, 0.3, 0.35].",
        "The lady number 0.",
    ]
    assert said(first)[-1] == "Third person from right.", "region 2 before region 7"
    assert said(rest)[0].startswith("<image>\nPlease provide a short description")
    assert said(rest)[1::2] == ["Red hat.", "A bench right in the sun."]


@pytest.mark.parametrize("form", [raw_files.refcoco, raw_files.refcoco_hub])
def test_refcoco_caption_evaluates_regions_with_all_their_sentences(
    make: Make, form: Callable[[Path], None]
) -> None:
    splits = make("RefCOCO-caption", form)
    assert [said(r)[1] for r in splits["validation"]] == [
        ["Cat of val.", "Grey one."],
        ["A boat of val."],
    ]
    assert [said(r)[1] for r in splits["RefCOCO_testB"]] == [["Cat of testB.", "Grey one."]]
    assert [r["id"] for r in splits["RefCOCOg_test"]] == ["RefCOCOg_test_refcocog_31"]


@pytest.mark.parametrize("form", [raw_files.refcoco, raw_files.refcoco_hub])
def test_refcoco_bbox_asks_for_every_sentence(make: Make, form: Callable[[Path], None]) -> None:
    splits = make("RefCOCO-bbox", form)
    assert [len(r["conversations"]) // 2 for r in splits["train"]] == [9, 2, 1]
    ask = "Please provide the bounding box coordinate of the region this sentence describes: "
    assert said(splits["train"][1])[:2] == [f"<image>\n{ask}red hat.", "[0.11, 0.2, 0.31, 0.35]"]
    assert [said(r)[0] for r in splits["RefCOCO_testA"]] == [
        f"<image>\n{ask}{s}." for s in ("cat of testA", "grey one")
    ]
    assert len(splits["validation"]) == 3


def test_images_of_evaluation_can_be_left_out_of_training(make: Make) -> None:
    """The portrait image is in training of RefCOCO and in validation of RefCOCOg."""
    splits = make("RefCOCO-bbox", raw_files.refcoco, drop_eval_images=True)
    assert {record["image"] for record in splits["train"]} == {
        f"coco/train2017/{raw_files.LIGHT:012d}.jpg"
    }


def test_boxes_can_be_written_otherwise(make: Make) -> None:
    splits = make("RefCOCO-bbox", raw_files.refcoco, pad_boxes=False, box_decimals=3)
    assert said(splits["train"][2])[1] == "[0.172, 0.097, 0.492, 0.289]"


def test_a_malicious_pickle_stops_the_task(make: Make, tmp_path: Path) -> None:
    raw_files.refcoco(tmp_path / "raw")
    mark = tmp_path / "was_run"
    (tmp_path / "raw/refcocog/refs(umd).p").write_bytes(
        b"cos\nmkdir\n(V" + str(mark).encode() + b"\ntR."
    )
    with raises(DataError, "broken-file", "refs(umd).p", "os.mkdir"):
        make("RefCOCO-bbox")
    assert not mark.exists()
    assert not (tmp_path / "out/data/RefCOCO-bbox_train.jsonl").exists()


@pytest.mark.parametrize("edge", ["right", "bottom"])
def test_refcoco_of_the_hub_must_agree_about_its_boxes(
    make: Make, monkeypatch: Any, edge: str
) -> None:
    """One edge alone is not where it is in the annotations."""
    honest = raw_files._hub_ref

    def moved(ref: Any) -> Any:
        row = honest(ref)
        box = list(row["bbox"])
        box[("left", "top", "right", "bottom").index(edge)] += 5
        return {**row, "bbox": box}

    monkeypatch.setattr(raw_files, "_hub_ref", moved)
    with raises(DataError, "invalid-box", "row 1", "bbox"):
        make("RefCOCO-bbox", raw_files.refcoco_hub)


def test_sharegpt4v_holds_images_out_and_puts_the_marker_first(make: Make) -> None:
    splits = make("ShareGPT4V", raw_files.sharegpt4v)
    images = {name: {record["image"] for record in records} for name, records in splits.items()}
    assert not images["train"] & (images["validation"] | images["test"])
    assert not images["validation"] & images["test"]
    assert len(set.union(*images.values())) == 6
    for record in (record for records in splits.values() for record in records):
        assert said(record)[0] in ("<image>\nDescribe it.", "<image>\nWhat is there?")
    assert [len(splits[name]) for name in ("validation", "test")] == [2, 2]


def test_sharegpt_keeps_what_every_rule_keeps(make: Make) -> None:
    records = make("ShareGPT", raw_files.sharegpt)["train"]
    assert [record["id"] for record in records] == [
        "good_plain",
        "good_first_gpt",
        "good_odd",
        "good_stops",
    ]
    assert all("image" not in record for record in records)
    by_id = {record["id"]: said(record) for record in records}
    assert by_id["good_first_gpt"] == ["Why is rain wet?", "Make a loop, and pull."]
    assert by_id["good_odd"] == ["Name a tree, please.", "An oak."]
    assert by_id["good_stops"] == ["Tell a tale.", "Once upon a time."]


@pytest.mark.parametrize(
    ("spoken", "kept"),
    [
        ([("human", " How high is it? "), ("gpt", "Very.\n")], [("How high is it?", "Very.")]),
        ([("human", "Tell me of ChatGPT"), ("gpt", "Certainly not.")], []),
        ([("human", "What is it like?"), ("gpt", "\x07 unprintable")], []),
        ([("human", "What is it like?"), ("human", "Tell me now."), ("gpt", "It is warm.")], []),
        ([("human", "0123456789"), ("gpt", "01234")], []),
        ([("human", "0123456789"), ("gpt", "012345")], [("0123456789", "012345")]),
        ([], []),
    ],
)
def test_a_conversation_is_cleaned(
    spoken: list[tuple[str, str]], kept: list[tuple[str, str]]
) -> None:
    assert cleaned(spoken) == tuple(Asked(question, answer) for question, answer in kept)


ASKED = ("human", "gpt")
LONG = ("How do I tie a knot?", "Make a loop, and pull.")
LIMITED = "Too many requests in 1 hour. Try again later."


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        ([("a", (*LONG, "More.", f"!{LIMITED}"), {})], []),
        ([("a", (*LONG, "More.", f"  {LIMITED}"), {})], []),
        ([("a", (*LONG, "More.", " ", "Ask", "ChatGPT did."), {})], [("a", LONG)]),
        ([("a", ("0123456789", "0123", "456", ""), {})], [("a", ("0123456789", "0123"))]),
        ([("a", LONG, {"plugins": []})], []),
        ([("a", LONG, {"plugins": None})], [("a", LONG)]),
        (
            [("a", LONG, {}), ("a", LONG[::-1], {}), ("b", LONG[::-1], {})],
            [("a", LONG), ("b", LONG[::-1])],
        ),
        ([("a", LONG, {"roles": ("user", "chatgpt")})], []),
    ],
)
def test_sharegpt_is_filtered_as_fastchat_does_it(
    make: Make, tmp_path: Path, rows: list[Any], kept: list[Any]
) -> None:
    """Every value is what `clean_html_all` of FastChat makes of the same rows."""
    folder = tmp_path / "raw/anon8231489123/ShareGPT_Vicuna_unfiltered"
    anchor = {"id": "anchor", "conversations": raw_files.talk("Is anybody there?", "I am here.")}
    written = [
        {
            "id": name,
            "conversations": raw_files.talk(*texts, roles=more.pop("roles", ASKED)),
            **more,
        }
        for name, texts, more in rows
    ]
    raw_files.as_json(folder / "ShareGPT_V3_unfiltered_cleaned_split.json", [anchor, *written])
    _, *rest = make("ShareGPT")["train"]
    assert [(record["id"], tuple(said(record))) for record in rest] == kept


@pytest.mark.parametrize("task", ["ShareGPT", "ShareGPT4V"])
def test_unknown_keys_of_turns_are_rejected_or_ignored_as_the_user_says(
    make: Make, tmp_path: Path, task: str
) -> None:
    release = {"ShareGPT": raw_files.sharegpt, "ShareGPT4V": raw_files.sharegpt4v}[task]
    release(tmp_path / "raw")
    (file,) = (tmp_path / "raw").rglob("*.json")
    rows = json.loads(file.read_text())
    rows[0]["conversations"][0]["markdown"] = None
    file.write_text(json.dumps(rows))
    with raises(DataError, "unknown-key", "record 1", "--ignore-keys markdown"):
        make(task)
    assert make(task, ignore_keys=("markdown",))["train"]


@pytest.mark.parametrize(
    ("table", "value", "code", "where"),
    [
        ("annotations", "none", "wrong-type", "record 1"),
        ("images", None, "wrong-type", "record 1"),
        ("annotations", {"bbox": [0, 0, 10**15, 1]}, "invalid-box", "bbox"),
        ("annotations", {"bbox": [0, True, 1, 1]}, "invalid-box", "bbox"),
        ("images", {"width": 10**15}, "invalid-box", "record 1"),
    ],
)
def test_refcoco_rejects_boxes_and_sizes_of_no_image(
    make: Make, tmp_path: Path, table: str, value: Any, code: str, where: str
) -> None:
    raw_files.refcoco(tmp_path / "raw")
    file = tmp_path / "raw/refcoco/instances.json"
    content = json.loads(file.read_text())
    for row in content[table] if isinstance(value, dict) else ():
        row.update(value)
    content[table][0] = content[table][0] if isinstance(value, dict) else value
    file.write_text(json.dumps(content))
    with raises(DataError, code, where):
        make("RefCOCO-bbox")


def test_sharegpt_rejects_a_dump_of_html(make: Make, tmp_path: Path) -> None:
    file = (
        tmp_path
        / "raw/anon8231489123/ShareGPT_Vicuna_unfiltered/ShareGPT_V3_unfiltered_cleaned_split.json"
    )
    page = "<div class='a'>My page has a heading</div>"
    answers = [page, f" {page}", "# Markdown"]
    rows = [
        {"id": str(i), "conversations": raw_files.talk(f"Why {i}?", text)}
        for i, text in enumerate(answers)
    ]
    raw_files.as_json(file, rows)
    with raises(DataError, "other-version", file, "2 of 3"):
        make("ShareGPT")
    raw_files.as_json(
        file, [*rows, {"id": "3", "conversations": raw_files.talk(page, "What is wrong with it?")}]
    )
    assert len(make("ShareGPT")["train"]) == 4  # people who ask about web pages are no dump of HTML


@pytest.mark.parametrize(
    ("turn", "code", "name"),
    [
        ({"from": "oracle", "value": "x"}, "unknown-value", "'oracle'"),
        ({"from": "human", "value": "x", "weight": 0}, "unknown-key", "'weight'"),
    ],
)
def test_sharegpt_rejects_what_it_does_not_know(
    make: Make, tmp_path: Path, turn: dict[str, Any], code: str, name: str
) -> None:
    folder = tmp_path / "raw/anon8231489123/ShareGPT_Vicuna_unfiltered"
    rows = [{"id": "a", "conversations": [turn, {"from": "gpt", "value": "y"}]}]
    raw_files.as_json(folder / "ShareGPT_V3_unfiltered_cleaned_split.json", rows)
    with raises(DataError, code, "record 1, conversations[0]", name):
        make("ShareGPT")


def test_the_mixture_of_llava_is_read_by_the_folder_of_its_images(
    make: Make, tmp_path: Path
) -> None:
    assert [said(r) for r in make("ShareGPT", raw_files.sharegpt, raw_files.mix665k)["train"]] == [
        ["How deep is a well?", "It depends."]
    ]
    raw_files.gqa(tmp_path / "raw")
    gqa = prepared(tmp_path / "raw", tmp_path / "gqa", "GQA", prefer="mix665k")
    assert [said(r) for r in gqa["train"]] == [["<image>\nWhere?\nAnswer.", "Left", "Who?", "Me"]]
    raw_files.ocrvqa(tmp_path / "raw")
    ocrvqa = prepared(tmp_path / "raw", tmp_path / "ocrvqa", "OCRVQA", prefer="mix665k")
    assert [r["id"] for r in ocrvqa["train"]] == ["0439136350"]


def test_answers_can_stay_as_they_are(make: Make) -> None:
    assert said(make("GQA", raw_files.gqa, capitalize=False)["train"][0])[1::2] == ["right", "no"]


def test_another_seed_draws_others(make: Make, tmp_path: Path) -> None:
    make("ShareGPT4V", raw_files.sharegpt4v)
    draws = {
        tuple(
            r["image"]
            for r in prepared(tmp_path / "raw", tmp_path / str(k), "ShareGPT4V", seed=k)["test"]
        )
        for k in range(6)
    }
    assert len(draws) > 1
