"""A LLaVA of random weights, and rows of random tokens and images, in any size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from cotbal.loss import IGNORED

TASKS = {"a": 0.4, "b": 1.7, "c": 0.9}
IMAGE = 3  # id of the placeholder


@dataclass(frozen=True)
class Size:
    """Sizes of models and batches: `rows` per micro-batch, `text` tokens per row, of which a part
    is labelled.
    """

    head: tuple[int, int, int]  # tokens, features, words
    width: int
    inner: int
    layers: int
    heads: int
    words: int
    vision: tuple[int, int, int, int]  # width, layers, pixels, pixels of a patch
    rows: int
    text: int
    dtype: torch.dtype
    steps: int
    labelled: float = 0.5  # part of the text
    tied: bool = False  # embeddings are the head


def llava(size: Size, device: str) -> LlavaForConditionalGeneration:
    width, layers, pixels, patch = size.vision
    vision = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=max(2, width // 64),
        image_size=pixels,
        patch_size=patch,
    )
    text = LlamaConfig(
        vocab_size=size.words,
        hidden_size=size.width,
        intermediate_size=size.inner,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        tie_word_embeddings=size.tied,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=IMAGE,
        tie_word_embeddings=size.tied,
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = LlavaForConditionalGeneration(config).to(size.dtype)
    model.model.vision_tower.requires_grad_(False)
    model.generation_config.eos_token_id = None  # answers of random weights never end
    return model


def rows_of(size: Size, count: int) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(1)
    pixels, patch = size.vision[2:]
    placeholders = torch.full(((pixels // patch) ** 2,), IMAGE)
    made = []
    for i in range(count):
        text = torch.randint(4, size.words, (size.text,), generator=generator)
        ids = torch.cat([placeholders, text])
        labels = ids.clone()
        labels[: len(ids) - round(size.labelled * size.text) - i % 3] = IGNORED
        image = torch.randn(3, pixels, pixels, generator=generator).to(size.dtype)
        task = list(TASKS)[i % len(TASKS)]
        made.append({"input_ids": ids, "labels": labels, "pixel_values": image, "task": task})
    return made


def stacked(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    names = [name for name in rows[0] if name != "task"]
    return {name: torch.stack([row[name] for row in rows]) for name in names}
