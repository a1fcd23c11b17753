"""What the server of VQAv2 asks, and the file that it takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cotbal.benchmarks.academic.vqav2_server import read_questions, write_submission
from cotbal.errors import DataError
from helpers.errors import names_all, raises
from helpers.raw_releases import vqav2_server


def silent(what: str, done: int, total: int) -> None:
    pass


def test_the_questions_are_those_of_test_dev_as_in_training(tmp_path: Path) -> None:
    vqav2_server(tmp_path)
    questions = read_questions(tmp_path, silent)
    assert [question.id for question in questions.asked] == [9001, 9000]
    assert questions.asked[0].image == "coco/test2015/COCO_test2015_000000000009.jpg"
    assert questions.asked[0].text == "Is it 1?\nAnswer the question using a single word or phrase."
    assert questions.ids == (9000, 12000, 9001)
    of_dev, of_all = questions.remarks
    assert names_all(of_dev, "test-dev", 2, "107,394")
    assert names_all(of_all, "test2015", 3, "447,793")


def test_the_file_has_an_answer_to_everything_that_is_asked_of_test2015(tmp_path: Path) -> None:
    vqav2_server(tmp_path)
    questions = read_questions(tmp_path, silent)
    path = tmp_path / "submission.json"
    assert write_submission(path, questions, {9000: "The Two dogs.", 9001: " "}) == 1
    assert json.loads(path.read_text()) == [
        {"question_id": 9000, "answer": "2 dogs"},
        {"question_id": 12000, "answer": ""},
        {"question_id": 9001, "answer": ""},
    ]
    assert not list(tmp_path.glob(".submission*"))


@pytest.mark.parametrize(
    ("dev", "whole", "code", "name"),
    [
        ([9000, 9000], [9000], "repeated-name", "test-dev2015_questions.json"),
        ([9000], [12000], "unmatched-record", "test2015_questions.json"),
    ],
)
def test_files_that_do_not_belong_together_are_rejected(
    tmp_path: Path, dev: list[int], whole: list[int], code: str, name: str
) -> None:
    vqav2_server(tmp_path, dev, whole)
    with raises(DataError, code, name):
        read_questions(tmp_path, silent)


def test_an_unknown_key_is_rejected_and_what_is_absent_is_named(tmp_path: Path) -> None:
    with raises(
        DataError, "missing-file", "test-dev2015_questions.json", "test2015_questions.json"
    ):
        read_questions(tmp_path, silent)
    vqav2_server(tmp_path)
    path = tmp_path / "vqav2/v2_OpenEnded_mscoco_test2015_questions.json"
    content: dict[str, Any] = json.loads(path.read_text())
    content["questions"][0]["mood"] = "sad"
    path.write_text(json.dumps(content))
    with raises(DataError, "unknown-key", "record 1", "'mood'"):
        read_questions(tmp_path, silent)
