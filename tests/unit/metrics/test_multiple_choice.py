from __future__ import annotations

from typing import Any

import pytest

from cotbal.metrics.multiple_choice import constant_answer, fault_of, score
from cotbal.scores.measure import measure


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("B", True),
        ("b", True),
        (" B\n", True),
        ("B.", True),
        ("(B)", True),
        ("[B]", True),
        ("B)", True),
        ("*B*", True),
        ("B. A dog", True),
        ("(b) a dog", True),
        ("B: a dog", True),
        ("The answer is B.", True),
        ("Answer: B", True),
        ("Because of the light, option (B)", True),
        ("The correct answer is B\nIt barks.", True),
        ("A", False),
        ("BC", False),
        ("Bees", False),
        ("B or C", False),
        ("B, C", False),
        ("A. B", False),
        ("the answer is b", False),
        ("The answer is Bees", False),
        ("", False),
        ("(", False),
        ("2", False),
    ],
)
def test_letter(answer: str, right: bool) -> None:
    assert score([answer], [["B"]]).tolist() == [float(right)]


def test_an_article_is_no_letter() -> None:
    assert score(["A dog", "a dog", "The answer is A dog"], [["A"]] * 3).tolist() == [0, 0, 0]


def test_a_reference_may_hold_its_text() -> None:
    assert score(["C", "(C) cat.", "(A) cat."], [["(C) cat."]] * 3).tolist() == [1, 1, 0]


def test_a_reference_without_a_letter_is_never_met() -> None:
    assert score(["frog", ""], [["frog"], ["?"]]).tolist() == [0, 0]


def rotation(*of: int | None) -> list[dict[str, Any]]:
    return [{"details": {} if question is None else {"rotation_of": question}} for question in of]


def test_all_rotations_of_a_question_must_be_right() -> None:
    """Three questions, of four, two and one rotations, as MMBench counts them: one of three is
    right.
    """
    about = rotation(1, 2, 1, 1, 2, 1, 3)
    found = measure(
        "multiple_choice", ["A", "B", "B", "C", "C", "D", "A"], [[x] for x in "ABBCCAB"], about
    )
    assert found.values.tolist() == [0, 1, 0, 0, 1, 0, 0]
    assert found.score == pytest.approx(1 / 3)


def test_records_without_rotations_stand_alone() -> None:
    about = rotation(None, 0, None, 0)
    found = measure("multiple_choice", ["A", "A", "B", "B"], [["A"]] * 4, about)
    assert found.values.tolist() == [1, 0, 0, 0]
    assert found.score == pytest.approx(1 / 3)
    assert measure("multiple_choice", ["A", "B"], [["A"]] * 2).score == 0.5


def test_constant_answer_is_the_letter_that_is_right_most_often() -> None:
    assert constant_answer([["a"], ["(B) no"], ["B"]]) == "B"


def test_references_that_it_cannot_score_are_named() -> None:
    assert [fault_of(references) for references in (["B"], ["(b) dog"], ["dog", "C"])] == [""] * 3
    assert all(
        fault_of(references)
        for references in (
            ["dog"],
            ["A dog"],
        )
    )
