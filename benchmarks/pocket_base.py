"""Makes the pretrained base of `pocket`: a vision tower that names and places things, then a language model on top.

    python benchmarks/pocket_base.py DIRECTORY [--tower-steps 2600] [--language-steps 2600]

Stage 1 trains the CLIP tower alone: every patch says what covers it and where that thing's box lies. Stage 2 freezes
the tower and trains projector and language model on short answers (`pocket_lessons.py`), none of them in the format
of one of the benchmark's tasks. The pictures are drawn as they are needed, from random streams that no split of the
benchmark uses. One core is enough; the result is a directory for `AutoModelForImageTextToText`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import typer
from PIL import Image
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from cotbal.recipes.pocket.drawings import SIDE
from pocket_lessons import GROUNDS, LABELS, Box, Lesson, Shown, random_lesson, random_shown
from pocket_tokenizer import save_processor

PATCH = 8
GRID = SIDE // PATCH
BATCH = 64
ROWS = 32
LENGTH = 128
NOWHERE = (0, 0, 0, 0)
SEED = 0
# Pixels of a patch that a thing must cover before the patch has to name it.
COVERED = 6


class PatchLabels(nn.Module):
    """The tower with a throw-away head: a patch's label, the box of what covers it most, and all that touches it."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = CLIPVisionModel(vision_config())
        width = self.tower.config.hidden_size
        self.sizes = (len(LABELS) + len(GROUNDS), 4, len(LABELS))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, sum(self.sizes)))

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Pixels [batch, 3, 48, 48] -> label logits, box logits, touch logits, each [batch, 36, its size]."""
        patches = self.tower(pixels).last_hidden_state[:, 1:]
        return self.head(patches).split(self.sizes, dim=-1)


def vision_config() -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=128, num_hidden_layers=4, num_attention_heads=4, intermediate_size=384, image_size=SIDE,
        patch_size=PATCH, projection_dim=64,
    )  # fmt: skip


def new_model(processor: LlavaProcessor) -> LlavaForConditionalGeneration:
    """A LLaVA of 1.5 M parameters with random weights."""
    tokenizer = processor.tokenizer
    text = LlamaConfig(
        hidden_size=128, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=4, intermediate_size=256,
        vocab_size=len(tokenizer), max_position_embeddings=512, tie_word_embeddings=True, initializer_range=0.05,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision_config(), text_config=text, image_token_index=processor.image_token_id,
        image_seq_length=GRID * GRID, vision_feature_layer=-1, vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )  # fmt: skip
    return LlavaForConditionalGeneration(config)


def train_tower(steps: int) -> CLIPVisionModel:
    """Stage 1."""
    labels, streams = PatchLabels(), _streams("tower")

    def loss() -> Tensor:
        shown = [random_shown(next(streams)) for _ in range(BATCH)]
        targets = [np.stack(parts) for parts in zip(*(patch_targets(each) for each in shown), strict=True)]
        return patch_loss(labels(pixels([each.picture for each in shown])), *map(torch.from_numpy, targets))

    _optimize(list(labels.parameters()), (loss() for _ in range(steps)), Pace(steps, peak=1.5e-3, decay=0.05))
    return labels.tower


def patch_targets(shown: Shown) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label [36], box [36, 4] as shares of the side, and touched labels [36, labels] of every patch."""
    label = np.full(GRID * GRID, len(LABELS) + GROUNDS.index(shown.ground))
    boxes = np.zeros((GRID * GRID, 4), np.float32)
    touched = np.zeros((GRID * GRID, len(LABELS)), np.float32)
    most = np.full(GRID * GRID, COVERED - 0.1)
    starts = np.arange(GRID) * PATCH
    for name, box in shown.items:
        across = np.clip(np.minimum(box[2], starts + PATCH) - np.maximum(box[0], starts), 0, PATCH)
        down = np.clip(np.minimum(box[3], starts + PATCH) - np.maximum(box[1], starts), 0, PATCH)
        area = np.outer(down, across).reshape(-1)
        touched[area >= COVERED, LABELS.index(name)] = 1
        wins = area > most
        most[wins], label[wins] = area[wins], LABELS.index(name)
        boxes[wins] = np.array(box, np.float32) / SIDE
    return label, boxes, touched


def patch_loss(outputs: tuple[Tensor, ...], label: Tensor, boxes: Tensor, touched: Tensor) -> Tensor:
    """Cross-entropy of the label, distance of the box where there is one, and binary loss of what touches."""
    named = nn.functional.cross_entropy(outputs[0].flatten(0, 1), label.flatten())
    covered = label < len(LABELS)
    placed = (torch.sigmoid(outputs[1]) - boxes).abs()[covered].mean()
    touches = nn.functional.binary_cross_entropy_with_logits(outputs[2], touched)
    return named + 5 * placed + 20 * touches


