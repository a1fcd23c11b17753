"""3,001 frequent answers of VQA, normalised by LLaVA's `m4c_evaluator.EvalAIAnswerProcessor`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cotbal.metrics.vqa_soft import normalise

pytestmark = pytest.mark.needs("real_data")


def test_answers_are_normalised_as_by_the_reference(real: Path) -> None:
    pairs = json.loads((real / "vqa" / "answers_vqa_normalised.json").read_text(encoding="utf-8"))
    assert len(pairs) == 3001
    assert [[answer, normalise(answer)] for answer, _ in pairs] == pairs
