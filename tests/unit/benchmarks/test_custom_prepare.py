"""`cotbal prepare custom`: whatever form the data has, no image is in two splits, and nothing is
guessed silently.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotbal.benchmarks import custom
from cotbal.benchmarks.custom.division import Division
from cotbal.benchmarks.custom.rows import CustomConversation
from cotbal.benchmarks.releases.benchmark import Prepared
from cotbal.data.reading.record import Record, Turn
from cotbal.errors import CotbalError, DataError
from cotbal.recipe.recipe import load_recipe
from helpers.errors import a_line_names, raises
from helpers.raw_mixtures import as_lines, own_images, own_rows, talk
from helpers.raw_releases import as_json, as_parquet, drawing
from helpers.shell import cotbal


def silent(what: str, done: int, total: int) -> None:
    pass


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "birds"
    own_images(folder / "images", 20)
    return folder


def made(
    raw: Path,
    *tasks: str,
    out: str = "out",
    images: Path | None = None,
    metrics: Any = None,
    **choices: Any,
) -> Prepared:
    places = custom.Places(raw, raw.parent / out, images)
    known = custom.Choices(**{"validation": 0.2, "test": 0.1, **choices})
    return custom.prepare(places, known, silent, tasks=tasks or None, metrics=metrics)


def lines(raw: Path, split: str) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for line in (raw.parent / f"out/data/{split}.jsonl").read_text().splitlines()
    ]


def splits(raw: Path, task: str) -> dict[str, list[dict[str, Any]]]:
    return {split: lines(raw, f"{task}_{split}") for split in ("train", "validation", "test")}


def disjoint(records: dict[str, list[dict[str, Any]]]) -> bool:
    images = {
        split: {name for row in rows for name in row.get("images", ())}
        for split, rows in records.items()
    }
    return not any(images[one] & images[other] for one, other in combinations(images, 2))


def test_the_command_makes_splits_and_a_recipe_that_check_accepts(raw: Path) -> None:
    as_json(raw / "vqa.json", own_rows(40))
    output = cotbal(
        "prepare", "custom", raw, raw.parent / "out", "--validation", "0.2", "--test", "4"
    )
    assert not a_line_names(output, "of 3"), "nothing is known about data of the user"
    cotbal("check", raw.parent / "out/recipe.yaml")
    records = splits(raw, "vqa")
    assert {split: len(rows) for split, rows in records.items()} == {
        "train": 28,
        "validation": 8,
        "test": 4,
    }
    assert disjoint(records)
    recipe = load_recipe(raw.parent / "out/recipe.yaml")
    assert (recipe.name, str(recipe.file.portions.mini)) == ("birds", "1/2")
    assert a_line_names(recipe.path.read_text(), "vqa", "100 %", "--metric vqa=")


def test_another_seed_draws_others_and_the_same_seed_the_same(raw: Path) -> None:
    as_json(raw / "vqa.json", own_rows(40))
    texts = []
    for seed in (0, 0, 1):
        places = custom.Places(raw, raw.parent / f"out{len(texts)}")
        custom.prepare(places, custom.Choices(seed, validation=0.2), silent)
        texts.append((places.out / "data/vqa_validation.jsonl").read_text())
    assert texts[0] == texts[1] != texts[2]


def test_evaluation_asks_the_first_question_of_a_conversation(raw: Path) -> None:
    as_json(raw / "vqa.json", own_rows(20, turns=3))
    assert {s.split: s.turns // s.records for s in made(raw).splits} == {
        "train": 3,
        "validation": 1,
        "test": 1,
    }
    assert lines(raw, "vqa_test")[0]["conversations"] == talk(1)


def test_marks_for_loss_and_the_system_prompt_are_kept(raw: Path) -> None:
    rows = own_rows(20, turns=2)
    for row in rows:
        row["system"] = "Be short."
        row["conversations"][1]["loss"] = False
    as_json(raw / "vqa.json", rows)
    made(raw)
    for record in lines(raw, "vqa_train"):
        system, *turns = record["conversations"]
        assert system == {"from": "system", "value": "Be short."}
        assert [turn.get("loss") for turn in turns] == [None, False, None, None]


def test_files_named_after_splits_are_those_splits(raw: Path) -> None:
    rows = own_rows(6)
    as_parquet(raw / "vqa/data/train-00000-of-00002.parquet", rows[:2])
    as_parquet(raw / "vqa/data/train-00001-of-00002.parquet", rows[2:4])
    as_parquet(raw / "vqa/data/val-00000-of-00001.parquet", rows[4:])
    made(raw, test=0)
    assert [r["id"] for r in lines(raw, "vqa_train")] == ["0", "1", "2", "3"]
    assert [r["id"] for r in lines(raw, "vqa_validation")] == ["4", "5"]
    assert load_recipe(raw.parent / "out/recipe.yaml").mixture["vqa"].test == {}


def test_a_missing_shard_is_noticed(raw: Path) -> None:
    as_parquet(raw / "vqa/data/train-00000-of-00002.parquet", own_rows(4))
    with raises(DataError, "ambiguous-file", "train-?????-of-00002.parquet"):
        made(raw)


def test_a_folder_of_splits_alone_is_one_task_of_its_name(raw: Path) -> None:
    as_lines(raw / "train.jsonl", own_rows(4))
    as_lines(raw / "valid.jsonl", own_rows(2))
    made(raw, test=0)
    assert list(load_recipe(raw.parent / "out/recipe.yaml").file.tasks) == ["birds"]


def test_what_datasets_saved_is_read(raw: Path) -> None:
    row = {
        "messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me"}],
        "images": [],
    }
    row["images"] = [{"bytes": drawing("teal"), "path": None}]
    table = pa.Table.from_pylist([row] * 3)
    for split in ("train", "validation"):
        path = raw / f"vqa/{split}/data-00000-of-00001.arrow"
        path.parent.mkdir(parents=True)
        as_json(path.parent / "state.json", {"_data_files": []})
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    made(raw, test=0)
    first = lines(raw, "vqa_train")[0]
    assert [turn["value"] for turn in first["conversations"]] == ["<image>\nWho?", "Me"]
    assert (raw.parent / "out/images" / first["images"][0]).read_bytes() == drawing("teal")


def test_question_and_answer_are_read_by_the_keys_that_the_user_names(raw: Path) -> None:
    as_json(
        raw / "ask.json",
        [{"image": f"{n}.jpg", "q": f"Who {n}?", "a": f"Bird {n}", "level": 2} for n in range(9)],
    )
    as_json(raw / "vqa.json", own_rows(9))
    with raises(DataError, "no-turns", "ask.json, record 1", "image, q, a, level", "--question"):
        made(raw)
    made(raw, question="q", answer="a")
    first = lines(raw, "ask_train")[0]
    assert first["conversations"][1]["value"].startswith("Bird")
    assert (first["level"], "q" in first) == (2, False)
    with raises(DataError, "missing-key", "ask.json, record 1", "'answer'", "image, q, a, level"):
        made(raw, "ask", question="q", answer="answer", out="b")


def test_images_are_found_beside_the_file_and_elsewhere(raw: Path, tmp_path: Path) -> None:
    own_images(tmp_path / "elsewhere", 3)
    own_images(raw / "vqa/photos", 2)
    rows = [
        {"image": name, "conversations": talk(1)} for name in ("0.jpg", "2.jpg", "photos/1.jpg")
    ]
    as_json(raw / "vqa/rows.json", rows)
    made(raw, images=tmp_path / "elsewhere", validation=1, test=1)
    images = {
        name
        for split in splits(raw, "vqa").values()
        for record in split
        for name in record["images"]
    }
    assert images == {"given/0.jpg", "given/2.jpg", "raw/vqa/photos/1.jpg"}
    assert all((raw.parent / "out/images" / name).is_file() for name in images)


def test_ids_that_repeat_over_files_are_made_different(raw: Path) -> None:
    for part in "ab":
        as_json(raw / f"vqa/{part}.json", own_rows(4))
    made(raw, test=0)
    ids = [
        record["id"] for split in ("train", "validation") for record in lines(raw, f"vqa_{split}")
    ]
    assert len(set(ids)) == 8


@pytest.mark.parametrize(
    ("answer", "metric"),
    [
        ("Two", "exact_match"),
        ("[0.1, 0.2, 0.3, 0.4]", "box_iou"),
        ("A heron waits at the old pier.", "cider"),
    ],
)
def test_the_metric_suits_the_answers(raw: Path, answer: str, metric: str) -> None:
    turns = [{"from": "human", "value": "?"}, {"from": "gpt", "value": answer}]
    as_json(raw / "vqa.json", [{"image": f"{n}.jpg", "conversations": turns} for n in range(9)])
    assert load_recipe(made(raw).recipe).mixture["vqa"].metric == metric


def test_or_is_the_one_that_the_user_names(raw: Path) -> None:
    as_json(raw / "vqa.json", own_rows(9))
    recipe = made(raw, metrics={"vqa": "cider"}).recipe
    assert load_recipe(recipe).mixture["vqa"].metric == "cider"
    assert "--metric vqa=" not in recipe.read_text()
    with raises(CotbalError, "unknown-task", "--metric", "ocr"):
        made(raw, metrics={"ocr": "cider"})
    with raises(CotbalError, "unknown-name", "beauty"):
        made(raw, metrics={"vqa": "beauty"})


def test_data_that_has_changed_is_not_taken_for_what_was_prepared(raw: Path) -> None:
    as_json(raw / "vqa.json", own_rows(9))
    first = made(raw)
    assert made(raw).splits == first.splits
    as_json(raw / "vqa.json", own_rows(12))
    with raises(DataError, "changed-settings", "vqa.json", "version"):
        made(raw)


@pytest.mark.parametrize(
    ("changes", "code", "names"),
    [
        ({"validation": 9}, "no-records", ("vqa", "9 records", "5 groups")),
        ({"validation": 0}, "invalid-option", ("--validation", "vqa")),
        ({"validation": 2.5}, "invalid-option", ("--validation", "2.5")),
    ],
)
def test_a_rule_that_makes_no_sense_is_rejected(
    raw: Path, changes: dict[str, Any], code: str, names: tuple[str, ...]
) -> None:
    as_json(raw / "vqa.json", own_rows(9))
    with raises(CotbalError, code, *names):
        made(raw, **changes)


@pytest.mark.parametrize(
    ("name", "rows", "code", "where"),
    [
        ("vqa.json", [{"conversations": []}], "no-turns", "vqa.json, record 1"),
        (
            "vqa.json",
            [{"image": "../x.jpg", "conversations": talk(1)}],
            "invalid-name",
            "vqa.json, record 1",
        ),
        (
            "vqa.json",
            [{"task": n, "conversations": talk(1, "{}")} for n in (1, 2)],
            "unknown-value",
            "vqa.json, record 2",
        ),
        ("鳥.json", [], "invalid-name", "鳥"),
        ("vqa/test.json", [], "missing-file", "vqa"),
    ],
)
def test_problems_are_named(raw: Path, name: str, rows: list[Any], code: str, where: str) -> None:
    as_json(raw / name, rows)
    with raises(DataError, code, where):
        made(raw)


def test_a_task_without_records_is_an_error(raw: Path) -> None:
    as_json(raw / "vqa.json", [])
    with raises(CotbalError, "no-records", "vqa"):
        made(raw)


def test_what_a_row_says_beside_is_kept_if_a_file_can_hold_it(raw: Path) -> None:
    rows = own_rows(20)
    rows[0] |= {"kind": "bird", "cut": "\ud83d", "\udc00": "x", "share": float("nan"), "boxes": [1]}
    rows[0] |= {"objects": {"bbox": [[1, 2]]}, "half": ["\ud83d"], "rate": [float("inf")]}
    as_lines(raw / "birds.jsonl", rows)
    made(raw)
    (kept,) = (r for split in splits(raw, "birds").values() for r in split if r["id"] == "0")
    assert kept.keys() - {"id", "task", "images", "conversations"} == {"kind", "boxes", "objects"}
    assert kept["objects"] == {"bbox": [[1, 2]]}


def test_files_are_grouped_by_what_is_left_of_their_names(raw: Path) -> None:
    for name in ("ocr_train", "ocr-val", "gqa.train", "gqa.test", "count"):
        as_json(raw / f"{name}.json", own_rows(9))
    sizes = {split.task: [] for split in made(raw).splits}
    for split in made(raw).splits:
        sizes[split.task].append((split.split, split.records))
    assert sizes["ocr"] == [("train", 7), ("validation", 9), ("test", 2)]
    assert [name for name, _ in sizes["gqa"]] == ["train", "validation", "test"]
    assert dict(sizes["gqa"])["test"] == 9
    assert list(sizes) == ["count", "gqa", "ocr"]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_task_without_training_files_is_only_evaluated(raw: Path, split: str) -> None:
    as_json(raw / "vqa.json", own_rows(20))
    as_json(raw / f"known_{split}.json", own_rows(5))
    prepared = made(raw)
    assert [(s.split, s.records) for s in prepared.splits if s.task == "known"] == [(split, 5)]
    recipe = load_recipe(prepared.recipe)
    assert [task.name for task in recipe.mixture.only_evaluated] == ["known"]
    assert list(recipe.mixture["known"].files) == [split]
    assert [task.name for task in recipe.mixture.balanced] == ["vqa"]
    assert made(raw).splits == prepared.splits
    with raises(CotbalError, "no-balanced-task", "known"):
        made(raw, "known", out="other")


def test_files_of_which_only_some_are_splits_are_rejected(raw: Path) -> None:
    for name in ("train", "more"):
        as_json(raw / f"vqa/{name}.json", own_rows(2))
    with raises(DataError, "ambiguous-file", "vqa/more.json"):
        made(raw)


def test_an_empty_folder_and_one_inside_the_data_are_rejected(raw: Path) -> None:
    with raises(DataError, "missing-file", raw):
        made(raw)
    with raises(CotbalError, "invalid-option", raw / "out"):
        custom.prepare(custom.Places(raw, raw / "out"), custom.Choices(validation=1), silent)


@given(
    st.lists(st.lists(st.integers(0, 12), max_size=3), min_size=3, max_size=40), st.integers(0, 5)
)
def test_records_that_share_images_stay_together(shown: list[list[int]], seed: int) -> None:
    """Whatever stands together, through whatever chain of records."""
    question = (Turn("user", "Who?"), Turn("assistant", "Me"))
    records = [
        CustomConversation(
            Record(str(i), None, tuple(f"{n}.jpg" for n in names), question, ("Me",), i)
        )
        for i, names in enumerate(shown)
    ]

    def rows(_write: bool) -> Iterator[CustomConversation]:
        return iter(records)

    division = Division({"test": 1, "validation": 1}, seed, "birds")
    try:
        parts = {
            split: list(division.part(split, rows, Path("nowhere")))
            for split in ("train", "validation", "test")
        }
    except CotbalError:
        return  # too few groups
    images = [{row.images or "text" for row in rows} for rows in parts.values()]
    flat = [
        {name for names in group for name in (names if names != "text" else ("text",))}
        for group in images
    ]
    assert sum(map(len, parts.values())) == len(records)
    assert not any(one & other for one, other in combinations(flat, 2))


def test_one_image_under_several_names_is_in_one_split(raw: Path) -> None:
    """Another spelling, a link, and a copy of the bytes."""
    rows = own_rows(20)
    names = [row["image"] for row in rows]
    for number, name in enumerate(sorted(set(names))):
        image = raw / "images" / name
        (raw / "images" / f"copy{number}.png").write_bytes(image.read_bytes())
        (raw / "images" / f"link{number}.png").symlink_to(image)
        same = (f"./{name}", f"copy{number}.png", f"link{number}.png")
        rows += [
            {**rows[names.index(name)], "id": f"{number}{i}", "image": other}
            for i, other in enumerate(same)
        ]
    as_json(raw / "vqa.json", rows)
    made(raw)
    seen = {
        split: {
            hashlib.sha256((raw.parent / "out/images" / name).read_bytes()).digest()
            for row in rows
            for name in row["images"]
        }
        for split, rows in splits(raw, "vqa").items()
    }
    assert all(seen.values())
    assert not any(seen[one] & seen[other] for one, other in combinations(seen, 2))
