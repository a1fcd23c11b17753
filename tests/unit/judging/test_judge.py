"""Who judges: the requests, the names under which their replies are kept, and what comes of the
ratings.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cotbal.benchmarks.judge.budget import Tokens
from cotbal.benchmarks.judge.judge import FIELDS, Judge, read_judge
from cotbal.benchmarks.judge.pairs import Pair
from cotbal.benchmarks.judge.prompts import default_prompt
from cotbal.benchmarks.judge.replies import Replies, Reply
from cotbal.benchmarks.judge.result import judged
from cotbal.errors import CotbalError, RunError
from helpers.errors import raises

JUDGE = Judge("m", "https://host/v1", default_prompt(), FIELDS, False)
PAIR = Pair("7", "What?", "A cat.", "A hat.", "A man.", "conv", "conv", True)


def test_the_key_is_that_of_everything_that_is_sent() -> None:
    (ask,) = JUDGE.requests(PAIR)
    changes: list[dict[str, Any]] = [
        {"answer": "A bat."},
        {"reference": "Hat."},
        {"question": "Why?"},
        {"context": ""},
        {"rule": "detail"},
    ]
    others = [JUDGE.requests(replace(PAIR, **change))[0] for change in changes]
    others += replace(JUDGE, model="n").requests(PAIR)
    others += replace(JUDGE, fields={**FIELDS, "temperature": 0}).requests(PAIR)
    others += replace(JUDGE, prompt=replace(JUDGE.prompt, system="Be good.")).requests(PAIR)
    others += replace(JUDGE, swap=True).requests(PAIR)[1:]
    assert len({ask.key, *(other.key for other in others)}) == 1 + len(others)
    same = [
        JUDGE.requests(replace(PAIR, id="8", category="x"))[0],
        replace(JUDGE, base_url="").requests(PAIR)[0],
    ]
    assert {other.key for other in same} == {ask.key}


def test_swapped_is_the_other_way_round() -> None:
    forth, back = replace(JUDGE, swap=True).requests(PAIR)
    assert (forth.reference_first, back.reference_first) == (True, False)
    assert "[Assistant 1]\nA hat." in forth.content["messages"][1]["content"]
    assert "[Assistant 1]\nA cat." in back.content["messages"][1]["content"]


def test_a_judge_is_found_again() -> None:
    assert read_judge(JUDGE.to_json()) == JUDGE


def test_a_prompt_cannot_have_more_tokens_than_bytes() -> None:
    (ask,) = JUDGE.requests(replace(PAIR, answer="☃" * 1000))
    (bare,) = JUDGE.requests(replace(PAIR, answer=""))
    assert ask.worst.input - bare.worst.input == 3000
    assert ask.worst.output == 1024
    assert bare.expected(50).output == 50
    assert bare.expected(5000).output == 1024
    assert 0 < bare.expected(50).input < bare.worst.input


@pytest.mark.parametrize(
    "fields", [{}, {"max_tokens": None}, {"max_tokens": "many"}, {"max_tokens": 0}]
)
def test_how_long_a_reply_may_be_must_be_known(fields: dict[str, Any]) -> None:
    with raises(CotbalError, "invalid-option", "--field", "max_completion_tokens", "max_tokens"):
        replace(JUDGE, fields=fields).requests(PAIR)
    assert replace(JUDGE, fields={"max_tokens": None, "max_completion_tokens": 9}).longest == 9


def keep(kept: Replies, judge: Judge, pair: Pair, *texts: str) -> None:
    for ask, text in zip(judge.requests(pair), texts, strict=True):
        kept.add(Reply(ask.key, pair.id, judge.model, text, Tokens(1, 1), {}))


def pairs(*categories: str) -> list[Pair]:
    return [
        replace(PAIR, id=str(i), question=str(i), category=c, rule="")
        for i, c in enumerate(categories)
    ]


def test_marks_become_scores(tmp_path: Path) -> None:
    kept, three = Replies(tmp_path / "j"), pairs("conv", "detail", "conv")
    for pair, text in zip(three, ("8 4", "bad", "10 9"), strict=True):
        keep(kept, JUDGE, pair, text)
    ratings = judged(three, JUDGE, kept, "here")
    np.testing.assert_array_equal(ratings.answers, [4, np.nan, 9])
    entry = ratings.entry(JUDGE)
    assert entry["score"] == pytest.approx(100 * 13 / 18)
    assert entry["maximum"] == pytest.approx(1000 / 9)
    assert entry["ratings"] == {"answers": [4, None, 9], "references": [8, None, 10]}
    assert (entry["left_out"], entry["judge"]) == (["1"], "m")
    conv, detail, everything = ratings.categories()
    assert (conv.name, conv.pairs, conv.left_out, conv.answers, conv.references) == (
        "conv",
        2,
        0,
        6.5,
        9,
    )
    assert (detail.pairs, detail.left_out, np.isnan(detail.score)) == (1, 1, True)
    assert (everything.name, everything.pairs, everything.left_out) == ("all", 3, 1)
    assert everything.score == conv.score == entry["score"]


def test_both_orders_are_averaged_and_one_alone_is_none(tmp_path: Path) -> None:
    """A judge that likes whoever comes first gives both sides the same."""
    judge, kept, (one, two) = (
        replace(JUDGE, swap=True),
        Replies(tmp_path / "j"),
        pairs("conv", "conv"),
    )
    keep(kept, judge, one, "9 5", "9 5")
    keep(kept, judge, two, "9 5", "bad")
    ratings = judged([one, two], judge, kept, "here")
    np.testing.assert_array_equal(ratings.answers, [7, np.nan])
    np.testing.assert_array_equal(ratings.references, [7, np.nan])
    assert ratings.entry(judge)["score"] == 100


def test_one_category_is_all_there_is(tmp_path: Path) -> None:
    kept, two = Replies(tmp_path / "j"), pairs("", "")
    for pair in two:
        keep(kept, JUDGE, pair, "5 5")
    assert [category.name for category in judged(two, JUDGE, kept, "here").categories()] == ["all"]


def test_a_judge_that_never_gives_marks_is_no_judge(tmp_path: Path) -> None:
    kept, one = Replies(tmp_path / "j"), pairs("conv")
    keep(kept, JUDGE, one[0], "I am a parrot.")
    with raises(RunError, "no-ratings", "here", tmp_path / "j"):
        judged(one, JUDGE, kept, "here")
