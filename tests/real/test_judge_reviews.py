"""320 replies of GPT-4 as a judge, released with LLaVA (2023): the scores are in the first line.

Golden values: the rule of LLaVA's `parse_score`, restated here.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cotbal.benchmarks.judge.replies import Ratings, read_ratings

pytestmark = pytest.mark.needs("real_data")
MODELS = ("alpaca-13b", "bard", "gpt35", "llama-13b")


def by_the_reference(reply: str) -> Ratings | None:
    """Two numbers in the first line, separated by one blank or comma; None for anything else."""
    words = reply.partition("\n")[0].replace(",", " ").split(" ")
    return Ratings(answer=float(words[0]), reference=float(words[1])) if len(words) == 2 else None


@pytest.mark.parametrize("model", MODELS)
def test_scores_are_read_as_by_the_reference(real: Path, model: str) -> None:
    path = real / "judge_reviews" / f"review_{model}_vicuna-13b.jsonl"
    replies = [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(replies) == 80
    marks = [read_ratings(reply, reference_first=False) for reply in replies]
    assert marks == list(map(by_the_reference, replies))
    assert marks.count(None) == 3  # the judge solves a problem of mathematics first
