"""POPE on COCO (3 x 3,000 questions) with the answers of two LLaVA-1.6 models.

Golden values: F1 of LLaVA's `eval_pope.py`. Two of the three files of labels have CRLF line ends.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cotbal.benchmarks.releases.rows import json_lines
from cotbal.scores.measure import measure

pytestmark = pytest.mark.needs("real_data")
CATEGORIES = ("adversarial", "popular", "random")
GOLDEN = {
    "llava_v1.6_vicuna_7b": (0.8531114327, 0.8637362637, 0.8752783964, 0.8640420310),
    "llava_v1.6_vicuna_7b_vit": (0.5987357775, 0.5868649318, 0.5942283563, 0.5932763552),
}


def rows_of(path: Path) -> list[Any]:
    return [row for _, row in json_lines(path, lambda what, done, total: None)]


@pytest.mark.parametrize("model", GOLDEN)
def test_f1_is_that_of_the_reference(real: Path, model: str) -> None:
    rows = rows_of(real / "pope" / f"{model}.jsonl")
    *by_category, over_all = GOLDEN[model]
    for category, golden in zip(CATEGORIES, by_category, strict=True):
        assert f1([row for row in rows if row["category"] == category]) == pytest.approx(
            golden, abs=5e-11
        )
    assert f1(rows) == pytest.approx(over_all, abs=5e-11)


def f1(rows: list[Any]) -> float:
    records = [{"details": {"category": row["category"]}} for row in rows]
    answers, labels = [row["answer"] for row in rows], [[row["label"]] for row in rows]
    measured = measure("pope_f1", answers, labels, records)
    return float(np.average(measured.values, weights=measured.weights))


@pytest.mark.parametrize("category", CATEGORIES)
def test_labels_are_those_of_the_joined_answers(real: Path, category: str) -> None:
    """The labels as released: JSON lines in a file called `.json`."""
    released = rows_of(real / "pope" / f"coco_pope_{category}.json")
    joined = [
        row
        for row in rows_of(real / "pope" / "llava_v1.6_vicuna_7b.jsonl")
        if row["category"] == category
    ]
    assert len(released) == 3000
    assert [(row["image"], row["text"], row["label"]) for row in released] == [
        (row["image"], row["question"], row["label"]) for row in joined
    ]
