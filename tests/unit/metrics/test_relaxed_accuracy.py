from __future__ import annotations

import pytest

from cotbal.metrics.relaxed_accuracy import constant_answer, score


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        ("14", "14", True),
        ("14.7", "14", True),
        ("14.71", "14", False),
        ("13.3", "14", True),
        ("-13.5", "-14", True),
        ("13.5", "-14", False),
        ("12%", "0.12", True),
        ("12%", "12", False),
        ("12.5%", "12%", True),
        ("0", "0", True),
        ("0.0", "0", False),  # 5 % of nothing
        ("0.01", "0", False),
        ("Yes", "yes", True),
        ("yes ", "yes", True),  # blanks around it are no part of an answer
        ("yes", "yes ", True),
        (" 14 ", "14", True),
        ("14", "14 ", True),
        ("12%", "12% ", True),
        ("0.12", " 12 %", True),
        ("14 cm", "14", False),
        ("fourteen", "14", False),
        ("14", "fourteen", False),
        ("1,400", "1400", False),
        ("%", "%", True),
        ("nan", "14", False),
        ("inf", "14", False),
        ("14", "nan", False),
        ("NaN", "nan", True),  # a word, such as the label of a row
        ("inf", "inf", True),
        ("-Infinity", "-infinity", True),
        ("1e999", "1e999", True),
        ("1e308", "-1e308", False),
    ],
)
def test_answer(answer: str, reference: str, right: bool) -> None:
    assert score([answer], [[reference]]).tolist() == [float(right)]


def test_any_reference_is_right() -> None:
    assert score(["3", "4"], [["1", "3.1"], ["1", "3"]]).tolist() == [1, 0]


def test_constant_answer_is_the_most_frequent_reference() -> None:
    assert constant_answer([["14"], ["Yes"], ["yes "], ["3"]]) == "yes"
