"""Rows of tokens whose keys and values are computed, and what follows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from cotbal.data.batches.prefixes import TOKENS, Prefixed, left_padded
from cotbal.training.decoding.cache import growing, rows_of


@dataclass
class Computed:
    """Rows whose keys and values are computed.

    Attributes:
        mask: which tokens of the cache are a row's own.
    """

    cache: DynamicCache
    mask: Tensor

    @torch.inference_mode()
    def rows(self, numbers: Sequence[int]) -> Computed:
        """A copy of these rows."""
        chosen = torch.tensor(numbers, device=self.mask.device)
        return Computed(rows_of(self.cache, chosen), self.mask[chosen])

    @torch.inference_mode()
    def extend(self, model: Any, tokens: Sequence[list[int]], kept: int) -> Tensor:
        """Add tokens to every row, padded on the left; the logits of the last `kept` positions."""
        behind = left_padded(tokens)
        ids, new = (behind[name].to(self.mask.device) for name in TOKENS)
        before = self.mask.shape[1]
        self.mask = torch.cat([self.mask, new], 1)
        places = positions(self.mask)[:, before:]
        return logits(model, self.cache, self.mask, kept, input_ids=ids, position_ids=places)


@torch.inference_mode()
def computed_prefixes(model: Any, batch: Prefixed) -> Computed:
    """The prefixes of a batch; rows without any token where there are only texts."""
    cache = growing()
    if batch.prefixes is None:
        empty = torch.zeros((len(batch.prompts), 0), dtype=torch.long, device=model.device)
        return Computed(cache, empty)
    inputs = {key: on_device(model, value) for key, value in batch.prefixes.items()}
    mask = inputs.pop("attention_mask")
    logits(model, cache, mask, 1, **inputs, position_ids=positions(mask))
    return Computed(cache, mask)


def logits(model: Any, cache: DynamicCache, mask: Tensor, kept: int, **inputs: Any) -> Tensor:
    """Logits of the last `kept` positions of these inputs, whose keys and values the cache
    receives.
    """
    inputs |= {"attention_mask": mask, "past_key_values": cache}
    output = model(**inputs, use_cache=True, logits_to_keep=kept)
    result: Tensor = output.logits[:, -kept:]
    return result


def positions(mask: Tensor) -> Tensor:
    """Number of tokens before each one; padding has none."""
    return (mask.cumsum(1) - 1).clamp(min=0)


def on_device(model: Any, value: Any) -> Any:
    """A tensor on the device of the model, numbers in its dtype; anything else as it is."""
    if not isinstance(value, Tensor):
        return value
    return value.to(model.device, model.dtype if value.is_floating_point() else None)
