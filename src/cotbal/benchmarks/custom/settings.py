"""The recipe of a dataset of the user's own: a metric that suits the answers, a mini that is large
enough.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from cotbal.benchmarks.releases import paper
from cotbal.benchmarks.releases.benchmark import TaskPlan
from cotbal.benchmarks.releases.sources import Choices
from cotbal.data.formats import read_rows

ADVISED_MINI = 1000  # records; Appendix C of the paper
_SAMPLE = 1000  # answers that a metric is chosen by
_FEW_WORDS = 5
_BOX = re.compile(r"^\s*\[\s*[\d.]+\s*(,\s*[\d.]+\s*){3}\]\s*$")

_HEAD = """\
# {name}: written by `cotbal prepare custom`. Settings are those of the paper (arXiv 2403.04343) unless a comment says
# otherwise; change what you like, then run `cotbal check`.
# Held out with seed {seed}, by picture: no picture is in two splits that were drawn. Of a conversation with several
# questions, validation and test ask the first, since later ones may lean on it.
name: {name}
images: images
on_missing_image: {policy}
tasks:
"""
_MODEL = """\
  # A checkpoint in the form of transformers: a directory beside the recipe, or the name of a hub model.
"""
_REST = """\
generation: {{max_new_tokens: {tokens}, batch_size: 16}}  # {why}
portions: {{large: 1, mini: {mini}, seed: 0}}  # {advice}
balance:
  form: standard
  difficulty: real
  temperature: 0.5               # as in the paper's benchmarks
"""


def with_metric(plan: TaskPlan, out: Path, chosen: Mapping[str, str]) -> TaskPlan:
    """The plan with the metric that the user names for the task, or one that suits its answers,
    with a remark.
    """
    if plan.name in chosen:
        return replace(plan, metric=chosen[plan.name])
    metric, why = _suited(_answers(out / "data" / f"{plan.name}_validation.jsonl"))
    told = (
        f"{plan.name}: the metric is cotbal's choice: {why}. `--metric {plan.name}=...` sets"
        " another."
    )
    return replace(plan, metric=metric, remarks=(told,))


def _suited(answers: Sequence[str]) -> tuple[str, str]:
    boxes = sum(bool(_BOX.match(answer)) for answer in answers) / len(answers)
    short = sum(len(answer.split()) <= _FEW_WORDS for answer in answers) / len(answers)
    if boxes > 0.9:
        return "box_iou", f"{boxes:.0%} of the right answers are boxes [x1, y1, x2, y2]"
    if short > 0.5:
        return "exact_match", f"{short:.0%} of the right answers have at most {_FEW_WORDS} words"
    return "cider", f"{1 - short:.0%} of the right answers have more than {_FEW_WORDS} words"


def _answers(path: Path) -> list[str]:
    rows = [row for row in islice(read_rows(path), _SAMPLE) if isinstance(row, tuple)]
    answers = [content["conversations"][-1]["value"] for _, content in rows]
    return [answer if isinstance(answer, str) else answer[0] for answer in answers]


def head(name: str, choices: Choices) -> str:
    """The top of the recipe, with what was chosen."""
    policy = "drop" if choices.on_missing_image == "drop" else "error"
    return _HEAD.format(name=name, seed=choices.seed, policy=policy)


def settings(checkpoint: str, smallest: int, longest: bool) -> str:
    """Everything behind the tasks.

    Args:
        smallest: training records of the smallest task.
        longest: whether some answers have more than a few words.
    """
    parts = max(2, min(32, smallest // ADVISED_MINI))
    advice = "paper"
    if parts < 32:
        advice = (
            f"the paper takes 1/32, and advises {ADVISED_MINI:,} records or more; the smallest task"
            f" has {smallest:,}"
        )
    tokens, why = (256, "some answers are long") if longest else (32, "answers are short")
    rest = _REST.format(tokens=tokens, why=why, mini=f"1/{parts}", advice=advice)
    return paper.trained(checkpoint, 1, _MODEL) + rest
