"""`cotbal prepare large`: M3IT's rows become records, halves where a test split is missing,
images by content.
"""

from __future__ import annotations

import io
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cotbal.benchmarks import large
from cotbal.benchmarks.large.embedded import side_by_side
from cotbal.benchmarks.large.sets import data_sets
from cotbal.benchmarks.releases.benchmark import Prepared
from cotbal.errors import CotbalError, DataError
from cotbal.recipe.recipe import load_recipe
from helpers import raw_mixtures as raw_files
from helpers.errors import a_line_names, raises
from helpers.raw_mixtures import as_lines, encoded, export, unified
from helpers.shell import cotbal


def silent(what: str, done: int, total: int) -> None:
    pass


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return tmp_path / "raw"


def made(
    raw: Path, *tasks: str, variant: large.Variant = large.RELEASED, **choices: Any
) -> Prepared:
    places = large.Places(raw, raw.parent / "out")
    return large.prepare(
        places, large.Choices(**choices), silent, tasks=tasks or None, variant=variant
    )


def lines(raw: Path, split: str) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for line in (raw.parent / f"out/data/{split}.jsonl").read_text().splitlines()
    ]


def thrice(rows: list[Any], validation: str = "validation") -> dict[str, list[Any]]:
    """The same rows in every split."""
    return {"train": rows, validation: rows, "test": rows}


def texts(record: dict[str, Any]) -> list[Any]:
    return [turn["value"] for turn in record["conversations"]]


def test_the_sizes_are_those_of_the_paper() -> None:
    """The released training file holds 1,169k, and its groups 679k, 233k and 140k (captions,
    classes, generation).
    """
    sizes: dict[str, int] = {}
    for data in data_sets():
        sizes[data.group] = sizes.get(data.group, 0) + data.train
    assert sum(sizes.values()) == 1_168_591
    assert (sizes["captioning"], sizes["classification"], sizes["generation"]) == (
        679_087,
        233_303,
        140_000,
    )
    tests = {plan.name: plan.splits[2].expected.records for plan in large.plans()}
    assert tests == {
        "COCO": 5000,
        "TextCap": 6982,
        "ParaCap": 2489,
        "C-GOI": 1000,
        "C-Text": 13_775,
        "ImageNet": 25_000,
        "C-ITM": 5000,
        "SNLI-VE": 14_740,
        "Mocheg": 466,
        "Shapes": 1024,
        "OCRVQA": 2470,
        "GQA": 2500,
        "SQA": 2017,
        "CLEVR": 1000,
        "VCR": 5000,
        "VisDial": 1000,
        "Multi30k": 12_000,
    }


def test_the_command_makes_the_benchmark_of_what_is_there(raw: Path) -> None:
    for data in data_sets():
        raw_files.large(raw, data.config, not data.halved)
    output = cotbal("prepare", "large", raw, raw.parent / "out")
    assert a_line_names(output, "differs", "Shapes test", "-1,021 records", "-1,021 turns")
    recipe = load_recipe(raw.parent / "out/recipe.yaml")
    groups = ["captioning", "classification", "vqa", "reasoning", "generation"]
    assert (len(recipe.mixture.tasks), list(recipe.mixture.units)) == (17, groups)
    assert (str(recipe.file.portions.large), str(recipe.file.portions.mini)) == ("1/4", "1/32")
    assert (recipe.file.optimization.epochs, recipe.file.balance.form) == (1, "standard")
    metrics = {
        task.name: task.metric for task in recipe.mixture.tasks if task.metric != "exact_match"
    }
    assert metrics == {"COCO": "cider", "TextCap": "cider", "ParaCap": "cider", "Multi30k": "gleu"}
    cotbal("check", raw.parent / "out/recipe.yaml")


