from __future__ import annotations

import random

import numpy as np
import pytest

from cotbal.metrics.pope_f1 import problem_of, score
from cotbal.scores.measure import measure
from helpers.errors import names_all


def f1(said: list[bool], true: list[bool]) -> float:
    """From precision and recall, as POPE defines it."""
    hits = sum(s and t for s, t in zip(said, true, strict=True))
    precision, recall = hits / sum(said), hits / sum(true)
    return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize(
    ("answer", "yes"),
    [
        ("Yes", True),
        ("yes, there is", True),
        ("No", False),
        ("no", False),
        ("No, there is not", False),
        ("There is not", False),
        ("NO", True),  # only these spellings deny
        ("Nothing", True),
        ("Yes. No doubt", True),  # the first sentence decides
        ("I do not. Yes", False),
        ("", True),
    ],
)
def test_reading(answer: str, yes: bool) -> None:
    assert score([answer, answer], [["yes"], ["no"]]).tolist() == [float(yes), float(not yes)]


def test_score_is_the_mean_of_the_f1_of_the_categories() -> None:
    draw = random.Random(0)
    sizes = {"adversarial": 40, "popular": 70, "random": 55}
    names = [name for name, size in sizes.items() for _ in range(size)]
    true = [draw.random() < 0.4 for _ in names]
    said = [t if draw.random() < 0.8 else not t for t in true]
    records = [{"details": {"category": name}} for name in names]
    words = {True: "Yes", False: "No"}
    measured = measure("pope_f1", [words[s] for s in said], [[words[t]] for t in true], records)
    places = {name: [i for i, other in enumerate(names) if other == name] for name in sizes}
    by_category = [
        f1([said[i] for i in indices], [true[i] for i in indices]) for indices in places.values()
    ]
    assert measured.score == pytest.approx(np.mean(by_category), rel=1e-12)
    assert measure(
        "pope_f1", [words[s] for s in said], [[words[t]] for t in true]
    ).score == pytest.approx(f1(said, true))


def test_never_yes_scores_zero() -> None:
    assert measure("pope_f1", ["No", "No"], [["yes"], ["no"]]).score == 0
    assert measure("pope_f1", ["No", "No"], [["no"], ["no"]]).score == 0


def test_always_yes_is_the_constant_answer() -> None:
    assert measure("pope_f1", ["Yes"] * 4, [["yes"], ["no"]] * 2).score == pytest.approx(2 / 3)


@pytest.mark.parametrize("label", ["no", "No", "NO", " no ", "no.", "NO .\n"])
def test_a_label_is_the_same_in_any_case_with_blanks_or_a_full_stop(label: str) -> None:
    assert problem_of([label]) == ""
    assert score(["No", "Yes"], [[label]] * 2).tolist() == [1, 0]


def test_always_yes_gains_nothing_from_labels_in_capitals() -> None:
    """Two of three labels say no, so F1 is 2 * 1 / (2 * 1 + 2)."""
    measured = measure("pope_f1", ["Yes"] * 3, [["YES"], ["NO"], [" No"]])
    assert measured.score == pytest.approx(0.5)


def test_references_that_it_cannot_score_are_named() -> None:
    assert [problem_of(labels) for labels in (["yes"], ["No."], ["Yes", "no"])] == [""] * 3
    assert names_all(problem_of(["maybe"]), "yes or no", "'maybe'")
    assert names_all(problem_of(["yes", "Yes it is"]), "yes or no", "'Yes it is'")
    assert score(["Yes", "No"], [["maybe"]] * 2).tolist() == [0, 0]
