from __future__ import annotations

import pytest

from cotbal.metrics.box_iou import constant_answer, problem_of, score

REFERENCE = "[0.2,0.2,0.6,0.6]"


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        (REFERENCE, True),
        ("It is at [0.2, 0.2, 0.6, 0.6], left.", True),
        ("[0.2,0.2,0.6,0.41]", True),
        ("[0.2,0.2,0.6,0.39]", False),
        ("[0.7,0.7,0.9,0.9]", False),
        ("[0.6,0.6,0.2,0.2]", False),
        ("[0.2,0.2,0.2,0.2]", False),
        ("[0,0,1,1] [0.2,0.2,0.6,0.6]", False),
        ("[0.2,0.2,0.6]", False),
        ("[0.2,0.2,0.6,0.6,0.6]", False),
        ("[a,b,c,d]", False),
        ("[]", False),
        ("[0.2,0.2,0.6,0.6", False),
        ("[nan,nan,nan,nan]", False),
        ("[-inf,-inf,inf,inf]", False),
        ("[1e308,-1e308,1e308,1e308]", False),
        ("", False),
    ],
)
def test_answer(answer: str, right: bool) -> None:
    assert score([answer], [[REFERENCE]]).tolist() == [float(right)]


def test_an_overlap_of_exactly_one_half_is_wrong() -> None:
    assert score(["[0,0,2,2]", "[0,0,2,2.001]"], [["[0,0,2,4]"]] * 2).tolist() == [0, 1]


def test_any_reference_is_right() -> None:
    assert score(["[0,0,1,1]"], [["[5,5,6,6]", "[0,0,1,1]"]]).tolist() == [1]


def test_constant_answer_is_the_box_of_medians() -> None:
    boxes = [["[0,0.1,0.5,1]"], ["[0.2,0.1,0.75,1]", "nothing"], ["[0.9,0.4,1,1]"]]
    assert constant_answer(boxes) == "[0.2,0.1,0.75,1]"
    assert constant_answer([["nothing"]]) == ""


def test_references_that_it_cannot_score_are_named() -> None:
    assert [problem_of(references) for references in (["[0,0,1,1]"], ["none", "[0,0,1,1]"])] == [
        ""
    ] * 2
    assert all(
        problem_of(references)
        for references in (
            ["none"],
            ["[0,0,1]"],
        )
    )


@pytest.mark.parametrize(
    "box", ["[300,20,40,50]", "[20,300,50,40]", "[1,1,1,2]", "[0,0,inf,1]", "[0,0,nan,1]"]
)
def test_a_reference_that_no_answer_can_meet_is_an_error(box: str) -> None:
    assert score([box], [[box]]).tolist() == [0]
    for references in ([box], ["[0,0,1,1]", box]):
        problem = problem_of(references)
        assert "[x1, y1, x2, y2] with x1 < x2 and y1 < y2" in problem
        assert repr(box) in problem
        assert problem.endswith("the form of COCO, write [x, y, x + width, y + height]")


@pytest.mark.parametrize("box", ["[100,200,300,400]", "[0.1,0.2,0.3,0.4]", "[-5,0,999,1000]"])
def test_any_unit_will_do(box: str) -> None:
    assert problem_of([box]) == ""
    assert score([box], [[box]]).tolist() == [1]
