"""For ms-swift (`external_plugins`): every supervised token of a row gets the weight of the row's
answers.

By itself ms-swift 4.6 gives the weight of a message to the words of the message alone, while the
tokens that end a turn keep the weight 1; and for LLaVA-1.5 it inserts picture tokens into the
labels but not into the weights, which then lie on other tokens than they were meant for. Here the
weights are laid along the labels again, after everything was inserted.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from swift.template import Template

_encode = Template.encode


def lay_along_labels(encoded: dict[str, Any]) -> None:
    """Replace `loss_scale` by the row's one weight on all supervised tokens, 0 elsewhere.

    A row whose messages have several weights is none of cotbal's and stays as it is.
    """
    scale, labels = encoded.get("loss_scale"), encoded.get("labels")
    weights = {value for value in scale or () if value not in (0, 1)}
    if scale is None or labels is None or len(weights) > 1:
        return
    weight = weights.pop() if weights else 1.0
    encoded["loss_scale"] = [0.0 if label == -100 else weight for label in labels]


@wraps(_encode)
def encode(self: Template, *arguments: Any, **options: Any) -> Any:
    """`Template.encode`, and then the weights laid along the labels."""
    encoded = _encode(self, *arguments, **options)
    for row in encoded if isinstance(encoded, list) else [encoded]:
        lay_along_labels(row)
    return encoded


Template.encode = encode
