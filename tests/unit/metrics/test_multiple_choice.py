from __future__ import annotations

import re
import time
from typing import Any

import pytest

from cotbal.metrics.multiple_choice import constant_answer, problem_of, score
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


RIGHT = [
    "B\nBecause it barks.",
    "**B**\n\nThe dog barks.",
    "B - a dog",
    "B、狗",
    "B\uff0e狗",
    "\uff22",
    "\uff08\uff22\uff09",
    "The answer is **B**.",
    "The answer is **B** because it barks.",
    "**Answer:** B",
    "Answer:\nB",
    "Final answer: (b)",
    "The correct option is: B",
    "The answer is option B, which shows a dog.",
    "The answer is B (a dog).",
    "The answer is `B`",
    'The answer is "B".',
    "The answer would be B since it barks",
    "I would choose (B)",
    "Option B is correct.",
    "Only a dog barks, so B is the correct answer.",
    "Thus $\\boxed{B}$.",
    "\\boxed{\\text{B}}",
    "\\boxed{(B)}",
    "\\boxed{B. a dog}",
    "<think>A or C?</think><answer>B</answer>",
    "It barks, it is no cat.\n\nB",
    "答案：B",
    "答案是B。因为它会叫。",
    "正确答案为 (B)",
    "\u6545\u9009B\u3002",
    "\u9009\u9879B",
    # What comes first, and what is an answer rather than a mention, decides.
    "Option A is a cat, option C is a bird. The answer is B.",
    "A) shows a cat, C) a bird. The answer is B.",
    "B. a dog\nThe answer is not A.",
    "The answer is B. So I say: the answer is B.",
]
WRONG = [
    "The answer is A. Wait. The answer is B.",
    "Answer: A\nAnswer: B",
    "A\nB",
    "A, B",
    "A、B",
    "The answer is A, B",
    "The answer is B, C and D",
    "The answer is A or B",
    "答案：A、B",
    "答案：AB",
    "Option A or option B",
    "\\boxed{A} or \\boxed{B}",
    "The answer is not B",
    "B is not correct",
    "The answer is B-flat",
    "\\boxed{A dog}",
    "选A和B",
]


@pytest.mark.parametrize("answer", RIGHT)
def test_forms_of_an_answer(answer: str) -> None:
    assert score([answer], [["B"]]).tolist() == [1]


@pytest.mark.parametrize("answer", WRONG)
def test_an_answer_that_gives_none_or_several_is_wrong(answer: str) -> None:
    assert score([answer] * 4, [["A"], ["B"], ["C"], ["D"]]).tolist() == [0, 0, 0, 0]


def llava(text: str) -> str:
    """The letter as LLaVA's evaluation of ScienceQA reads it."""
    if text in "ABCDE" or (text[:1] in "ABCDE" and text[1:3] == ". "):
        return text[:1]
    said = re.findall(r"The answer is ([A-Z]).", text)
    return said[0] if len(said) == 1 else ""


def lmms_eval(text: str) -> str:
    """The same as lmms-eval reads it."""
    return text[0] if len(text) == 1 or (text[0].isupper() and text[1] == ".") else ""


@pytest.mark.parametrize("letter", "ABCDE")
@pytest.mark.parametrize(
    "form", ["{}", "{}. a dog", "{}.", "The answer is {}.", "It barks. The answer is {}.", "{}.dog"]
)
def test_ordinary_answers_are_read_as_by_others(form: str, letter: str) -> None:
    text = form.format(letter)
    read = [other(text) for other in (llava, lmms_eval) if other(text)]
    assert read
    for expected in read:
        assert score([text], [[expected]]).tolist() == [1]


def test_long_answers_cost_little() -> None:
    """No pattern may look at a long text again and again."""
    parts = (
        " ",
        "\n",
        "answer ",
        "answer is ",
        "option",
        "(",
        "\\boxed{",
        "<",
        "B ",
        "B\n",
        "\uff22",
        "选",
    )
    started = time.process_time()
    for part in parts:
        score([part * (20_000 // len(part)) + end for end in ("", "q", "B")], [["A"]] * 3)
    assert time.process_time() - started < 5


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
    measured = measure(
        "multiple_choice", ["A", "B", "B", "C", "C", "D", "A"], [[x] for x in "ABBCCAB"], about
    )
    assert measured.values.tolist() == [0, 1, 0, 0, 1, 0, 0]
    assert measured.score == pytest.approx(1 / 3)


def test_records_without_rotations_stand_alone() -> None:
    about = rotation(None, 0, None, 0)
    measured = measure("multiple_choice", ["A", "A", "B", "B"], [["A"]] * 4, about)
    assert measured.values.tolist() == [1, 0, 0, 0]
    assert measured.score == pytest.approx(1 / 3)
    assert measure("multiple_choice", ["A", "B"], [["A"]] * 2).score == 0.5


def test_constant_answer_is_the_letter_that_is_right_most_often() -> None:
    assert constant_answer([["a"], ["(B) no"], ["B"]]) == "B"


def test_the_constant_answer_counts_every_reference() -> None:
    assert constant_answer([["dog", "C"], ["dog", "C"], ["A"]]) == "C"
    assert constant_answer([["A", "C"], ["B", "C"]]) == "C"


def test_references_that_it_cannot_score_are_named() -> None:
    references = (["B"], ["(b) dog"], ["dog", "C"], ["\uff22"])
    assert [problem_of(accepted) for accepted in references] == [""] * 4
    assert "'dog'" in problem_of(["dog"])
    assert "'A dog'" in problem_of(["A dog"])