def test_a_row_is_instruction_and_inputs_about_one_image(raw: Path) -> None:
    rows = [
        unified(0, ["teal"]),
        unified(1, ["teal"], " "),
        unified(2, []),
        {**unified(3, ["navy"]), "outputs": " "},
    ]
    export(raw, "shapes", thrice(rows))
    splits = made(raw, "Shapes").splits
    assert [split.records for split in splits] == [2, 2, 2]
    first, second = lines(raw, "Shapes_train")
    assert texts(first) == ["<image>\nLook well.\nIs it?", "Yes 0"]
    assert texts(second) == ["<image>\nLook well.", "Yes 1"]
    assert (first["id"], second["id"]) == ("shapes_train_0", "shapes_train_1")
    assert first["image"] == second["image"]
    with Image.open(raw.parent / "out/images" / first["image"]) as image:
        assert image.size == (32, 24)


def test_validation_is_halved_where_there_is_no_test(raw: Path) -> None:
    raw_files.large(raw, "gqa", tested=False)
    made(raw, "GQA")
    held, test = lines(raw, "GQA_validation"), lines(raw, "GQA_test")
    assert (len(held), len(test)) == (3, 2)
    assert sorted(texts(record)[1] for record in held + test) == [f"Yes {n}" for n in range(5)]


