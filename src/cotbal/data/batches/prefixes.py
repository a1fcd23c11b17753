"""Prompts in two parts: the images with all that is before them, once for all questions on them,
and the text of each question.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import mean
from typing import Any, TypeVar

import torch
from torch import Tensor

from cotbal.data.batches.collate import Batch, Collator, Row, by_position

TOKENS = ("input_ids", "attention_mask")
Item = TypeVar("Item")


@dataclass(frozen=True)
class Prompt:
    """A row to answer.

    Attributes:
        index: of the row among all that are answered.
        text: as the chat template writes it, up to the point where the assistant answers.
        expected: mean length of the known answers of its task, in characters. It decides which
            rows are answered together, and changes no answer.
    """

    index: int
    row: Row
    text: str
    expected: float

    @property
    def order(self) -> tuple[float, int]:
        """Rows with long answers first; among these, questions of like length together."""
        return (-self.expected, len(self.text))


Group = list[Prompt]


@dataclass(frozen=True)
class Prefixed:
    """Model inputs of prompts whose images are computed once.

    Attributes:
        prefixes: images and what is before them, padded on the left; None for texts alone.
        prompts: longest expected answers first.
        prefix_of: number of the prefix of every prompt.
        suffixes: token ids behind the prefix of every prompt.
    """

    prefixes: Batch | None
    prompts: list[Prompt]
    prefix_of: list[int]
    suffixes: list[list[int]]


def prompts(collator: Collator, rows: Sequence[Row]) -> list[Prompt]:
    """The rows with their prompts as text."""
    known: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        references = row.record.references or ("",)
        known[row.task].append(len(references[0]))
    expected = {task: mean(lengths) for task, lengths in known.items()}
    asked = []
    for i, row in enumerate(rows):
        text = collator.prompt(row)
        asked.append(Prompt(i, row, text, expected[row.task]))
    return asked


def waves(asked: Iterable[Prompt], image_token: str, size: int) -> list[list[Group]]:
    """Groups of prompts with the same beginning, `size` groups at a time; texts without images are
    apart, each a group of its own.
    """
    groups: dict[Any, Group] = defaultdict(list)
    for prompt in asked:
        images = prompt.row.record.images
        head = prompt.text.rpartition(image_token)[0]
        groups[(images, head) if images else prompt.index].append(prompt)
    for group in groups.values():
        group.sort(key=lambda prompt: prompt.order)
    ordered = sorted(groups.values(), key=lambda group: [prompt.order for prompt in group])
    pictured: list[Group] = []
    texts: list[Group] = []
    for group in ordered:
        if group[0].row.record.images:
            pictured.append(group)
        else:
            texts.append(group)
    return in_parts(pictured, size) + in_parts(texts, size)


def in_parts(items: list[Item], size: int) -> list[list[Item]]:
    """The items in their order, `size` at a time."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def prefixed(collator: Collator, wave: Sequence[Group]) -> Prefixed | None:
    """The model inputs of a wave; None where the processor's tokens cannot be taken apart.

    Raises:
        DataError: an image is broken, or the processor rejects it.
    """
    firsts = [group[0] for group in wave]
    batch = collator.tokens([prompt.row for prompt in firsts], [prompt.text for prompt in firsts])
    expanded = _unpadded(batch)
    if expanded is None:
        return None
    asked = sorted(chain(*wave), key=lambda prompt: prompt.order)
    number_of = {prompt.index: number for number, group in enumerate(wave) for prompt in group}
    numbers = [number_of[prompt.index] for prompt in asked]
    if not firsts[0].row.record.images:
        return Prefixed(None, asked, numbers, [expanded[number] for number in numbers])
    heads = _heads(expanded, _behind_images(collator, firsts))
    if heads is None:
        return None
    prefixes = {**batch, **left_padded(heads)}
    return Prefixed(prefixes, asked, numbers, _behind_images(collator, asked))


def _unpadded(batch: Batch) -> list[list[int]] | None:
    """The token ids of every row; None if positions have more than an id."""
    ids, mask = batch["input_ids"], batch["attention_mask"]
    others = (value for name, value in batch.items() if name not in TOKENS)
    if any(by_position(value, ids.shape) for value in others):
        return None
    return [row[real.bool()].tolist() for row, real in zip(ids, mask, strict=True)]


def _behind_images(collator: Collator, asked: Sequence[Prompt]) -> list[list[int]]:
    """Token ids behind the last image; a processor changes nothing there."""
    plain = collator.unexpanded([prompt.text for prompt in asked])
    tails = []
    for ids in plain:
        behind = ids[::-1].index(collator.placeholder)
        tails.append(ids[len(ids) - behind :])
    return tails


def _heads(expanded: list[list[int]], tails: list[list[int]]) -> list[list[int]] | None:
    """Token ids before these tails; None if a row does not end with its tail."""
    heads = []
    for ids, tail in zip(expanded, tails, strict=True):
        border = len(ids) - len(tail)
        if not tail or ids[border:] != tail:
            return None
        heads.append(ids[:border])
    return heads


def left_padded(rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """`input_ids` and `attention_mask`; padding is id 0 and is never attended to."""
    width = max(map(len, rows))
    ids: list[list[int]] = []
    mask: list[list[int]] = []
    for row in rows:
        padding = [0] * (width - len(row))
        ids.append(padding + list(row))
        mask.append(padding + [1] * len(row))
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}
