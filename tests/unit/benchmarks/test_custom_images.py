"""`cotbal prepare custom`: no image that the data holds is lost without an error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cotbal.benchmarks import custom
from cotbal.errors import CotbalError, DataError
from cotbal.recipe.recipe import load_recipe
from helpers.errors import raises
from helpers.raw_mixtures import as_lines, own_images, own_rows, talk
from helpers.raw_releases import as_json, as_parquet, drawing
from helpers.shell import cotbal


def silent(what: str, done: int, total: int) -> None:
    pass


def records(raw: Path, **choices: Any) -> dict[str, list[dict[str, Any]]]:
    """The records of every split of every task, by the name of their file."""
    images = choices.pop("images", None)
    known = custom.Choices(**{"validation": 2, "question": "query", "answer": "label", **choices})
    made = custom.prepare(custom.Places(raw, raw.parent / "out", images), known, silent)
    files = (raw.parent / "out" / split.file for split in made.splits)
    return {
        file.stem: [json.loads(line) for line in file.read_text().splitlines()] for file in files
    }


def shown(made: dict[str, list[dict[str, Any]]]) -> set[str]:
    return {name for rows in made.values() for row in rows for name in row.get("images", ())}


def rows(key: str, names: list[Any]) -> list[dict[str, Any]]:
    return [{key: name, "query": f"Who {name}?", "label": f"Bird {name}"} for name in names]


def drawings(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(drawing("teal", "PNG") + name.encode())  # each another image


NAMES = [f"{number}.png" for number in range(6)]
CHARTS = {
    "train": ([f"{number}.png" for number in range(6)], "Chart {}"),
    "val": (["90.png", "91.png"], "Chart {}"),
    "test": (["0.png", "95.png"], "Chart {}"),
}


def chartqa(folder: Path) -> None:
    """As released: blanks in the name of the folder, images in a folder beside the questions."""
    for split, (names, _) in CHARTS.items():
        drawings(folder / split / "png", *names)
        (folder / split / "tables").mkdir()
        (folder / split / "tables" / "0.csv").write_text("a,b\n")
        as_json(folder / split / f"{split}_human.json", rows("imgname", names[:1]))
        as_json(folder / split / f"{split}_augmented.json", rows("imgname", names[1:]))


@pytest.mark.parametrize("above", [False, True])
def test_chartqa_is_read_as_released(tmp_path: Path, above: bool) -> None:
    raw = tmp_path / "raw" / "ChartQA Dataset"
    chartqa(raw)
    if above:
        raw = raw.parent
    output = cotbal(
        "prepare", "custom", raw, tmp_path / "out", "--question", "query", "--answer", "label"
    )
    assert "ChartQA_Dataset" in output
    recipe = load_recipe(tmp_path / "out/recipe.yaml")
    assert list(recipe.file.tasks) == ["ChartQA_Dataset"]
    inner = "raw/ChartQA Dataset" if above else "raw"
    for split, (names, _) in CHARTS.items():
        file = {"val": "validation"}.get(split, split)
        text = (tmp_path / f"out/data/ChartQA_Dataset_{file}.jsonl").read_text()
        rows = [json.loads(line) for line in text.splitlines()]
        wanted = [[f"{inner}/{split}/png/{name}"] for name in (*names[1:], names[0])]
        assert [row["images"] for row in rows] == wanted  # augmented before human
        assert all("imgname" not in row for row in rows)
    assert "no errors" in cotbal("check", tmp_path / "out/recipe.yaml")


@pytest.mark.parametrize(
    "key",
    [
        "imgname",
        "image_path",
        "img",
        "file_name",
        "picture",
        "identifier",
        "ImageName",
        "img_path",
        "filename",
        "photo",
    ],
)
def test_columns_with_usual_names_are_images(tmp_path: Path, key: str) -> None:
    raw = tmp_path / "birds"
    drawings(raw, *NAMES)
    as_json(raw / "vqa.json", rows(key, NAMES))
    assert shown(records(raw)) == {f"raw/{name}" for name in NAMES}


def test_names_without_an_ending_are_those_of_files(tmp_path: Path) -> None:
    raw = tmp_path / "birds"
    drawings(raw / "images", *NAMES)
    as_json(raw / "vqa.json", rows("image_id", list(range(6))))
    assert shown(records(raw)) == {f"given/{name}" for name in NAMES}


def test_a_column_that_is_no_image_stays_an_annotation(tmp_path: Path) -> None:
    raw = tmp_path / "chat"
    given = [{"identifier": f"a-{n}", **row} for n, row in enumerate(rows("file", NAMES))]
    for row in given:
        del row["file"]
    as_json(raw / "chat.json", given)
    made = records(raw)
    assert not shown(made)
    assert {row["identifier"] for rows in made.values() for row in rows} == {
        f"a-{n}" for n in range(6)
    }


def test_embedded_images_in_such_a_column(tmp_path: Path) -> None:
    raw = tmp_path / "birds"
    colours = ["teal", "navy", "plum", "gold"]
    table = [
        {**row, "img": {"bytes": drawing(colour), "path": None}}
        for row, colour in zip(rows("n", list(range(4))), colours, strict=True)
    ]
    as_parquet(raw / "vqa.parquet", table)
    as_parquet(raw / "ocr.parquet", [{**row, "img": row["img"]["bytes"]} for row in table])
    made = records(raw)
    assert len(shown(made)) == 8
    assert all(name.startswith("embedded/") for name in shown(made))


def test_the_user_names_the_column(tmp_path: Path) -> None:
    raw = tmp_path / "birds"
    drawings(raw, *NAMES)
    as_json(raw / "vqa.json", rows("scan", [[NAMES[0]], *NAMES[1:]]))
    with raises(DataError, "ambiguous-image", "vqa.json, record 1", "'scan'", "--image scan"):
        records(raw)
    cotbal(
        *("prepare", "custom", raw, tmp_path / "out", "--validation", "2", "--test", "0"),
        *("--question", "query", "--answer", "label", "--image", "scan"),
    )
    text = (tmp_path / "out/data/vqa_train.jsonl").read_text()
    assert '"images": ["raw/' in text
    assert "scan" not in text


@pytest.mark.parametrize(
    ("row", "code", "names"),
    [
        (
            {"image_path": "0.png", "file_name": "1.png"},
            "ambiguous-image",
            ("image_path", "file_name"),
        ),
        (
            {"image_path": "a/0.png", "file_name": "0.png"},
            "ambiguous-image",
            ("image_path", "file_name"),
        ),
        ({"url": "https://a.b/0.png"}, "ambiguous-image", ("'url'", "'https://a.b/0.png'")),
        ({"image": None, "page": {"path": "0.png"}}, "ambiguous-image", ("'page'",)),
        ({"image": "0.png", "scan": "1.png"}, "ambiguous-image", ("'scan'", "'image'")),
        ({"file_name": "../0.png"}, "invalid-name", ("'../0.png'",)),
    ],
)
def test_a_row_whose_image_is_uncertain_is_an_error(
    tmp_path: Path, row: dict[str, Any], code: str, names: tuple[str, ...]
) -> None:
    raw = tmp_path / "birds"
    drawings(raw, *NAMES)
    as_json(raw / "vqa.json", [{**row, "query": "Who?", "label": "Me"}])
    with raises(DataError, code, "vqa.json, record 1", *names):
        records(raw, **({"image": "scan"} if "scan" in row else {}))


def test_two_columns_may_name_one_image(tmp_path: Path) -> None:
    raw = tmp_path / "birds"
    drawings(raw / "images", *NAMES)
    given = rows("file_name", NAMES)
    named = [{**row, "image_path": f"images/{row['file_name']}"} for row in given]
    as_json(raw / "vqa.json", named)
    assert shown(records(raw)) == {f"given/{name}" for name in NAMES}


def test_text_with_an_annotation_like_an_image_is_declared_so(tmp_path: Path) -> None:
    raw = tmp_path / "birds"
    as_json(raw / "chat.json", rows("seen_in", NAMES))
    with raises(DataError, "ambiguous-image", "--image image"):
        records(raw)
    assert not shown(records(raw, image="image"))


@pytest.mark.parametrize(
    ("file", "folder"),
    [
        ("vqa.json", "images"),
        ("vqa.json", "."),
        ("vqa/rows.json", "vqa/a/b"),
        ("train/a.json", "."),
    ],
)
def test_a_task_without_any_image_beside_images_is_an_error(
    tmp_path: Path, file: str, folder: str
) -> None:
    raw = tmp_path / "birds"
    as_json(raw / file, rows("identifier", [f"{n}-0" for n in range(6)]))
    drawings(raw / folder, "dev-0-0-1.png")
    with raises(DataError, "missing-image", "6 records", "dev-0-0-1.png"):
        records(raw)
    (raw / folder / "dev-0-0-1.png").unlink()
    assert not shown(records(raw))


def test_a_task_of_text_beside_others_with_images_is_none(tmp_path: Path) -> None:
    raw = tmp_path / "birds"
    own_images(raw / "images", 5)
    as_json(raw / "chat.json", [{"conversations": talk(1, "{}")} for _ in range(3)])
    as_lines(raw / "vqa.jsonl", own_rows(10))
    with raises(CotbalError, "no-records", "chat"):
        records(raw)  # three times the same text are one group
    texts = [{"query": f"Who {n}?", "label": "Me"} for n in range(6)]
    as_json(raw / "chat.json", texts)
    made = records(raw)
    assert all(name.startswith("given/") for name in shown(made))
    assert not any("images" in row for row in made["chat_train"])


def test_images_of_another_folder_count_too(tmp_path: Path) -> None:
    raw = tmp_path / "birds"
    drawings(tmp_path / "elsewhere", "x.png")
    as_json(raw / "vqa.json", rows("identifier", ["a", "b", "c"]))
    with raises(DataError, "missing-image", "elsewhere/x.png", "'scan'"):
        records(raw, images=tmp_path / "elsewhere", image="scan")


def test_an_image_in_two_folders_beside_the_file_is_an_error(tmp_path: Path) -> None:
    raw = tmp_path / "birds"
    drawings(raw / "vqa/png", *NAMES)
    drawings(raw / "vqa/masks", *NAMES)
    as_json(raw / "vqa/rows.json", rows("img", NAMES))
    with raises(DataError, "ambiguous-image", "raw/vqa/masks/0.png", "raw/vqa/png/"):
        records(raw)
    assert shown(records(raw, images=raw / "vqa/png")) == {f"given/{name}" for name in NAMES}


def test_the_layout_of_coco(tmp_path: Path) -> None:
    raw = tmp_path / "data"
    drawings(raw / "coco/images", *NAMES)
    as_json(raw / "coco/annotations/rows.json", rows("file_name", NAMES))
    assert shown(records(raw)) == {f"raw/coco/images/{name}" for name in NAMES}


def test_folders_of_splits_beside_others(tmp_path: Path) -> None:
    raw = tmp_path / "mix"
    for name in ("ocr_train", "ocr_val", "train_station", "my caps", "test", "train"):
        as_json(raw / name / "rows.json", rows("level", list(range(6))))
    made = records(raw)
    assert set(made) == {
        "mix_train",
        "mix_validation",
        "mix_test",
        "my_caps_train",
        "my_caps_validation",
        "ocr_train",
        "ocr_validation",
        "train_station_train",
        "train_station_validation",
    }


def test_names_that_become_one_are_an_error(tmp_path: Path) -> None:
    for name in ("my task", "my_task"):
        as_json(tmp_path / "raw" / f"{name}.json", rows("level", [1, 2, 3]))
    with raises(DataError, "repeated-name", "my_task"):
        records(tmp_path / "raw")


def test_data_behind_links_is_read(tmp_path: Path) -> None:
    drawings(tmp_path / "store/pictures", *NAMES)
    as_json(tmp_path / "store/json/rows.json", rows("img", NAMES))
    (tmp_path / "raw/vqa").mkdir(parents=True)
    (tmp_path / "raw/vqa/data").symlink_to(tmp_path / "store/json")
    (tmp_path / "raw/vqa/png").symlink_to(tmp_path / "store/pictures")
    (tmp_path / "raw/vqa/loop").symlink_to(tmp_path / "raw")
    assert shown(records(tmp_path / "raw")) == {f"raw/vqa/png/{name}" for name in NAMES}
