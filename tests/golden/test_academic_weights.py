"""The weights that the paper prints for its Academic Benchmark (table 10, LLaVA-1.5-7B, temperature
0.5).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cotbal.balance import Settings, balance
from cotbal.balance.contribution import inward, outward
from cotbal.balance.weights import softmax_weights, weight_parts
from cotbal.scores.matrix import ScoreMatrix

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parent / "data" / "academic_7b_weights.json").read_text()
)
PARTS = ("outward", "inward", "inter", "intra", "all")
HALF_A_DIGIT = 5e-5  # the paper prints 4 decimals


def numbers(name: str) -> np.ndarray:
    return np.array(GOLDEN[name])


@pytest.fixture(scope="module")
def parts() -> dict[str, np.ndarray]:
    return weight_parts(
        numbers("outward_contribution"),
        numbers("inward_contribution"),
        numbers("difficulty"),
        GOLDEN["temperature"],
    )


@pytest.mark.parametrize("part", PARTS)
def test_printed_weights_come_out(parts: dict[str, np.ndarray], part: str) -> None:
    expected = GOLDEN["expected_weights"][part]
    np.testing.assert_allclose(parts[part], expected, rtol=0, atol=HALF_A_DIGIT)
    assert np.round(parts[part], 4).tolist() == expected


def test_printed_ratios_are_the_easiness_and_not_the_difficulty() -> None:
    ratio = numbers("mini_over_full_ratio")
    np.testing.assert_allclose(1 - ratio, numbers("difficulty"), atol=1e-12)
    right = softmax_weights(1 - ratio, GOLDEN["temperature"])
    np.testing.assert_allclose(
        right, GOLDEN["expected_weights"]["intra"], rtol=0, atol=HALF_A_DIGIT
    )


def test_weights_come_out_of_a_score_table() -> None:
    """End to end, Eq. 3-11: a table of scores whose contributions have the printed means gives the
    printed weights.
    """
    result = balance(score_table(), settings=Settings(temperature=GOLDEN["temperature"]))
    np.testing.assert_allclose(result.outward, numbers("outward_contribution"), rtol=0, atol=1e-9)
    # The printed sums differ by 0.0001, which no matrix can do; one constant per task makes up for
    # it, and cancels in the softmax.
    np.testing.assert_allclose(result.inward, numbers("inward_contribution"), rtol=0, atol=2e-5)
    np.testing.assert_allclose(result.difficulty, numbers("difficulty"), rtol=0, atol=1e-9)
    for part in PARTS:
        np.testing.assert_allclose(
            result.parts[part], GOLDEN["expected_weights"][part], rtol=0, atol=HALF_A_DIGIT
        )
    assert not result.flags
    assert list(result.weights) == GOLDEN["tasks"]


def score_table() -> ScoreMatrix:
    """Scores, each task on a scale of its own, whose contributions are `a[giver] + b[receiver]` off
    the diagonal.
    """
    tasks, n = GOLDEN["tasks"], len(GOLDEN["tasks"])
    give = numbers("outward_contribution")
    receive = numbers("inward_contribution") + (give - numbers("inward_contribution")).sum() / n
    off = np.ones((n, n)) - np.eye(n)
    means = np.block([[(n - 1) * np.eye(n), off], [off, (n - 1) * np.eye(n)]])
    solution = np.linalg.lstsq(means, (n - 1) * np.concatenate([give, receive]), rcond=None)[0]
    matrix = solution[:n, None] + solution[None, n:]
    np.fill_diagonal(matrix, 1.0)
    own_scores = np.array([0.1437, 0.58, 78.0, 61.8, 20.2, 67.5, 82.6])
    mini = own_scores * (1 - numbers("difficulty"))
    values = np.vstack([mini, mini + matrix * (own_scores - mini)])
    return ScoreMatrix(("mini", *(f"full:{task}" for task in tasks)), tuple(tasks), values)


@pytest.mark.parametrize("seed", range(20))
def test_what_all_give_is_what_all_receive(seed: int) -> None:
    generator = np.random.default_rng(seed)
    units = int(generator.integers(2, 12))
    matrix = generator.normal(0, 3, (units, units))
    np.testing.assert_allclose(outward(matrix).mean(), inward(matrix).mean(), atol=1e-12)
