from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import pytest

from cotbal.errors import CotbalError
from cotbal.metrics.mme import constant_answer, problem_of, score
from cotbal.scores.measure import measure
from helpers.errors import names_all, raises

PERCEPTION = (
    "existence",
    "count",
    "position",
    "color",
    "posters",
    "celebrity",
    "scene",
    "landmark",
    "artwork",
    "OCR",
)
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")


def records(category: str, images: int) -> list[dict[str, Any]]:
    """Two questions an image; images of different categories have the same names."""
    return [
        {"images": [f"{i // 2}.jpg"], "details": {"category": category}} for i in range(2 * images)
    ]


def official(right: list[bool], about: list[dict[str, Any]]) -> float:
    """Accuracy in % over questions, plus the same over images with both right, added up over
    categories.
    """
    pairs: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for good, record in zip(right, about, strict=True):
        pairs[record["details"]["category"]][record["images"][0]].append(good)
    total = 0.0
    for images in pairs.values():
        answers = [good for pair in images.values() for good in pair]
        total += 100 * sum(answers) / len(answers) + 100 * sum(map(all, images.values())) / len(
            images
        )
    return total


@pytest.mark.parametrize(
    ("answer", "reads"),
    [
        ("Yes", "yes"),
        ("YES.", "yes"),
        ("yes, it is", "yes"),
        ("No", "no"),
        ("no.", "no"),
        (" \nYes", "yes"),
        ("not sure", "no"),
        ("y", ""),
        ("It is yes", ""),
        ("maybe", ""),
        ("", ""),
    ],
)
def test_reading(answer: str, reads: str) -> None:
    assert score([answer], [["Yes"]]).tolist() == [2000.0 * (reads == "yes")]
    assert score([answer], [["No"]]).tolist() == [2000.0 * (reads == "no")]


def test_score_is_the_official_sum_over_ten_categories() -> None:
    about = [record for i, name in enumerate(PERCEPTION) for record in records(name, 3 + i)]
    draw = random.Random(0)
    right = [draw.random() < 0.7 for _ in about]
    answers = ["Yes" if good else "No" for good in right]
    assert measure("mme", answers, [["Yes"]] * len(about), about).score == pytest.approx(
        official(right, about), rel=1e-12
    )


def test_one_wrong_answer_costs_the_image_its_accuracy_plus() -> None:
    measured = measure(
        "mme",
        ["Yes", "No", "Yes", "Yes"],
        [["Yes"], ["Yes"], ["Yes"], ["Yes"]],
        records("count", 2),
    )
    assert measured.values.tolist() == [1000, 0, 2000, 2000]
    assert measured.score == 10 * (75 + 50)


def test_cognition_counts_nothing_beside_perception() -> None:
    about = [*records("count", 1), *records("code_reasoning", 1)]
    assert measure("mme", ["Yes", "Yes", "No", "No"], [["Yes"]] * 4, about).score == 2000


def test_cognition_is_a_score_of_its_own() -> None:
    about = [
        record
        for i, name in enumerate((*PERCEPTION, *COGNITION))
        for record in records(name, 3 + i)
    ]
    draw = random.Random(1)
    right = [draw.random() < 0.7 for _ in about]
    answers = ["Yes" if good else "No" for good in right]
    chosen = [i for i, record in enumerate(about) if record["details"]["category"] in COGNITION]
    wanted = official([right[i] for i in chosen], [about[i] for i in chosen])
    assert measure("mme_cognition", answers, [["Yes"]] * len(about), about).score == pytest.approx(
        wanted, rel=1e-12
    )


def test_a_file_without_the_categories_of_a_score_is_rejected() -> None:
    with raises(CotbalError, "missing-category", "mme:", "code_reasoning", "mme_cognition"):
        measure("mme", ["Yes"] * 2, [["Yes"]] * 2, records("code_reasoning", 1))
    with raises(CotbalError, "missing-category", "mme_cognition:", "count", " mme "):
        measure("mme_cognition", ["Yes"] * 2, [["Yes"]] * 2, records("count", 1))


def test_constant_answer() -> None:
    assert constant_answer([["Yes"], ["No"], ["no."]]) == "No"
    assert constant_answer([["Yes"], ["No"]]) == "Yes"


def test_the_constant_answer_counts_every_reference() -> None:
    assert constant_answer([["No", "Yes"], ["No", "Yes"], ["Yes"]]) == "Yes"


@pytest.mark.parametrize("label", ["NO", " no ", "No."])
def test_a_label_is_the_same_in_any_case_with_blanks_or_a_full_stop(label: str) -> None:
    assert problem_of([label]) == ""
    assert score(["No", "Yes"], [[label]] * 2).tolist() == [2000, 0]


def test_references_that_it_cannot_score_are_named() -> None:
    """Answers are read from their first four letters, labels are not: `None` is no `No`."""
    assert [problem_of(labels) for labels in (["Yes"], ["no."])] == [""] * 2
    for label in ("maybe", "None", "not sure", "Yes it is"):
        assert names_all(problem_of([label]), "yes or no", repr(label))
        assert score(["Yes", "No"], [[label]] * 2).tolist() == [0, 0]
