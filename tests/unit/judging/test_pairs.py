from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cotbal.benchmarks.judge.pairs import read_pairs
from cotbal.errors import DataError
from helpers.errors import raises

ROW = {
    "id": "7",
    "images": ["a.png"],
    "question": "What?",
    "references": ["A hat.", "hat"],
    "answer": "A cat.",
}


def test_a_line_of_answers() -> None:
    details = {"category": "conv", "context": "A man.", "rule": "llava_bench_conv"}
    (pair,) = read_pairs([{**ROW, "details": details}], Path("a.jsonl"))
    assert (pair.id, pair.question, pair.answer, pair.reference) == (
        "7",
        "What?",
        "A cat.",
        "A hat.",
    )
    assert (pair.context, pair.category, pair.rule, pair.has_images) == (
        "A man.",
        "conv",
        "llava_bench_conv",
        True,
    )


def test_what_a_line_may_leave_out() -> None:
    bare, named = read_pairs(
        [
            {"question": "", "references": ["a"], "answer": ""},
            {**ROW, "details": {"category": "conv"}},
        ],
        Path("a.jsonl"),
    )
    assert (bare.id, bare.context, bare.category, bare.rule, bare.has_images) == (
        "1",
        "",
        "",
        "",
        False,
    )
    assert named.rule == "conv"


def test_half_a_surrogate_can_be_sent() -> None:
    (pair,) = read_pairs([{**ROW, "answer": "cat \ud83d"}], Path("a.jsonl"))
    assert pair.answer == "cat ?"


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        ([], "list"),
        ({**ROW, "answer": None}, "answer"),
        ({**ROW, "question": 3}, "question"),
        ({**ROW, "references": []}, "references"),
        ({**ROW, "references": "hat"}, "'hat'"),
    ],
)
def test_what_is_no_answer(row: Any, shown: str) -> None:
    with raises(DataError, "wrong-type", "a.jsonl, line 2", shown):
        read_pairs([ROW, row], Path("a.jsonl"))
