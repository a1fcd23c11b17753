"""Makes the pretrained base of `pocket`: a vision tower that names and places things, then a language model on top.

    python benchmarks/pocket_base.py DIRECTORY [--tower-minutes 11] [--language-minutes 25]

Stage 1 trains the CLIP tower alone: every patch says what covers it and where that thing's box lies. Stage 2 freezes
the tower and trains projector and language model on short answers (`pocket_lessons.py`), none of them in the format
of one of the benchmark's tasks. The pictures are drawn as they are needed, from random streams that no split of the
benchmark uses. One core is enough; the result is a directory for `AutoModelForImageTextToText`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

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
from pocket_lessons import GROUNDS, LABELS, SHARES, Lesson, Shown, random_lesson, random_shown
from pocket_tokenizer import save_processor

PATCH = 8
GRID = SIDE // PATCH
BATCH = 64
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
        vocab_size=len(tokenizer), max_position_embeddings=512, tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision_config(), text_config=text, image_token_index=processor.image_token_id,
        image_seq_length=GRID * GRID, vision_feature_layer=-1, vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )  # fmt: skip
    return LlavaForConditionalGeneration(config)


def train_tower(seconds: float, log: Callable[[str], object]) -> CLIPVisionModel:
    """Stage 1."""
    labels = PatchLabels()

    def losses(streams: Iterator[Random]) -> Iterator[Tensor]:
        while True:
            shown = [random_shown(next(streams)) for _ in range(BATCH)]
            targets = [np.stack(parts) for parts in zip(*(patch_targets(each) for each in shown), strict=True)]
            yield patch_loss(labels(pixels([each.picture for each in shown])), *map(torch.from_numpy, targets))

    _optimize(list(labels.parameters()), losses(_streams("tower")), _Pace(seconds, 1.5e-3, 0.05), log)
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


def train_language(
    model: LlavaForConditionalGeneration, processor: LlavaProcessor, seconds: float, log: Callable[[str], object]
) -> None:
    """Stage 2."""
    model.model.vision_tower.requires_grad_(False)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    losses = (answer_loss(model, processor, lessons) for lessons in _lessons(_streams("language")))
    _optimize(parameters, losses, _Pace(seconds, 2e-3, 0.01), log)


def _lessons(streams: Iterator[Random]) -> Iterator[list[Lesson]]:
    """Batches of similar length, in random order."""
    shuffle = Random(SEED)
    while True:
        pool = sorted((random_lesson(next(streams)) for _ in range(8 * BATCH)), key=_length)
        batches = [pool[start : start + BATCH] for start in range(0, len(pool), BATCH)]
        shuffle.shuffle(batches)
        yield from batches


def _length(lesson: Lesson) -> int:
    return len(lesson.prompt) + len(lesson.answer) + 1000 * (lesson.picture is not None)


def answer_loss(model: LlavaForConditionalGeneration, processor: LlavaProcessor, lessons: list[Lesson]) -> Tensor:
    """Mean cross-entropy of the answers' tokens."""
    batch = _encode(processor, [_prompt(lesson) + lesson.answer + "<|end|>" for lesson in lessons], lessons)
    ids = batch["input_ids"]
    # The answer of each row is what follows the assistant's mark; rows are padded on the left.
    answer = (ids == processor.tokenizer.convert_tokens_to_ids("<|assistant|>")).cumsum(1).bool()
    hidden = model.model(**batch, use_cache=False).last_hidden_state
    rows = answer[:, :-1]
    return nn.functional.cross_entropy(model.lm_head(hidden[:, :-1][rows]), ids[:, 1:][rows])


@torch.no_grad()
def exact_share(model: LlavaForConditionalGeneration, processor: LlavaProcessor, lessons: list[Lesson]) -> float:
    """Share of lessons answered word for word by greedy generation."""
    batch = _encode(processor, [_prompt(lesson) for lesson in lessons], lessons)
    tokens = model.generate(**batch, max_new_tokens=40, do_sample=False)
    answers = processor.batch_decode(tokens[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return sum(found == lesson.answer for found, lesson in zip(answers, lessons, strict=True)) / len(lessons)


def _prompt(lesson: Lesson) -> str:
    return f"<|user|>{'' if lesson.picture is None else '<image>'}{lesson.prompt}<|assistant|>"


def _encode(processor: LlavaProcessor, texts: list[str], lessons: list[Lesson]) -> dict[str, Tensor]:
    """Token ids, attention mask and, if any lesson has a picture, pixels; each `<image>` becomes 36 tokens."""
    wide = [text.replace("<image>", "<image>" * (GRID * GRID)) for text in texts]
    encoded = processor.tokenizer(wide, return_tensors="pt", padding=True, add_special_tokens=False)
    batch = {name: encoded[name] for name in ("input_ids", "attention_mask")}
    pictures = [lesson.picture for lesson in lessons if lesson.picture is not None]
    return {**batch, "pixel_values": pixels(pictures)} if pictures else batch


def pixels(pictures: list[Image.Image]) -> Tensor:
    """RGB pictures -> [batch, 3, 48, 48] in -1..1, as the processor of the base does it."""
    stacked = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
    return stacked.permute(0, 3, 1, 2).float() / 127.5 - 1


class _Pace:
    """A cosine from the peak to nearly zero over a given time, after 100 steps of warm-up."""

    def __init__(self, seconds: float, peak: float, decay: float) -> None:
        self.seconds, self.peak, self.decay = seconds, peak, decay
        self.start = time.monotonic()

    def done(self) -> float:
        return (time.monotonic() - self.start) / self.seconds

    def rate(self, step: int) -> float:
        wave = 0.5 + 0.5 * math.cos(math.pi * min(1.0, self.done()))
        return self.peak * max(0.01, min(1.0, (step + 1) / 100) * wave)


def _optimize(
    parameters: list[nn.Parameter], losses: Iterator[Tensor], pace: _Pace, log: Callable[[str], object]
) -> None:
    optimizer = torch.optim.AdamW(parameters, weight_decay=pace.decay, betas=(0.9, 0.98), fused=True)
    step, total = 0, 0.0
    while pace.done() < 1:
        for group in optimizer.param_groups:
            group["lr"] = pace.rate(step)
        loss = next(losses)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step, total = step + 1, total + loss.item()
        if step % 200 == 0:
            log(f"{100 * pace.done():5.1f} %  step {step}  loss {total / 200:.3f}")
            total = 0.0


def _streams(name: str) -> Iterator[Random]:
    number = 0
    while True:
        yield Random(f"pocket base/{SEED}/{name}/{number}")
        number += 1


def main(directory: Path, tower_minutes: float = 11, language_minutes: float = 25) -> None:
    """Pretrain, save, and print the share of fresh lessons that the base answers word for word."""
    torch.manual_seed(SEED)
    processor = save_processor(directory)
    model = new_model(processor)
    model.model.vision_tower.load_state_dict(train_tower(60 * tower_minutes, print).state_dict())
    train_language(model, processor, 60 * language_minutes, print)
    model.save_pretrained(directory)
    for lesson, _ in SHARES:
        fresh = [lesson(Random(f"pocket base/{SEED}/check/{number}")) for number in range(300)]
        print(f"{lesson.__name__:14} {exact_share(model, processor, fresh):.2f}")


if __name__ == "__main__":
    typer.run(main)
