"""Stage 2 of the base of `pocket`: many facts about one image in one row, and the loss on
them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from cotbal.benchmarks.pocket.drawings import SIDE
from pocket_lessons import LABELS, Box, Lesson, Shown
from pocket_tower import GRID, patch_targets, pixels

LENGTH = 128
NOWHERE = (0, 0, 0, 0)


class Words:
    """Token ids of texts, and of every label in its two spellings, without and with a space before
    it.
    """

    def __init__(self, processor: LlavaProcessor) -> None:
        self.encode = cache(lambda text: processor.tokenizer.encode(text, add_special_tokens=False))
        self.spellings = torch.tensor(
            [[self.encode(label)[0], self.encode(f" {label}")[-1]] for label in LABELS]
        )
        # Letters are left out: a word may hold one twice.
        self.label_of = {
            number: label
            for label, pair in zip(LABELS, self.spellings.tolist(), strict=True)
            for number in pair
            if len(label) > 1
        }


@dataclass(frozen=True)
class Packed:
    """An image and several facts in one row: one entry per token in each list.

    ids: token ids. parts: 0 for the image, then the fact's number; a fact sees the image and
    itself only, at the positions (`places`) it would have alone. So a row trains as many
    conversations as it has facts, and the image's 36 tokens are computed once. weights: 1 /
    length of the answer for its tokens, else 0. boxes: where the thing is that the token names,
    else zeros.
    """

    shown: Shown | None
    ids: list[int]
    parts: list[int]
    places: list[int]
    weights: list[float]
    boxes: list[Box]


def pack(lesson: Lesson, words: Words) -> Packed:
    """As many facts of a lesson as fit in `LENGTH` tokens."""
    image = "" if lesson.shown is None else "<image>" * (GRID * GRID)
    prefix = words.encode(f"<|user|>{image}")
    nothing = len(prefix)
    packed = Packed(
        lesson.shown,
        [*prefix],
        [0] * nothing,
        [*range(nothing)],
        [0.0] * nothing,
        [NOWHERE] * nothing,
    )
    where = dict(lesson.shown.items) if lesson.shown else {}
    for part, fact in enumerate(lesson.facts, 1):
        prompt, answer = (
            words.encode(f"{fact.text}<|assistant|>"),
            words.encode(f"{fact.answer}<|end|>"),
        )
        ids = prompt + answer
        if len(packed.ids) + len(ids) > LENGTH:
            break
        packed.ids.extend(ids)
        packed.parts.extend([part] * len(ids))
        packed.places.extend(range(nothing, nothing + len(ids)))
        packed.weights.extend([0.0] * len(prompt) + [1 / len(answer)] * len(answer))
        packed.boxes.extend(where.get(words.label_of.get(number, ""), NOWHERE) for number in ids)
    return packed


def lesson_loss(
    model: LlavaForConditionalGeneration, finder: nn.Linear, rows: list[Packed], words: Words
) -> Tensor:
    """Loss of the answers, each answer with the same weight, and two helpers that make words and
    things meet.

    The first helper puts what the language model sees of a patch close to the word for what covers
    it. The second asks every word for a thing, half-way up the model, where that thing is. Without
    them the model learns to list what is there but not, in the same time, to look up a thing by its
    name.
    """
    shown = [row.shown for row in rows if row.shown is not None]
    seen = model.model.get_image_features(
        pixels([lesson.image for lesson in shown]), return_dict=True
    )
    patches = torch.stack(list(seen.pooler_output))
    named = name_loss(patches, model.get_input_embeddings().weight, shown, words.spellings)
    answered, middle = answer_loss(model, rows, seen)
    boxes = _padded([row.boxes for row in rows]).float() / SIDE
    names = boxes[..., 2] > 0
    guessed = torch.sigmoid(finder(nn.functional.rms_norm(middle[names], middle.shape[-1:])))
    return answered + 0.5 * named + 5 * (guessed - boxes[names]).abs().mean()


def name_loss(patches: Tensor, embeddings: Tensor, shown: list[Shown], words: Tensor) -> Tensor:
    """Cross-entropy of the word (either spelling, with or without a space before it) of each
    covered patch.

    patches: [images, 36, width]; embeddings: [vocabulary, width]; words: [labels, 2] token ids.
    """
    label = torch.from_numpy(np.stack([patch_targets(lesson)[0] for lesson in shown]))
    covered = label < len(LABELS)
    alike = (
        nn.functional.normalize(patches[covered], dim=-1)
        @ nn.functional.normalize(embeddings, dim=-1).T
    )
    likely = (16 * alike).log_softmax(-1)
    return -likely.gather(1, words[label[covered]]).mean()


def answer_loss(
    model: LlavaForConditionalGeneration, rows: list[Packed], seen: Any
) -> tuple[Tensor, Tensor]:
    """Weighted cross-entropy of the answers' tokens, and the hidden states in the middle, [rows,
    tokens, width].

    seen: what `get_image_features` returned for the rows with an image.
    """
    ids, places = _padded([row.ids for row in rows]), _padded([row.places for row in rows])
    parts, weights = (
        _padded([row.parts for row in rows], -1),
        _padded([row.weights for row in rows])[:, 1:],
    )
    # Every token sees the image and the earlier tokens of its own part; padding sees padding.
    sees = ((parts[:, None] == parts[:, :, None]) | (parts[:, None] == 0)).tril()[:, None]
    output = model.model(
        input_ids=ids,
        attention_mask=sees,
        position_ids=places,
        mm_encoder_outputs={"image": seen},
        use_cache=False,
        output_hidden_states=True,
    )
    target = weights > 0
    logits = model.lm_head(output.last_hidden_state[:, :-1][target])
    losses = nn.functional.cross_entropy(logits, ids[:, 1:][target], reduction="none")
    return (losses * weights[target]).sum() / weights.sum(), output.hidden_states[2]


def _padded(rows: Sequence[Sequence[Any]], value: int = 0) -> Tensor:
    return nn.utils.rnn.pad_sequence(
        [torch.tensor(row) for row in rows], batch_first=True, padding_value=value
    )