def test_captions_of_one_coco_image_are_one_sample(raw: Path) -> None:
    rows = [
        {**unified(n, [raw_files.COLOURS[n // 3]]), "outputs": f"Yes {n % 5}"} for n in range(6)
    ]
    rows[2]["outputs"] = (
        "Yes 0"  # two people wrote the same: it counts twice, as in the reference implementation
    )
    export(raw, "coco", thrice(rows))
    made(raw, "COCO")
    captions = [texts(record)[1] for record in lines(raw, "COCO_test")]
    assert captions == [["Yes 0", "Yes 1", "Yes 0"], ["Yes 3", "Yes 4", "Yes 0"]]
    assert len(lines(raw, "COCO_train")) == 6


def test_or_every_caption_by_itself(raw: Path) -> None:
    export(raw, "coco", thrice([unified(n, ["teal"]) for n in range(3)]))
    made(raw, "COCO", single_reference=True)
    assert [texts(record)[1] for record in lines(raw, "COCO_test")] == ["Yes 0", "Yes 1", "Yes 2"]


def test_two_images_stand_side_by_side(raw: Path) -> None:
    row = {
        **unified(0, []),
        "image_base64_str": [encoded("teal", (20, 10)), encoded("plum", (40, 40))],
    }
    export(raw, "nlvr", {"train": [row], "validation": [unified(n, ["tan"]) for n in range(2)]})
    made(raw, "NLVR", variant=large.Variant(nlvr=True))
    (record,) = lines(raw, "NLVR_train")
    with Image.open(raw.parent / "out/images" / record["image"]) as whole:
        assert whole.size == (120, 40)
        left, right = (
            whole.convert("RGB").getpixel((20, 20)),
            whole.convert("RGB").getpixel((100, 20)),
        )
    assert left[0] < 40
    assert right[0] > 180


def test_a_pair_is_upright_and_on_white() -> None:
    def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
        file = io.BytesIO()
        image.save(file, kind, **options)
        return file.getvalue()

    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees
    clear = saved(Image.new("RGBA", (40, 40)), "PNG")
    turned = saved(Image.new("RGB", (40, 20), "teal"), "JPEG", exif=exif)
    with Image.open(io.BytesIO(side_by_side([clear, turned]))) as whole:
        assert whole.size == (40 + 20, 40)
        assert min(whole.getpixel((20, 20))) > 250
    deep = saved(Image.fromarray(np.array([[0, 40_000], [20_000, 65_535]], np.uint16)), "PNG")
    with Image.open(io.BytesIO(side_by_side([deep, deep]))) as whole:
        assert np.asarray(whole.convert("L")).mean() == pytest.approx(122, abs=4)
    assert side_by_side([clear, b"no image"]) == b""


def test_lines_serve_as_well_as_parquet(raw: Path) -> None:
    for split in ("train", "validation", "test"):
        as_lines(raw / f"m3it/shapes/{split}.jsonl", [unified(0, ["teal"])])
    assert {split.form for split in made(raw, "Shapes").splits} == {"jsonl"}


@pytest.mark.parametrize(
    ("row", "code", "name"),
    [
        ({"answer": "Yes", "meta": {"instruction": "Look."}}, "other-version", "`meta`"),
        ({**unified(0, ["teal"]), "mood": "sad"}, "unknown-key", "'mood'"),
        ({**unified(0, []), "image_base64_str": ["no image!"]}, "wrong-type", "'no image!'"),
        ({**unified(0, []), "image_base64_str": ["BÄR="]}, "wrong-type", "image_base64_str"),
        ({**unified(0, []), "image_base64_str": "abcd"}, "wrong-type", "'abcd'"),
        (unified(0, ["teal", "navy", "plum"]), "wrong-type", "3"),
    ],
)
def test_an_unknown_row_is_rejected(raw: Path, row: dict[str, Any], code: str, name: str) -> None:
    for split in ("train", "validation", "test"):
        as_lines(raw / f"m3it/shapes/{split}.jsonl", [row])
    with raises(DataError, code, "train.jsonl, line 1", name):
        made(raw, "Shapes")


def test_null_is_no_image(raw: Path) -> None:
    """Tables have null where there is nothing; half a pair is a row that lacks an image."""
    rows: list[dict[str, Any]] = [unified(n, ["teal"]) for n in range(3)]
    rows += [{**unified(7, []), "image_base64_str": none} for none in (None, [None], [""])]
    export(raw, "shapes", thrice(rows))
    assert [split.records for split in made(raw, "Shapes").splits] == [3, 3, 3]
    half = {**unified(0, []), "image_base64_str": [encoded("teal"), None]}
    export(raw, "mocheg", thrice([unified(1, ["navy"]), half]))
    with raises(DataError, "missing-image", "Mocheg train", "1 of 2"):
        made(raw, "Mocheg")


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_half_downloaded_export_is_rejected(raw: Path, split: str) -> None:
    raw_files.large(raw, "gqa", tested=False)
    path = raw / f"m3it/gqa/{split}.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with raises(DataError, "broken-file", f"{split}.parquet"):
        made(raw, "GQA")


def test_rephrased_rows_are_recognized_in_parquet_too(raw: Path) -> None:
    export(raw, "shapes", thrice([{"answer": "Yes", "meta": {"instruction": "Look."}}]))
    with raises(DataError, "other-version", "train.parquet"):
        made(raw, "Shapes")


def test_a_broken_image_is_a_missing_one(raw: Path) -> None:
    good, bad = unified(0, ["teal"]), {**unified(1, []), "image_base64_str": ["AAAA"]}
    export(raw, "shapes", thrice([good, bad]))
    with raises(DataError, "missing-image", "Shapes train", "1 of 2"):
        made(raw, "Shapes")
    assert [split.dropped for split in made(raw, "Shapes", on_missing_image="drop").splits] == [
        1,
        1,
        1,
    ]


def test_what_is_absent_is_named_with_the_way_to_export_it(raw: Path) -> None:
    raw.mkdir()
    with raises(DataError, "missing-file", "m3it/clevr/train*.parquet", "datasets<4"):
        made(raw, "CLEVR")


def m3it(
    raw: Path, folder: str, rows: dict[str, list[Any]], instructions: Any = ("Look.", "See.")
) -> None:
    """Files of M3IT itself."""
    for split, content in rows.items():
        as_lines(raw / f"MMInstruction/M3IT/data/{folder}/{split}.jsonl", content)
    raw_files.as_json(raw / f"MMInstruction/M3IT/data/{folder}/instruction.json", instructions)


def test_raw_imagenet_has_ten_candidates(raw: Path) -> None:
    rows = [{"img_str": encoded("teal"), "label": 3}, {"img_str": encoded("navy"), "label": 11}]
    m3it(raw, "classification/imagenet", {"train": rows, "val": rows})
    names = "".join(f"n{i:08d} thing {i}, kind\n" for i in range(12))
    (raw / "MMInstruction/M3IT/data/classification/imagenet/mapping.txt").write_text(names)
    made(raw, "ImageNet", variant=large.Variant(raw=True))
    record, _ = lines(raw, "ImageNet_train")
    question, answer = texts(record)
    _, instruction, *options = question.split("\n")
    assert instruction in ("Look.", "See.")
    assert [option[:4] for option in options] == [f"({letter}) " for letter in "ABCDEFGHIJ"]
    assert len({option[4:] for option in options}) == 10
    assert answer in options
    assert answer.endswith(") thing 3, kind")


def test_raw_coco_goi_shuffles_its_options(raw: Path) -> None:
    names = [f"item {i}" for i in range(30)]
    row = {
        "input": "\n".join(["Which one?", *names]),
        "outputs": "item 7",
        "image_str": encoded("teal"),
    }
    m3it(raw, "classification/coco-goi", {"train": [row], "val": [row, row]})
    made(raw, "C-GOI", variant=large.Variant(raw=True))
    (record,) = lines(raw, "C-GOI_train")
    question, answer = texts(record)
    head, options = question.split("\nOptions:\n")
    lettered = options.split("\n")
    assert head.endswith("\nWhich one?")
    assert len(lettered) == 25
    assert answer.removesuffix(".") in lettered
    assert answer.endswith(") item 7.")
    assert [option[4:] for option in lettered] != sorted(option[4:] for option in lettered)


def test_raw_coco_has_a_row_a_caption(raw: Path) -> None:
    """M3IT has 566,747 captions of 113,287 images: some have more than five."""
    row = {"image": encoded("teal"), "meta": {"targets": [f"Caption {i}." for i in range(6)]}}
    m3it(raw, "captioning/coco", thrice([row], "val"))
    made(raw, "COCO", variant=large.Variant(raw=True))
    assert [texts(record)[1] for record in lines(raw, "COCO_train")] == [
        f"Caption {i}." for i in range(6)
    ]
    assert len(lines(raw, "COCO_validation")) == 1


def test_raw_coco_text_is_true_or_false(raw: Path) -> None:
    """The folder of M3IT calls its instructions `instructions.json`."""
    rows = [
        {"answer": answer, "image_str": [encoded("teal")]} for answer in ("(A) True", "(B) False")
    ]
    m3it(raw, "classification/coco-text", {"train": rows, "val": rows})
    folder = raw / "MMInstruction/M3IT/data/classification/coco-text"
    (folder / "instruction.json").rename(folder / "instructions.json")
    made(raw, "C-Text", variant=large.Variant(raw=True))
    asked = [texts(record) for record in lines(raw, "C-Text_train")]
    assert [answer for _, answer in asked] == ["(A) True", "(B) False"]
    assert all(question.split("\n")[1] in ("Look.", "See.") for question, _ in asked)
    assert all(question.endswith("\n(A) True (B) False") for question, _ in asked)


@pytest.mark.parametrize(
    ("row", "code", "name"),
    [
        ({"answer": "maybe"}, "unknown-value", "'maybe'"),
        ({"answer": "(A) True", "question": "Is it?"}, "unknown-key", "question"),
    ],
)
def test_raw_coco_text_of_another_kind_is_rejected(
    raw: Path, row: dict[str, Any], code: str, name: str
) -> None:
    rows = [{**row, "image_str": [encoded("teal")]}]
    m3it(raw, "classification/coco-text", {"train": rows, "val": rows})
    with raises(DataError, code, "train.jsonl, line 1", name):
        made(raw, "C-Text", variant=large.Variant(raw=True))


def test_raw_mocheg_is_as_it_stands(raw: Path) -> None:
    row = {"question": "True or false?", "answer": "False", "image_str": [encoded("teal")]}
    m3it(
        raw,
        "classification/mocheg",
        {f"mocheg_{split}": [row] for split in ("train", "val", "test")},
    )
    made(raw, "Mocheg", variant=large.Variant(raw=True))
    assert texts(lines(raw, "Mocheg_test")[0])[1] == "False"


def test_raw_shapes_says_yes_or_no(raw: Path) -> None:
    rows = [
        {"question": "Is a cube left", "answer": say, "image_str": encoded("teal")}
        for say in ("true", "false")
    ]
    m3it(raw, "vqa/shapes", dict.fromkeys(("train.large", "val", "test"), rows))
    made(raw, "Shapes", variant=large.Variant(raw=True))
    first, second = lines(raw, "Shapes_train")
    assert texts(first)[0].endswith("\nIs a cube left?")
    assert (texts(first)[1], texts(second)[1]) == ("The answer is yes.", "The answer is no.")
    m3it(raw, "vqa/shapes", {"val": [{**rows[0], "answer": "maybe"}]})
    (raw.parent / "out/data/Shapes.json").unlink()
    with raises(DataError, "unknown-value", "val.jsonl, line 1", "maybe"):
        made(raw, "Shapes", variant=large.Variant(raw=True))


def test_what_was_read_from_an_export_does_not_pass_for_raw(raw: Path) -> None:
    raw_files.large(raw, "shapes", tested=True)
    made(raw, "Shapes")
    with raises(DataError, "changed-settings", "Shapes", "'raw'"):
        made(raw, "Shapes", variant=large.Variant(raw=True))


def test_raw_files_of_unknown_keys_are_rejected(raw: Path) -> None:
    raw.mkdir()
    rest = "--tasks COCO,C-GOI,C-Text,ImageNet,Mocheg,Shapes"
    with raises(CotbalError, "unknown-task", "--raw", "TextCap", rest):
        made(raw, "TextCap", "COCO", variant=large.Variant(raw=True))


def test_an_unknown_list_of_instructions_is_rejected(raw: Path) -> None:
    row = {"image": encoded("teal"), "meta": {"targets": ["One."] * 5}}
    m3it(raw, "captioning/coco", thrice([row], "val"), {"en": ["Look."]})
    with raises(DataError, "broken-file", "instruction.json"):
        made(raw, "COCO", variant=large.Variant(raw=True))


def test_the_same_seed_draws_the_same_halves(raw: Path) -> None:
    raw_files.large(raw, "gqa", tested=False)
    contents = []
    for seed in (0, 0, *range(1, 6)):
        places = large.Places(raw, raw.parent / f"out{len(contents)}")
        large.prepare(places, large.Choices(seed), silent, tasks=["GQA"])
        contents.append((places.out / "data/GQA_test.jsonl").read_text())
    assert contents[0] == contents[1]
    assert any(one != other for one, other in pairwise(contents[1:]))


def test_the_command_for_files_of_m3it_fetches_those_that_are_read_and_no_others() -> None:
    plans = {plan.name: plan for plan in large.plans(large.Variant(raw=True))}
    shapes = {split.name: split.sources[0] for split in plans["Shapes"].splits}
    wanted = re.findall("--include '([^']*)'", shapes["train"].get)
    assert wanted == [
        "data/vqa/shapes/*train.large.jsonl",
        "data/vqa/shapes/*val.jsonl",
        "data/vqa/shapes/*test.jsonl",
        "data/vqa/shapes/instruction*.json",
    ]
    assert {split.get for split in shapes.values()} == {shapes["train"].get}
    read = {pattern for split in shapes.values() for pattern in split.files.values()}
    assert {pattern.removeprefix("MMInstruction/M3IT/") for pattern in read} == set(wanted)
    (imagenet,) = (split.sources[0] for split in plans["ImageNet"].splits if split.name == "test")
    assert "--include 'data/classification/imagenet/mapping.txt'" in imagenet.get
    assert "test.jsonl" not in imagenet.get
