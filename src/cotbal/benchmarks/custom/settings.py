"""The recipe of a dataset of the user's own: a metric that suits the answers, a mini that is large
enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from cotbal.benchmarks.custom.answers import right_answers, suited
from cotbal.benchmarks.custom.folder import WHOLE
from cotbal.benchmarks.releases import paper
from cotbal.benchmarks.releases.benchmark import TaskPlan
from cotbal.benchmarks.releases.sources import Choices

ADVISED_MINI = 1000  # records; Appendix C of the paper
_SHORT, _LONG = 32, 600  # bytes of an answer that fit in 32 tokens for certain, in 256 most likely

_HEAD = """\
# {name}: written by `cotbal prepare custom`. Settings are those of the paper (arXiv 2403.04343) unless a comment says
# otherwise; change what you like, then run `cotbal check`.
# Held out with seed {seed}, by image: no image is in two splits that were drawn. Of a conversation with several
# questions, validation and test ask the first, since later ones may lean on it.
name: {name}
images: images
on_missing_image: {policy}
outside_images: allow  # `images` holds links to yours
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

    Raises:
        DataError: the answers are boxes in a form that the metric does not read.
    """
    if plan.name in chosen:
        return replace(plan, metric=chosen[plan.name])
    metric, why = suited([text for _, text in right_answers(_evaluated(plan, out))], plan.name)
    remark = (
        f"{plan.name}: the metric is cotbal's choice: {why}. `--metric {plan.name}=...` sets"
        " another."
    )
    return replace(plan, metric=metric, remarks=(*plan.remarks, remark))


def longest_answer(plan: TaskPlan, out: Path) -> int:
    """Bytes of the longest of the first right answers of a task; sentences count as long ones."""
    sizes = [len(text.encode()) for _, text in right_answers(_evaluated(plan, out))]
    return max(*sizes, _SHORT + 1 if plan.metric == "cider" else 0)


def _evaluated(plan: TaskPlan, out: Path) -> Path:
    """The validation records, or the test records of a task that has no others."""
    split = next(split.name for split in plan.splits if split.name != WHOLE)
    return out / "data" / f"{plan.name}_{split}.jsonl"


def head(name: str, choices: Choices) -> str:
    """The top of the recipe, with what was chosen."""
    return paper.head(_HEAD, choices, name=name)


def settings(checkpoint: str, smallest: int, longest: int) -> str:
    """Everything behind the tasks.

    Args:
        smallest: training records of the smallest task.
        longest: bytes of the longest answer; a token has one or more.
    """
    parts = max(2, min(32, smallest // ADVISED_MINI))
    advice = "paper"
    if parts < 32:
        advice = (
            f"the paper takes 1/32, and advises {ADVISED_MINI:,} records or more; the smallest task"
            f" has {smallest:,}"
        )
    if longest <= _SHORT:
        tokens, why = 32, "all are short"
    elif longest <= _LONG:
        tokens, why = 256, "some answers are long"
    else:
        tokens, why = 1024, "some answers are very long"
    rest = _REST.format(tokens=tokens, why=why, mini=f"1/{parts}", advice=advice)
    return paper.trained(checkpoint, 1, _MODEL) + rest
