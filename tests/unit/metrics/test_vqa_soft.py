from __future__ import annotations

import pytest

from cotbal.errors import CotbalError
from cotbal.metrics.vqa_soft import constant_answer, normalise, problem_of, score
from helpers.errors import raises


@pytest.mark.parametrize(
    ("k", "expected"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (7, 1.0), (10, 1.0)]
)
def test_k_of_ten_people_agree(k: int, expected: float) -> None:
    accepted = ["red"] * k + [f"other {i}" for i in range(10 - k)]
    assert score(["red"], [accepted]) == pytest.approx([expected])


def test_people_are_normalised_too() -> None:
    assert score(["Two."], [["2"] * 2 + ["two"] * 2 + ["the two"] + ["3"] * 5]).tolist() == [1]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("A Frog.", "frog"),
        ("the  red\tand\nblue an", "red and blue"),
        ("none", "0"),
        ("Ten", "10"),
        ("eleven", "eleven"),
        ("1,000", "1000"),
        ("3.5", "3.5"),
        (".5 m.", ".5 m"),
        ("e.g. this", "eg this"),
        ("really?", "really"),
        ("t-shirt", "t shirt"),
        ("left - right", "left right"),
        ("red/blue", "red blue"),
        ("red/ blue/green", "red bluegreen"),  # once beside a blank, a sign goes everywhere
        ('"stop"', "stop"),
        ("dont", "don't"),
        ("couldn'tve", "couldn't've"),
        ("couldnt've", "couldn't've"),
        ("ow's at", "ow 's at"),
        ("man's hat", "man 's hat"),
        ("somebody'd", "somebodyd"),
        ("im", "im"),  # the server's table has it as Im, which small letters never meet
        ("hell", "hell"),
        ("", ""),
        ("the", ""),
    ],
)
def test_normalisation_of_the_server(answer: str, expected: str) -> None:
    assert normalise(answer) == expected


def test_too_few_people_are_rejected() -> None:
    with raises(CotbalError, "invalid-reference", "vqa_soft", "found 1", "exact_match"):
        score(["red"], [["red"]])


def test_constant_answer_is_the_one_that_scores_most() -> None:
    """Two of ten in every item (0.6 each) beat four of ten in one (1.0)."""
    references = [["yes"] * 2 + ["no"] * 4 + list("abcd"), ["yes"] * 2 + ["red"] * 4 + list("abcd")]
    assert constant_answer(references) == "yes"


def test_references_that_it_cannot_score_are_named() -> None:
    assert [problem_of(references) for references in (["a"] * 10, ["a"] * 4)] == [""] * 2
    assert all(
        problem_of(references)
        for references in (
            ["a"],
            ["a"] * 3,
        )
    )
