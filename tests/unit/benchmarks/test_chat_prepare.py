"""`cotbal prepare chat`: three tasks of LLaVA's instructions, judged on LLaVA-Bench."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cotbal.benchmarks import chat
from cotbal.benchmarks.releases.benchmark import Prepared
from cotbal.data.reading.records import open_records
from cotbal.errors import DataError
from cotbal.recipe.recipe import load_recipe
from helpers import raw_mixtures as raw_files
from helpers.errors import a_line_names, raises
from helpers.raw_mixtures import as_lines
from helpers.shell import cotbal

ASKED = {"question_id": 0, "image": "000000441147.jpg", "text": "Who?", "category": "conv"}
TASKS = ["conversation", "detail", "complex_reasoning"]


def silent(what: str, done: int, total: int) -> None:
    pass


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return raw_files.chat(tmp_path / "raw")


def made(raw: Path, *tasks: str, **choices: Any) -> Prepared:
    places = chat.Places(raw, raw.parent / "out")
    return chat.prepare(places, chat.Choices(**choices), silent, tasks=tasks or None)


def lines(raw: Path, split: str) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for line in (raw.parent / f"out/data/{split}.jsonl").read_text().splitlines()
    ]


def test_the_command_makes_the_benchmark(raw: Path) -> None:
    output = cotbal("prepare", "chat", raw, raw.parent / "out")
    assert a_line_names(output, "differs", "conversation train", "-56,698 records")
    assert a_line_names(output, "differs", "detail in_the_wild", "-14 records", "-14 turns")
    assert "no errors" in cotbal("check", raw.parent / "out/recipe.yaml")


def test_the_recipe_carries_the_settings_of_the_paper(raw: Path) -> None:
    recipe = load_recipe(made(raw).recipe)
    assert [(task.name, task.metric) for task in recipe.mixture.tasks] == [
        (name, "judge") for name in TASKS
    ]
    assert (recipe.file.optimization.epochs, recipe.file.optimization.batch_size) == (3, 128)
    assert (recipe.file.balance.form, recipe.file.balance.temperature) == ("simple", 0.5)
    assert (str(recipe.file.portions.mini), recipe.file.portions.large) == ("1/32", 1)
    assert list(recipe.mixture["detail"].test) == ["in_the_wild"]


def test_instructions_are_whole_conversations_with_the_image_at_the_head(raw: Path) -> None:
    made(raw)
    first, second = lines(raw, "conversation_train")
    assert (first["id"], second["id"]) == ("000000442786", "000000442786_2")
    assert first["image"] == "coco/train2017/000000442786.jpg"
    assert first["conversations"] == second["conversations"]
    assert [turn["value"] for turn in first["conversations"]] == [
        "<image>\nWho waits at the pier?",
        "A heron, 0.",
        "What stands there?",
        "A heron, 1.",
    ]


def test_a_judge_receives_captions_and_boxes_on_coco(raw: Path) -> None:
    made(raw)
    (record,) = lines(raw, "detail_validation")
    assert (
        record["context"]
        == "Two cases.\nOld bags.\n\nsuitcase: [0.25, 0.5, 0.75, 1.0]\ncat: [0, 0.1, 0.2, 0.3]"
    )
    assert (record["category"], record["rule"]) == ("detail", "detail")
    assert record["image"] == "coco/val2014/COCO_val2014_000000441147.jpg"
    assert [turn["value"] for turn in record["conversations"]] == ["<image>\nAsk 1?", "Said 1."]


def test_a_judge_receives_a_caption_in_the_wild(raw: Path) -> None:
    made(raw)
    first, second = lines(raw, "complex_reasoning_in_the_wild")
    assert (first["context"], first["rule"]) == ("A beach at noon.", "llava_bench_complex")
    assert (first["image"], second["id"]) == ("llava_bench_in_the_wild/001.jpg", "in_the_wild_3")
    assert (raw.parent / "out/images" / first["image"]).is_file()


def test_a_metric_receives_what_the_judge_receives(raw: Path) -> None:
    made(raw)
    (record,) = open_records(
        raw.parent / "out/data/detail_validation.jsonl", raw.parent / "cache", evaluation=True
    )
    assert set(record.details) == {"category", "rule", "context"}


def test_what_is_absent_is_named_with_where_to_get_it(raw: Path) -> None:
    (raw / "liuhaotian/LLaVA-Instruct-150K/detail_23k.json").unlink()
    rest = "--tasks conversation,complex_reasoning"
    with raises(DataError, "missing-file", "/LLaVA-Instruct-150K detail_23k.json", rest):
        made(raw)


@pytest.mark.parametrize(
    ("file", "row", "code", "name"),
    [
        ("qa90_questions", {**ASKED, "category": "poem"}, "unknown-value", "poem"),
        ("qa90_questions", {**ASKED, "question_id": 9}, "unmatched-record", "question 9"),
        (
            "qa90_questions",
            {**ASKED, "image": "000000000001.jpg"},
            "unmatched-record",
            "000000000001.jpg",
        ),
        (
            "qa90_questions",
            {"question_id": 0, "image": "000000441147.jpg"},
            "missing-key",
            "text, category",
        ),
        (
            "qa90_gpt4_answer",
            {"question_id": 0, "text": "!", "score": 3},
            "unknown-key",
            "'score'",
        ),
        ("qa90_gpt4_answer", {"question_id": 0, "text": " "}, "empty-answer", "text"),
    ],
)
def test_a_question_that_does_not_fit_is_rejected(
    raw: Path, file: str, row: dict[str, Any], code: str, name: str
) -> None:
    as_lines(raw / f"llava/playground/data/coco2014_val_qa_eval/{file}.jsonl", [row])
    with raises(DataError, code, f"{file}.jsonl, line 1", name):
        made(raw, "conversation")


@pytest.mark.parametrize("file", ["qa90_questions", "qa90_gpt4_answer"])
def test_a_question_or_answer_that_comes_twice_is_rejected(raw: Path, file: str) -> None:
    path = raw / f"llava/playground/data/coco2014_val_qa_eval/{file}.jsonl"
    path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")
    with raises(DataError, "repeated-name", f"{file}.jsonl, line 4"):
        made(raw, "conversation")


def test_an_image_of_another_source_than_coco_is_rejected(raw: Path) -> None:
    rows = [{"id": "1", "image": "cat.jpg", "conversations": raw_files.talk(1)}]
    raw_files.as_json(raw / "liuhaotian/LLaVA-Instruct-150K/detail_23k.json", rows)
    with raises(DataError, "invalid-name", "detail_23k.json, record 1", "cat.jpg"):
        made(raw, "detail")


COCO = ("qa90_questions", "caps_boxes_coco2014_val_80")


@pytest.mark.parametrize("files", [COCO, COCO[:1]])
def test_names_of_coco_2014_are_the_same_images(raw: Path, files: tuple[str, ...]) -> None:
    """As the copy in the repository of VisATB names them; a context may name its image either
    way."""
    made(raw)
    plain = {path.name: path.read_bytes() for path in (raw.parent / "out/data").glob("*.jsonl")}
    for name in files:
        (path,) = (raw / "llava").rglob(f"{name}.jsonl")
        text = path.read_text().replace('"image": "', '"image": "COCO_val2014_')
        assert text.count("COCO_val2014_") == len(text.splitlines())
        path.write_text(text)
    places = chat.Places(raw, raw.parent / "again")
    chat.prepare(places, chat.Choices(), silent)
    again = {path.name: path.read_bytes() for path in (places.out / "data").glob("*.jsonl")}
    assert again == plain


def test_an_image_of_the_other_coco_split_is_an_error(raw: Path) -> None:
    path = raw / "llava/playground/data/coco2014_val_qa_eval/qa90_questions.jsonl"
    as_lines(path, [{**ASKED, "image": "COCO_train2014_000000441147.jpg"}])
    with raises(DataError, "invalid-name", "line 1", "COCO_val2014_000000442786"):
        made(raw, "conversation")
