from __future__ import annotations

import pytest

from cotbal.metrics.exact_match import constant_answer, score


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("Yes", True),
        (" yes \n", True),
        ("yes.", True),
        ("YES.", True),
        ("yes..", False),
        ("yes!", False),
        ("a yes", False),
        ("", False),
        ("yes .", False),
        (".", False),
    ],
)
def test_normalisation(answer: str, right: bool) -> None:
    assert score([answer], [["yes"]]).tolist() == [float(right)]


def test_one_full_stop_is_dropped_on_both_sides() -> None:
    assert score(["3.5", "3."], [["3.5."], ["3"]]).tolist() == [1, 1]


def test_any_reference_is_right() -> None:
    assert score(["b", "c"], [["a", "B"], ["a", "b"]]).tolist() == [1, 0]


def test_constant_answer_counts_normalised_answers_once_an_item() -> None:
    assert constant_answer([["no"], ["Yes."], ["yes"], ["no", "No", "NO."], ["yes"]]) == "yes"
    assert constant_answer([["b"], ["a"]]) == "b"
