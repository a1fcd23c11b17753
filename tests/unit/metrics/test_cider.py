from __future__ import annotations

import math
import random
import time

import numpy as np
import pytest

from cotbal.metrics.cider import constant_answer, score

REFERENCES = [
    ["a man riding a red bike down the street"],
    ["two dogs play in the snow", "a pair of dogs in snow"],
    ["A plate of food on a wooden table."],
]
CAPTIONS = [
    "a man riding a bike on the street",
    "two dogs in the snow",
    "a plate of food on a table",
]


def test_golden_values_of_pycocoevalcap() -> None:
    scores = score(CAPTIONS, REFERENCES)
    np.testing.assert_allclose(
        scores, [4.345406234594301, 3.4588635943847312, 5.5096195676654], rtol=0, atol=1e-12
    )
    assert scores.mean() == pytest.approx(4.4379631322148105, abs=1e-12)


def test_golden_values_with_one_reference() -> None:
    scores = score(CAPTIONS, [accepted[:1] for accepted in REFERENCES])
    np.testing.assert_allclose(
        scores, [4.402223270988844, 4.578177721668483, 5.5959668767898325], rtol=0, atol=1e-12
    )
    assert scores.mean() == pytest.approx(4.85878928981572, abs=1e-12)


def test_golden_values_of_odd_captions() -> None:
    """Computed with pycocoevalcap 1.2: empty, too short for 4-grams, repeated, unknown words."""
    captions = ["", "snow", "a plate plate plate of of table.", "xyzzy a b", "one one frog frog"]
    references = [*REFERENCES, ["a b"], ["one frog"]]
    np.testing.assert_allclose(
        score(captions, references),
        [0.0, 0.8066539534903666, 1.011406548605516, 3.4950475330546036, 2.5478242211729487],
        rtol=0,
        atol=1e-12,
    )


def test_perfect_and_disjoint_is_ten() -> None:
    assert score(["a b c d", "e f g h"], [["a b c d"], ["e f g h"]]).tolist() == [10, 10]


def test_one_item_alone_is_zero() -> None:
    assert score(["a b c d"], [["a b c d"]]).tolist() == [0]


def test_case_and_punctuation_count() -> None:
    low, high = (
        score(["A plate.", "x"], [["a plate"], ["x"]])[0],
        score(["a plate", "x"], [["a plate"], ["x"]])[0],
    )
    assert low == 0 < high


def test_a_difference_in_length_costs() -> None:
    references = [["a b c d e f"], ["x y"]]
    short = score(["a b c d e f", "x"], references)[0]
    longer = score(["a b c d e f " * 3, "x"], references)[0]
    assert longer < short * math.exp(-(11**2) / 72) * 1.0001


def test_the_time_grows_with_the_items_and_no_faster() -> None:
    """Ten times the items in at most twenty times the processor time: waiting for a busy machine
    does not count.
    """
    draw = random.Random(0)
    texts = [" ".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=12)) for _ in range(2000)]

    def seconds(items: list[str]) -> float:
        start = time.process_time()
        score(items, [[text] for text in items])
        return time.process_time() - start

    rounds = [(seconds(texts[:200]), seconds(texts)) for _ in range(3)]
    assert min(many for _, many in rounds) < 20 * min(few for few, _ in rounds)


def test_constant_answer_is_the_most_frequent_reference() -> None:
    assert constant_answer([["a", "b"], ["c", "b"]]) == "b"
    assert constant_answer([["z"], ["a"]]) == "z"


def test_scripts_without_spaces_are_scored_by_their_characters() -> None:
    references = [["红 色 的 苹 果"], ["一 个 男 人 骑 马"], ["桟 橋 で 待 つ"]]
    answers = ["红 色 的 梨", "一 个 女 人 骑 马", "桟 橋 で 待 つ"]
    spaced = score(answers, references)
    assert spaced[2] == pytest.approx(10)
    written = [text.replace(" ", "") for text in answers]
    assert score(written, [[text.replace(" ", "")] for (text,) in references]) == (
        pytest.approx(spaced)
    )
