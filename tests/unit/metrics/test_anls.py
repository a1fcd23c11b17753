from __future__ import annotations

import random
import time

import pytest

from cotbal.metrics.anls import constant_answer, score


@pytest.mark.parametrize(
    ("answer", "accepted", "expected"),
    [
        ("School", ["school"], 1.0),
        ("  two \n words ", ["two words"], 1.0),
        ("schol", ["school"], 5 / 6),
        ("kitten", ["sitting"], 4 / 7),
        ("ab", ["abcd"], 0.5),  # one half counts
        ("ab", ["abcde"], 0.0),
        ("abcd", ["wxcd"], 0.5),
        ("abcde", ["xyzde"], 0.0),
        ("48.2", ["1490", "48.3", "48.25"], 0.8),
        ("", ["a"], 0.0),
        ("größe", ["grosse"], 3 / 6),
        ("x" + " " * 99 + "y", ["ab"], 0.0),  # white space cannot fill up the longer text
    ],
)
def test_answer(answer: str, accepted: list[str], expected: float) -> None:
    assert score([answer], [accepted]) == pytest.approx([expected])


def test_distance_is_that_of_its_definition() -> None:
    """Against the recursion over the last letters, for short texts of few letters."""

    def edits(a: str, b: str) -> int:
        if not a or not b:
            return len(a) + len(b)
        return min(
            edits(a[:-1], b) + 1, edits(a, b[:-1]) + 1, edits(a[:-1], b[:-1]) + (a[-1] != b[-1])
        )

    draw = random.Random(0)
    for _ in range(60):
        a, b = ("".join(draw.choices("abc", k=draw.randint(1, 5))) for _ in range(2))
        similarity = 1 - edits(a, b) / max(len(a), len(b))
        assert score([a], [[b]]) == pytest.approx([similarity if similarity >= 0.5 else 0.0])


def test_long_texts_cost_little() -> None:
    """A model that repeats itself: 20,000 letters, half of which are right."""
    reference = "ab" * 10_000
    started = time.process_time()
    assert score(["ax" * 10_000], [[reference]]) == pytest.approx([0.5])
    assert time.process_time() - started < 2


def test_constant_answer_is_the_most_frequent_reference() -> None:
    assert constant_answer([["Mr  Smith"], ["mr smith"], ["7"]]) == "mr smith"
