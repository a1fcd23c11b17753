from __future__ import annotations

import numpy as np
import pytest

from cotbal.metrics.gleu import constant_answer, score
from cotbal.scores.measure import measure

REFERENCES = [["ein mann fährt fahrrad auf der straße"], ["zwei hunde spielen im schnee"]]
ANSWERS = ["ein mann fährt ein rotes fahrrad", "zwei hunde im schnee"]


def test_golden_values_of_nltk() -> None:
    np.testing.assert_allclose(
        score(ANSWERS, REFERENCES), [0.3181818181818182, 0.42857142857142855], rtol=1e-15
    )


def test_golden_value_of_nltk_for_a_corpus() -> None:
    assert measure("gleu_corpus", ANSWERS, REFERENCES).score == pytest.approx(
        0.3611111111111111, rel=1e-15
    )
    assert measure("gleu", ANSWERS, REFERENCES).score == pytest.approx(
        (0.3181818181818182 + 0.42857142857142855) / 2
    )


@pytest.mark.parametrize(
    ("answer", "accepted", "expected"),
    [
        ("a b", ["a b"], 1.0),
        ("a b", ["A b"], 1 / 3),  # one word of two words and a pair
        ("a a a a", ["a"], 1 / 10),
        ("a", ["a a a a"], 1 / 10),
        ("b", ["a", "b c", "b"], 1.0),
        ("", ["a"], 0.0),
        ("a", [""], 0.0),
        (" ", ["\n"], 0.0),
        ("b a", ["a b"], 2 / 3),
    ],
)
def test_answer(answer: str, accepted: list[str], expected: float) -> None:
    assert score([answer], [accepted]) == pytest.approx([expected])


def test_a_corpus_without_a_word_scores_zero() -> None:
    assert measure("gleu_corpus", ["", ""], [[""], [" "]]).score == 0


def test_constant_answer_is_the_most_frequent_reference() -> None:
    assert constant_answer([["a", "b"], ["c", "b"]]) == "b"


def test_scripts_without_spaces_are_scored_by_their_characters() -> None:
    (value,) = score(["一个女人骑马"], [["一个男人骑马"]])
    assert value == score(["一 个 女 人 骑 马"], [["一 个 男 人 骑 马"]])
    assert 0 < value < 1
