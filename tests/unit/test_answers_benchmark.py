"""The comparison of ways to answer: all give the same answers, and others are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.scripts import BENCHMARKS, loaded
from helpers.tiny_vlm import mixture

answers = loaded(BENCHMARKS / "answers.py")


def test_all_ways_give_the_same_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COTBAL_CACHE", str(tmp_path / "cache"))
    recipe = mixture(tmp_path / "data", {"color": 1, "paint": 2})
    answers.main(recipe, str(recipe.parent / "base"), 2, None, options=False)
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(rows) == 6
    assert [row for row in rows if "the same, images known" in row]
    assert "1.000 [1.000, 1.000]" in next(row for row in rows if answers.REFERENCE in row)


def test_other_answers_are_found() -> None:
    results = {answers.REFERENCE: [["red", "blue"]], "generate, batches of 1": [["red"]]}
    answers.check(results, answers.REFERENCE)
    with pytest.raises(AssertionError, match="a fast way"):
        answers.check({**results, "a fast way": [["red", "green"]]}, answers.REFERENCE)
