"""Keys and values of attention in buffers that grow in blocks, for rows that come and leave."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

ROOM = 32  # tokens by which a buffer grows


class GrowingLayer(DynamicLayer):
    """A layer of `DynamicCache` that does not copy all its tokens for every new one."""

    buffers: tuple[Tensor, ...] = ()

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Add these tokens; returns the keys and values of all."""
        length, new = self.get_seq_length(), (key_states, value_states)
        if not self.is_initialized:
            self.lazy_initialization(*new)
        stop = length + key_states.shape[-2]
        if not self.buffers or stop > self.buffers[0].shape[-2]:
            self.buffers = tuple(_buffer(states, len(states), stop) for states in new)
            for buffer, old in zip(self.buffers, (self.keys, self.values), strict=True):
                if length:
                    buffer[..., :length, :] = old
        for buffer, states in zip(self.buffers, new, strict=True):
            buffer[..., length:stop, :] = states
        self._show(stop)
        return self.keys, self.values

    def rows(self, numbers: Tensor) -> GrowingLayer:
        """A layer of these rows."""
        layer = GrowingLayer()
        layer.lazy_initialization(self.keys, self.values)
        length = self.get_seq_length()
        layer.buffers = tuple(
            _buffer(states, len(numbers), length) for states in (self.keys, self.values)
        )
        layer._show(length)
        torch.index_select(self.keys, 0, numbers, out=layer.keys)
        torch.index_select(self.values, 0, numbers, out=layer.values)
        return layer

    def _show(self, length: int) -> None:
        self.keys, self.values = (buffer[..., :length, :] for buffer in self.buffers)


def _buffer(states: Tensor, rows: int, length: int) -> Tensor:
    """Memory for this many tokens and some more."""
    _, heads, _, width = states.shape
    return states.new_empty((rows, heads, length + ROOM, width))


def growing(layers: list[GrowingLayer] | None = None) -> DynamicCache:
    """A cache of such layers, empty by default."""
    cache = DynamicCache()
    cache.layer_class_to_replicate = GrowingLayer
    cache.layers = layers or []
    return cache


def rows_of(cache: DynamicCache, numbers: Tensor) -> DynamicCache:
    """A cache of these rows."""
    return growing([layer.rows(numbers) for layer in cache.layers])
