"""What every metric promises; a new file in `cotbal.metrics` is found and tested without a line here."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from cotbal import plugins

METRICS = plugins.names("cotbal.metrics")
# Each has words and a box, and no word of another, so that it suits metrics of every kind.
REFERENCES = [
    ["left frog [0.1, 0.2, 0.5, 0.6]"],
    ["under seven red trumpets [0.51, 0.62, 0.83, 0.94]"],
    ["Behind: two Houses. [0.25, 0.35, 0.75, 0.85]"],
]
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
    "\0",
    "☃ 🐸",
    "." * 9,
    "q" * 20_000,
]


@pytest.fixture(params=METRICS)
def metric(request: pytest.FixtureRequest) -> ModuleType:
    return plugins.load("cotbal.metrics", request.param)


def perfect() -> list[str]:
    return [accepted[0] for accepted in REFERENCES]


def test_the_metrics_of_the_paper_are_found() -> None:
    assert {"exact_match", "cider", "box_iou"} <= set(METRICS)


def test_constants(metric: ModuleType) -> None:
    assert isinstance(metric.MAXIMUM, float)
    assert metric.MAXIMUM > 0
    assert metric.HIGHER_IS_BETTER is True


def test_one_number_a_sample_within_the_range(metric: ModuleType) -> None:
    answers = [*perfect(), "left frog", "seven [0.5, 0.6, 0.8, 0.9]", *GARBAGE]
    references = [REFERENCES[place % 3] for place in range(len(answers))]
    scores = metric.score(answers, references)
    assert scores.shape == (len(answers),)
    assert scores.dtype == np.float64
    assert np.all((scores >= 0) & (scores <= metric.MAXIMUM))


def test_a_perfect_answer_scores_the_maximum(metric: ModuleType) -> None:
    np.testing.assert_allclose(metric.score(perfect(), REFERENCES), metric.MAXIMUM, rtol=1e-12)


@pytest.mark.parametrize("answer", GARBAGE)
def test_garbage_scores_zero(metric: ModuleType, answer: str) -> None:
    assert metric.score([answer] * 3, REFERENCES).tolist() == [0, 0, 0]


def test_garbage_leaves_the_others_alone(metric: ModuleType) -> None:
    alone = metric.score(perfect(), REFERENCES)
    beside = metric.score(["[", *perfect()[1:]], REFERENCES)
    assert beside[0] == 0
    np.testing.assert_allclose(beside[1:], alone[1:], rtol=1e-12)


def test_order_does_not_matter(metric: ModuleType) -> None:
    answers = ["left frog [0.1, 0.2, 0.5, 0.6]", "under seven", "two Houses [0.2, 0.3, 0.7, 0.8]"]
    forth = metric.score(answers, REFERENCES)
    back = metric.score(answers[::-1], REFERENCES[::-1])[::-1]
    np.testing.assert_allclose(forth, back, rtol=1e-12)


def test_one_of_several_references_is_enough_to_score(metric: ModuleType) -> None:
    accepted = [[*other, *own] for own, other in zip(REFERENCES, REFERENCES[1:] + REFERENCES[:1], strict=True)]
    assert np.all(metric.score(perfect(), accepted) > 0)


def test_no_samples(metric: ModuleType) -> None:
    assert metric.score([], []).shape == (0,)


def test_references_that_are_garbage_do_not_crash(metric: ModuleType) -> None:
    assert metric.score(["a frog"], [["", "["]]).shape == (1,)


def test_constant_answer_is_a_legal_answer(metric: ModuleType) -> None:
    references = [*REFERENCES, REFERENCES[1], REFERENCES[1]]
    guess = metric.constant_answer(references)
    assert isinstance(guess, str)
    scores = metric.score([guess] * len(references), references)
    assert scores[[1, 3, 4]].min() > 0


def test_different_lengths_are_refused(metric: ModuleType) -> None:
    with pytest.raises((AssertionError, ValueError)):
        metric.score(["a"], [])