def train_language(model: LlavaForConditionalGeneration, processor: LlavaProcessor, steps: int) -> None:
    """Stage 2."""
    model.model.vision_tower.requires_grad_(False)
    finder = nn.Linear(model.config.text_config.hidden_size, 4)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    words, streams = Words(processor), _streams("language")

    def loss() -> Tensor:
        return lesson_loss(model, finder, [pack(random_lesson(next(streams)), words) for _ in range(ROWS)], words)

    _optimize([*parameters, *finder.parameters()], (loss() for _ in range(steps)), Pace(steps, peak=2e-3, decay=0.01))


class Words:
    """Token ids of texts, and of every label in its two spellings, without and with a space before it."""

    def __init__(self, processor: LlavaProcessor) -> None:
        self.encode = cache(lambda text: processor.tokenizer.encode(text, add_special_tokens=False))
        self.spellings = torch.tensor([[self.encode(label)[0], self.encode(f" {label}")[-1]] for label in LABELS])
        # Letters are left out: a word may hold one twice.
        self.label_of = {
            number: label
            for label, pair in zip(LABELS, self.spellings.tolist(), strict=True)
            for number in pair
            if len(label) > 1
        }


@dataclass(frozen=True)
class Packed:
    """A picture and several facts in one row: one entry a token in each list.

    ids: token ids. parts: 0 for the picture, then the fact's number; a fact sees the picture and itself only, at the
    positions (`places`) it would have alone. So a row trains as many conversations as it has facts, and the
    picture's 36 tokens are computed once. weights: 1 / length of the answer for its tokens, else 0. boxes: where
    the thing is that the token names, else zeros.
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
    packed = Packed(lesson.shown, [*prefix], [0] * nothing, [*range(nothing)], [0.0] * nothing, [NOWHERE] * nothing)
    where = dict(lesson.shown.items) if lesson.shown else {}
    for part, fact in enumerate(lesson.facts, 1):
        prompt, answer = words.encode(f"{fact.prompt}<|assistant|>"), words.encode(f"{fact.answer}<|end|>")
        ids = prompt + answer
        if len(packed.ids) + len(ids) > LENGTH:
            break
        packed.ids.extend(ids)
        packed.parts.extend([part] * len(ids))
        packed.places.extend(range(nothing, nothing + len(ids)))
        packed.weights.extend([0.0] * len(prompt) + [1 / len(answer)] * len(answer))
        packed.boxes.extend(where.get(words.label_of.get(number, ""), NOWHERE) for number in ids)
    return packed


def lesson_loss(model: LlavaForConditionalGeneration, finder: nn.Linear, rows: list[Packed], words: Words) -> Tensor:
    """Loss of the answers, each answer with the same weight, and two helpers that make words and things meet.

    The first helper puts what the language model sees of a patch close to the word for what covers it. The second
    asks every word for a thing, half-way up the model, where that thing is. Without them the model learns to list
    what is there but not, in the same time, to look up a thing by its name.
    """
    shown = [row.shown for row in rows if row.shown is not None]
    seen = model.model.get_image_features(pixels([each.picture for each in shown]), return_dict=True)
    patches = torch.stack(list(seen.pooler_output))
    named = name_loss(patches, model.get_input_embeddings().weight, shown, words.spellings)
    answered, middle = answer_loss(model, rows, seen)
    boxes = _padded([row.boxes for row in rows]).float() / SIDE
    names = boxes[..., 2] > 0
    found = (
        (torch.sigmoid(finder(nn.functional.rms_norm(middle[names], middle.shape[-1:]))) - boxes[names]).abs().mean()
    )
    return answered + 0.5 * named + 5 * found


def name_loss(patches: Tensor, embeddings: Tensor, shown: list[Shown], words: Tensor) -> Tensor:
    """Cross-entropy of the word (either spelling, with or without a space before it) of each covered patch.

    patches: [pictures, 36, width]; embeddings: [vocabulary, width]; words: [labels, 2] token ids.
    """
    label = torch.from_numpy(np.stack([patch_targets(each)[0] for each in shown]))
    covered = label < len(LABELS)
    alike = nn.functional.normalize(patches[covered], dim=-1) @ nn.functional.normalize(embeddings, dim=-1).T
    likely = (16 * alike).log_softmax(-1)
    return -likely.gather(1, words[label[covered]]).mean()


def answer_loss(model: LlavaForConditionalGeneration, rows: list[Packed], seen: Any) -> tuple[Tensor, Tensor]:
    """Weighted cross-entropy of the answers' tokens, and the hidden states in the middle, [rows, tokens, width].

    seen: what `get_image_features` returned for the rows with a picture.
    """
    ids, places = _padded([row.ids for row in rows]), _padded([row.places for row in rows])
    parts, weights = _padded([row.parts for row in rows], -1), _padded([row.weights for row in rows])[:, 1:]
    # Every token sees the picture and the earlier tokens of its own part; padding sees padding.
    sees = ((parts[:, None] == parts[:, :, None]) | (parts[:, None] == 0)).tril()[:, None]
    output = model.model(
        input_ids=ids, attention_mask=sees, position_ids=places, mm_encoder_outputs={"image": seen}, use_cache=False,
        output_hidden_states=True,
    )  # fmt: skip
    target = weights > 0
    logits = model.lm_head(output.last_hidden_state[:, :-1][target])
    losses = nn.functional.cross_entropy(logits, ids[:, 1:][target], reduction="none")
    return (losses * weights[target]).sum() / weights.sum(), output.hidden_states[2]


def _padded(rows: Sequence[Sequence[Any]], value: int = 0) -> Tensor:
    return nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)


@torch.no_grad()
def exact_shares(model: LlavaForConditionalGeneration, processor: LlavaProcessor, lessons: int) -> dict[str, float]:
    """Share of first facts of fresh lessons answered word for word by greedy generation, for each skill."""
    right: dict[str, list[bool]] = {}
    for start in range(0, lessons, BATCH):
        told = [random_lesson(Random(f"pocket base/{SEED}/check/{start + row}")) for row in range(BATCH)]
        told = [lesson for lesson in told if lesson.shown is not None]
        prompts = [f"<|user|><image>{lesson.facts[0].prompt}<|assistant|>" for lesson in told]
        batch = processor(
            images=[lesson.shown.picture for lesson in told], text=prompts, return_tensors="pt", padding=True
        )
        tokens = model.generate(**batch, max_new_tokens=40, do_sample=False)
        answers = processor.batch_decode(tokens[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        for answer, lesson in zip(answers, told, strict=True):
            right.setdefault(lesson.facts[0].skill, []).append(answer == lesson.facts[0].answer)
    return {skill: sum(each) / len(each) for skill, each in sorted(right.items())}


def pixels(pictures: list[Image.Image]) -> Tensor:
    """RGB pictures -> [batch, 3, 48, 48] in -1..1, as the processor of the base does it."""
    stacked = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
    return stacked.permute(0, 3, 1, 2).float() / 127.5 - 1


@dataclass(frozen=True)
class Pace:
    """A cosine from the peak to nearly zero over the steps, after 100 steps of warm-up; and the weight decay."""

    steps: int
    peak: float
    decay: float

    def rate(self, step: int) -> float:
        wave = 0.5 + 0.5 * math.cos(math.pi * step / self.steps)
        return self.peak * max(0.01, min(1.0, (step + 1) / 100) * wave)


def _optimize(parameters: list[nn.Parameter], losses: Iterator[Tensor], pace: Pace) -> None:
    optimizer = torch.optim.AdamW(parameters, weight_decay=pace.decay, betas=(0.9, 0.98), fused=True)
    start, total = time.process_time(), 0.0
    for step, loss in enumerate(losses):
        for group in optimizer.param_groups:
            group["lr"] = pace.rate(step)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        total += loss.item()
        if (step + 1) % 100 == 0:
            print(
                f"step {step + 1}/{pace.steps}  {time.process_time() - start:.0f} s  loss {total / 100:.3f}", flush=True
            )
            total = 0.0


def _streams(name: str) -> Iterator[Random]:
    number = 0
    while True:
        yield Random(f"pocket base/{SEED}/{name}/{number}")
        number += 1


def main(directory: Path, tower_steps: int = 2600, language_steps: int = 2600) -> None:
    """Pretrain, save, and print the share of fresh facts that the base tells word for word."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    processor = save_processor(directory)
    model = new_model(processor)
    model.model.vision_tower.load_state_dict(train_tower(tower_steps).state_dict())
    train_language(model, processor, language_steps)
    model.save_pretrained(directory)
    for skill, share in exact_shares(model, processor, 2048).items():
        print(f"{skill:10} {share:.2f}")


if __name__ == "__main__":
    typer.run(main)
