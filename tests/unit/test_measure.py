"""A metric of a user's own, and the errors of an invalid one."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from cotbal.errors import CotbalError
from cotbal.scores.measure import load_metric, measure
from helpers.errors import raises

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
CONSTANTS = "MAXIMUM = 1.0\nHIGHER_IS_BETTER = True\n"
CONSTANT = "def constant_answer(references):\n    return ''\n"
SCORE = "def score(predictions, references):\n    return {}\n"
Write = Callable[[str], str]


@pytest.fixture
def write_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a module and returns its dotted path; a fresh package each time, since modules are
    imported once.
    """
    monkeypatch.syspath_prepend(tmp_path)

    def write(source: str) -> str:
        package = tmp_path / f"own_{uuid4().hex}"
        package.mkdir()
        (package / "__init__.py").write_text("")
        (package / "metric.py").write_text(source)
        return f"{package.name}.metric"

    return write


def test_a_metric_of_answers_and_references(write_metric: Write) -> None:
    name = write_metric(
        CONSTANTS
        + CONSTANT
        + SCORE.format("[float(p in r) for p, r in zip(predictions, references)]")
    )
    measured = measure(name, ["a", "b"], [["a"], ["c", "d"]])
    assert measured.values.tolist() == [1, 0]
    assert measured.weights is None


def test_a_metric_that_asks_for_the_records(write_metric: Write) -> None:
    source = (
        "def score(predictions, references, records):\n    return [r['details']['hard'] for r in"
        " records]\n"
    )
    measured = measure(
        write_metric(CONSTANTS + CONSTANT + source),
        ["a", "b"],
        [["a"]] * 2,
        [{"details": {"hard": i}} for i in (0, 1)],
    )
    assert measured.values.tolist() == [0, 1]


def test_a_metric_that_weighs_its_samples(write_metric: Write) -> None:
    weights = "def weights(predictions, references):\n    return list(map(len, predictions))\n"
    name = write_metric(CONSTANTS + CONSTANT + SCORE.format("[1, 0]") + weights)
    assert measure(name, ["abc", "d"], [["x"]] * 2).score == 0.75


def test_the_metric_of_the_page_works(write_metric: Write) -> None:
    source = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert source is not None
    name = write_metric(source[1])
    measured = measure(name, ["3", "30 frogs", "many"], [["3"], ["40"], ["5"]])
    np.testing.assert_allclose(measured.values, [1, 0.75, 0])
    assert load_metric(name).constant_answer([["3"], ["5"], ["9"]]) == "5"


@pytest.mark.parametrize(
    ("source", "named"),
    [
        (CONSTANTS, ("score, constant_answer", "metric.py")),
        (
            "MAXIMUM = 1.0\nHIGHER_IS_BETTER = False\n" + CONSTANT + SCORE.format("[1]"),
            ("HIGHER_IS_BETTER = True", "False"),
        ),
        (CONSTANTS + CONSTANT + SCORE.format("[1, 2]"), ("score", "1 samples", "shape (2,)")),
        (CONSTANTS + CONSTANT + SCORE.format("0.5"), ("score", "shape ()")),
        (CONSTANTS + CONSTANT + SCORE.format("[float('nan')]"), ("score", "nan for sample 1")),
        (
            CONSTANTS
            + CONSTANT
            + SCORE.format("[1]")
            + "def weights(predictions, references):\n    return [-1]\n",
            ("weights", "-1"),
        ),
    ],
)
def test_what_is_no_metric_is_rejected(
    write_metric: Write, source: str, named: tuple[str, ...]
) -> None:
    name = write_metric(source)
    with raises(CotbalError, "invalid-metric", f"metric {name}", *named):
        measure(name, ["a"], [["a"]])


def test_a_metric_whose_own_code_fails_shows_where(write_metric: Write) -> None:
    """An error in the user's program is no error of the records: the traceback is what helps."""
    with pytest.raises(ZeroDivisionError):
        measure(write_metric(CONSTANTS + CONSTANT + SCORE.format("[1 / 0]")), ["a"], [["a"]])
