"""The most likely token at every step, as `generate` chooses it, for questions that share images.

The model computes the beginning of a prompt once per image, and continues it for every question.
Rows whose answer has ended leave the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from cotbal.data.batches.prefixes import Prefixed, Prompt, left_padded
from cotbal.training.decoding.cache import growing, rows_of

# Ended rows leave when they are this fraction of the batch: each time, the others are copied.
LEAVING = 0.25


@dataclass
class Unfinished:
    """Rows whose answers are being written.

    Attributes:
        numbers: of the rows.
        mask: which tokens of the cache and of the last input are a row's own.
        positions: of the last token.
        tokens: the newest ones.
    """

    numbers: list[int]
    cache: DynamicCache
    mask: Tensor
    positions: Tensor
    tokens: Tensor

    def keep(self, numbers: list[int]) -> None:
        """Let all other rows leave."""
        rows = torch.tensor([self.numbers.index(number) for number in numbers])
        rows = rows.to(self.tokens.device)
        self.numbers, self.cache = numbers, rows_of(self.cache, rows)
        self.mask, self.positions = self.mask[rows], self.positions[rows]
        self.tokens = self.tokens[rows]


@dataclass(frozen=True)
class Decoder:
    """Greedy answers of a model.

    Attributes:
        size: answers that are written at a time.
    """

    model: Any
    max_new_tokens: int
    size: int

    def __call__(self, batch: Prefixed) -> Iterator[tuple[list[Prompt], list[list[int]]]]:
        """Some prompts, at most `size`, and the tokens of their answers, until all are answered."""
        prefixes = self._prefixes(batch)
        for start in range(0, len(batch.prompts), self.size):
            part = slice(start, start + self.size)
            which = torch.tensor(batch.prefix_of[part], device=self.model.device)
            rows = self._begun(prefixes, which, batch.suffixes[part])
            if part.stop >= len(batch.prompts):
                del prefixes  # keys and values take much memory: none longer than needed
            answers = self._answers(rows)
            del rows
            yield batch.prompts[part], answers

    @torch.inference_mode()
    def _prefixes(self, batch: Prefixed) -> tuple[DynamicCache, Tensor]:
        """The cache of all prefixes and their mask."""
        cache = growing()
        if batch.prefixes is None:
            return cache, torch.zeros((len(batch.prompts), 0), dtype=torch.long)
        inputs = {key: on_device(self.model, value) for key, value in batch.prefixes.items()}
        mask = inputs["attention_mask"]
        self._next(cache, mask, positions(mask), **inputs)
        return cache, mask

    @torch.inference_mode()
    def _begun(
        self, prefixes: tuple[DynamicCache, Tensor], which: Tensor, suffixes: Sequence[list[int]]
    ) -> Unfinished:
        """The rows with these prefixes and suffixes, and the first token of every answer."""
        cache, head = prefixes
        cache = rows_of(cache, which)
        behind = {key: on_device(self.model, v) for key, v in left_padded(suffixes).items()}
        mask = torch.cat([head.to(which.device)[which], behind["attention_mask"]], 1)
        places = positions(mask)[:, head.shape[1] :]
        tokens = self._next(cache, mask, places, input_ids=behind["input_ids"])
        return Unfinished(list(range(len(which))), cache, mask, places[:, -1:], tokens)

    @torch.inference_mode()
    def _answers(self, rows: Unfinished) -> list[list[int]]:
        """The tokens of every answer, up to its end."""
        answers: list[list[int]] = [[] for _ in rows.numbers]
        ends, ended = set(self.model.generation_config.eos_token_id), set[int]()
        while True:
            for number, token in zip(rows.numbers, rows.tokens.tolist(), strict=True):
                if number not in ended:
                    answers[number].append(token)
                    ended |= {number} if token in ends else set()
            unfinished = [number for number in rows.numbers if number not in ended]
            if not unfinished or len(answers[unfinished[0]]) == self.max_new_tokens:
                return answers
            if len(unfinished) <= (1 - LEAVING) * len(rows.numbers):
                rows.keep(unfinished)
            rows.mask = torch.cat([rows.mask, rows.mask.new_ones(len(rows.mask), 1)], 1)
            rows.positions = rows.positions + 1
            rows.tokens = self._next(
                rows.cache, rows.mask, rows.positions, input_ids=rows.tokens[:, None]
            )

    def _next(self, cache: DynamicCache, mask: Tensor, places: Tensor, **inputs: Any) -> Tensor:
        """The most likely token behind these inputs, whose keys and values the cache receives."""
        inputs |= {"attention_mask": mask, "position_ids": places, "past_key_values": cache}
        output = self.model(**inputs, use_cache=True, logits_to_keep=1)
        tokens: Tensor = output.logits[:, -1].argmax(-1)
        return tokens


def positions(mask: Tensor) -> Tensor:
    """Number of tokens before each one; padding has none."""
    return (mask.cumsum(1) - 1).clamp(min=0)


def on_device(model: Any, value: Any) -> Any:
    """A tensor on the device of the model, numbers in its dtype; anything else as it is."""
    if not isinstance(value, Tensor):
        return value
    return value.to(model.device, model.dtype if value.is_floating_point() else None)
