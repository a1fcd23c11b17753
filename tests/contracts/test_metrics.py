"""What every metric promises; a new file in `cotbal.metrics` is found and tested without a line
here.

A metric whose references are of a kind of their own (yes or no, letters, ...) gets one line in
EXAMPLES.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotbal import plugins
from cotbal.errors import CotbalError
from cotbal.scores.matrix import Measured
from cotbal.scores.measure import given_by, load_metric, measure
from helpers.errors import raises

NAMES = plugins.names("cotbal.metrics")
METRICS = [name for name in NAMES if given_by(name) is None]


@dataclass(frozen=True)
class Example:
    """References of three samples, the first of each being a perfect answer, the second another
    than those beside it.

    Attributes:
        garbage: the answer that whatever has no meaning is taken for; empty: for a wrong one.
        records: what else is known of the three.
    """

    references: tuple[list[str], list[str], list[str]]
    garbage: str = ""
    records: tuple[dict[str, Any], ...] = ({}, {}, {})


# Each has words and a box, and no word of another, so that it suits metrics of many kinds.
TEXTS = (
    ["left frog [0.1, 0.2, 0.5, 0.6]"],
    ["under seven red trumpets [0.51, 0.62, 0.83, 0.94]"],
    ["Behind: two Houses. [0.25, 0.35, 0.75, 0.85]"],
)
YES_NO = (["no"], ["Yes"], ["no"])
NAMED = tuple(
    {"images": [f"{c}.png"], "details": {"category": c}} for c in ("count", "color", "OCR")
)
COGNITION = ("code_reasoning", "text_translation", "")
THOUGHT = tuple({"images": [f"{c}.png"], "details": {"category": c}} for c in COGNITION)
ROTATED = tuple({"details": {"rotation_of": i}} for i in (7, 8, 9))
EXAMPLES = {
    "mme": Example(YES_NO, records=NAMED),
    "mme_cognition": Example(YES_NO, records=THOUGHT),
    "multiple_choice": Example((["A"], ["(C) a frog"], ["b."]), records=ROTATED),
    "pope_f1": Example(YES_NO, garbage="yes", records=NAMED),
    "relaxed_accuracy": Example((["12%"], ["-3.5"], ["0.5 metres"])),
    "vqa_soft": Example(
        (["left frog"] * 10, ["7"] * 6 + ["8"] * 4, ["A House"] * 5 + ["houses"] * 5)
    ),
}
GARBAGE = [
    "",
    " ",
    "\n",
    "[",
    "[]",
    "[a,b]",
    "[1,2,3]",
    "[nan,nan,nan,nan]",
    "[inf,0,inf,0]",
    "nan",
    "inf",
    "-1e999",
    "%",
    "\0",
    "☃ 🐸",
    "\u2028\u202e",
    "ﷺ" * 50,
    "." * 9,
    "q" * 20_000,
    "q " * 5_000,
    "answer" + " " * 20_000,
]


@pytest.fixture(params=METRICS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def metric(name: str) -> ModuleType:
    return load_metric(name)


@pytest.fixture
def example(name: str) -> Example:
    return example_of(name)


def example_of(name: str) -> Example:
    return EXAMPLES.get(name, Example(TEXTS))


def apply(name: str, answers: Sequence[str], order: Sequence[int] = (0, 1, 2)) -> Measured:
    """The measure of answers to the samples of these numbers."""
    example = example_of(name)
    return measure(
        name, answers, [example.references[i] for i in order], [example.records[i] for i in order]
    )


def perfect(example: Example) -> list[str]:
    return [accepted[0] for accepted in example.references]


def test_the_metrics_of_the_paper_are_found() -> None:
    assert {
        "anls",
        "box_iou",
        "cider",
        "exact_match",
        "gleu",
        "gleu_corpus",
        "mme",
        "multiple_choice",
        "pope_f1",
        "relaxed_accuracy",
        "vqa_soft",
    } <= set(METRICS)
    assert set(EXAMPLES) <= set(METRICS)


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(METRICS)))
def test_a_metric_that_a_command_gives_has_that_command_and_a_range(name: str) -> None:
    metric = load_metric(name)
    assert metric.GIVEN_BY.startswith("cotbal ")
    assert metric.MAXIMUM > 0
    assert not hasattr(metric, "score")
    with raises(CotbalError, "scores-from-elsewhere", name, metric.GIVEN_BY):
        measure(name, ["a"], [["a"]])


def test_constants(metric: ModuleType) -> None:
    assert isinstance(metric.MAXIMUM, float)
    assert metric.MAXIMUM > 0
    assert metric.HIGHER_IS_BETTER is True
    assert metric.__doc__


def test_one_number_a_sample_within_the_range(
    name: str, metric: ModuleType, example: Example
) -> None:
    answers = [*perfect(example), "left frog", "seven [0.5, 0.6, 0.8, 0.9]", *GARBAGE]
    measured = apply(name, answers, [number % 3 for number in range(len(answers))])
    assert measured.values.shape == (len(answers),)
    assert measured.values.dtype == np.float64
    assert np.all((measured.values >= 0) & (measured.values <= metric.MAXIMUM))
    assert 0 <= measured.score <= metric.MAXIMUM


def test_a_perfect_answer_scores_the_maximum(
    name: str, metric: ModuleType, example: Example
) -> None:
    measured = apply(name, perfect(example))

    np.testing.assert_allclose(measured.values, metric.MAXIMUM, rtol=1e-12)
    assert measured.score == pytest.approx(metric.MAXIMUM, rel=1e-12)


@pytest.mark.parametrize("answer", GARBAGE)
def test_garbage_is_wrong_or_what_the_metric_takes_it_for(
    name: str, example: Example, answer: str
) -> None:
    scores = apply(name, [answer] * 3).values.tolist()
    assert scores == (
        apply(name, [example.garbage] * 3).values.tolist() if example.garbage else [0, 0, 0]
    )


def test_garbage_leaves_the_others_alone(name: str, example: Example) -> None:
    alone = apply(name, perfect(example)).values
    beside = apply(name, ["[", *perfect(example)[1:]]).values
    assert beside[0] == 0
    np.testing.assert_allclose(beside[1:], alone[1:], rtol=1e-12)


def test_order_does_not_matter(name: str, example: Example) -> None:
    answers = [example.references[0][0], "under seven", "two Houses [0.2, 0.3, 0.7, 0.8]"]
    forth, back = apply(name, answers), apply(name, answers[::-1], (2, 1, 0))
    np.testing.assert_allclose(forth.values, back.values[::-1], rtol=1e-12)
    assert forth.score == pytest.approx(back.score, rel=1e-12)


def test_one_of_several_references_is_enough_to_score(name: str, example: Example) -> None:
    references = example.references
    accepted = [
        [*other, *mine]
        for mine, other in zip(references, references[1:] + references[:1], strict=True)
    ]
    assert np.all(measure(name, perfect(example), accepted, example.records).values > 0)


def test_no_samples(name: str) -> None:
    measured = measure(name, [], [])
    assert measured.values.shape == (0,)
    assert measured.weights is None or measured.weights.shape == (0,)


def test_references_that_are_garbage_are_rejected_or_missed(name: str) -> None:
    with suppress(CotbalError):
        assert measure(name, ["a frog"], [["", "["]]).values.shape == (1,)


def test_references_that_it_expects_have_no_problem(metric: ModuleType, example: Example) -> None:
    """And whoever expects references of a kind says in a sentence what it found instead."""
    problem_of = getattr(metric, "problem_of", lambda references: "")
    assert [problem_of(references) for references in example.references] == ["", "", ""]
    problem = problem_of(["☃ 🐸"])
    assert problem == "" or (problem.startswith("expected ") and "; found " in problem)


def test_constant_answer_is_a_legal_answer(name: str, metric: ModuleType, example: Example) -> None:
    order = [0, 1, 2, 1, 1]
    guess = metric.constant_answer([example.references[i] for i in order])
    assert isinstance(guess, str)
    assert apply(name, [guess] * 5, order).values[[1, 3, 4]].min() > 0


def test_the_plain_mean_of_linear_values_is_the_score(name: str, example: Example) -> None:
    answers = [
        *perfect(example),
        "no",
        "yes",
        "a",
        "left frog",
        "[0.1, 0.2, 0.5, 0.6]",
        "7",
        "12.1%",
    ]
    measured = apply(name, answers, [number % 3 for number in range(len(answers))])
    assert measured.linear.mean() == pytest.approx(measured.score, rel=1e-12, abs=1e-12)


def test_different_lengths_are_rejected(metric: ModuleType) -> None:
    with pytest.raises((AssertionError, ValueError)):
        metric.score(["a"], [])


@given(st.lists(st.tuples(st.text(max_size=40), st.integers(0, 2)), min_size=1, max_size=5))
def test_any_text_is_an_answer(said: list[tuple[str, int]]) -> None:
    """Whatever a model says is a number within the range, and the same one each time."""
    answers, order = zip(*said, strict=True)
    for name in METRICS:
        shuffled = apply(name, answers, order)
        assert np.all((shuffled.values >= 0) & (shuffled.values <= load_metric(name).MAXIMUM))
        assert np.array_equal(shuffled.values, apply(name, answers, order).values)
