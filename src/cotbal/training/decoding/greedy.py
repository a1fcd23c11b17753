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

from cotbal.data.batches.prefixes import Prefixed, Prompt
from cotbal.training.decoding.cache import rows_of
from cotbal.training.decoding.prefill import Computed, computed_prefixes, logits, positions

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
        self.numbers = numbers
        self.cache = rows_of(self.cache, rows)
        self.mask = self.mask[rows]
        self.positions = self.positions[rows]
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
        prefixes = computed_prefixes(self.model, batch)
        for start in range(0, len(batch.prompts), self.size):
            part = slice(start, start + self.size)
            rows = self._begun(prefixes, batch.prefix_of[part], batch.suffixes[part])
            if part.stop >= len(batch.prompts):
                del prefixes  # keys and values take much memory: none longer than needed
            answers = self._answers(rows)
            del rows
            yield batch.prompts[part], answers

    def _begun(
        self, prefixes: Computed, which: Sequence[int], suffixes: Sequence[list[int]]
    ) -> Unfinished:
        """The rows with these prefixes and suffixes, and the first token of every answer."""
        rows = prefixes.rows(which)
        tokens = rows.extend(self.model, suffixes, kept=1)[:, -1].argmax(-1)
        places = positions(rows.mask)[:, -1:]
        return Unfinished(list(range(len(which))), rows.cache, rows.mask, places, tokens)

    @torch.inference_mode()
    def _answers(self, rows: Unfinished) -> list[list[int]]:
        """The tokens of every answer, up to its end."""
        answers: list[list[int]] = [[] for _ in rows.numbers]
        ends = set(self.model.generation_config.eos_token_id)
        ended: set[int] = set()
        while True:
            for number, token in zip(rows.numbers, rows.tokens.tolist(), strict=True):
                if number in ended:
                    continue
                answers[number].append(token)
                if token in ends:
                    ended.add(number)
            unfinished = [number for number in rows.numbers if number not in ended]
            if not unfinished or len(answers[unfinished[0]]) == self.max_new_tokens:
                return answers
            if len(unfinished) <= (1 - LEAVING) * len(rows.numbers):
                rows.keep(unfinished)
            rows.mask = torch.cat([rows.mask, rows.mask.new_ones(len(rows.mask), 1)], 1)
            rows.positions = rows.positions + 1
            inputs = {"input_ids": rows.tokens[:, None], "position_ids": rows.positions}
            newest = logits(self.model, rows.cache, rows.mask, 1, **inputs)
            rows.tokens = newest[:, -1].argmax(-1)
