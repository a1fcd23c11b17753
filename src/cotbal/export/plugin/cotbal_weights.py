"""For ms-swift (`external_plugins`): all supervised tokens of a row get the weight of its answers.

ms-swift 4.6 gives the weight of a message to its words alone, while the tokens that end a turn keep
the weight 1; and for LLaVA-1.5 it inserts image tokens into the labels but not into the weights,
which are then shifted. Here the weights are assigned again by the final labels.

An answer with the weight 0 carries no loss. Its words have no labels, but the tokens that end its
turn have: a run of supervised tokens in whose weights the row's weight does not occur.
"""

from __future__ import annotations

from functools import wraps
from itertools import accumulate, groupby, pairwise
from typing import Any

from swift.template import Template

_encode = Template.encode


def lay_along_labels(encoded: dict[str, Any]) -> None:
    """Set `loss_scale` to the row's weight on supervised tokens of weighted answers, 0 elsewhere.

    A row whose messages have several weights is not from cotbal and stays unchanged.

    Raises:
        ValueError: an answer has the weight 0, and the runs of supervised tokens do not match the
            weights.
    """
    scale, labels = encoded.get("loss_scale"), encoded.get("labels")
    weights = {value for value in scale or () if value not in (0, 1)}
    if scale is None or labels is None or len(weights) > 1:
        return
    weight = weights.pop() if weights else 1.0
    weighed = [weight in run for run in _runs(scale, 0)]
    encoded["loss_scale"] = _laid_along(labels, weight, weighed)


def _laid_along(labels: list[int], weight: float, weighed: list[bool]) -> list[float]:
    supervised = [label != -100 for label in labels]
    runs = _run_of_each(supervised)
    if all(weighed):
        weighed = [True] * len(_runs(supervised, False))
    if len(weighed) != len(_runs(supervised, False)):
        raise ValueError("cotbal_weights: answers without loss cannot be matched with the labels")
    return [
        weight if kept and weighed[run] else 0.0 for kept, run in zip(supervised, runs, strict=True)
    ]


def _runs(values: list[Any], gap: Any) -> list[list[Any]]:
    """The stretches of `values` between gaps."""
    return [list(run) for other, run in groupby(values, lambda value: value != gap) if other]


def _run_of_each(kept: list[bool]) -> list[int]:
    """The number of the run of every kept position, from 0."""
    starts = [here and not before for before, here in pairwise([False, *kept])]
    return [count - 1 for count in accumulate(starts)]


@wraps(_encode)
def encode(self: Template, *arguments: Any, **options: Any) -> Any:
    """`Template.encode`, then the weights by the labels."""
    encoded = _encode(self, *arguments, **options)
    for row in encoded if isinstance(encoded, list) else [encoded]:
        lay_along_labels(row)
    return encoded


Template.encode = encode
