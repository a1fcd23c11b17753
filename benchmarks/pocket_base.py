"""Makes the pretrained base of `pocket`: a vision tower that names and places things, then a
language model on top.

    python benchmarks/pocket_base.py DIRECTORY [--tower-steps 3200] [--language-steps 1900]

Stage 1 trains the CLIP tower alone: every patch says what covers it and where that thing's box
lies. Stage 2 freezes the tower and trains projector and language model on short answers
(`pocket_lessons.py`), none of them in the format of one of the benchmark's tasks. The images are
drawn as they are needed, from random streams that no split of the benchmark uses. One core is
enough; the result is a directory for `AutoModelForImageTextToText`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
import typer
from torch import Tensor, nn
from transformers import (
    CLIPVisionModel,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from pocket_lessons import random_lesson, random_shown
from pocket_packing import Words, lesson_loss, pack
from pocket_tokenizer import save_processor
from pocket_tower import GRID, PatchLabels, patch_loss, patch_targets, pixels, vision_config

BATCH = 64
ROWS = 32
SEED = 0


def new_model(processor: LlavaProcessor) -> LlavaForConditionalGeneration:
    """A LLaVA of 1.5 M parameters with random weights."""
    tokenizer = processor.tokenizer
    text = LlamaConfig(
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=256,
        vocab_size=len(tokenizer),
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.05,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    config = LlavaConfig(
        vision_config=vision_config(),
        text_config=text,
        image_token_index=processor.image_token_id,
        image_seq_length=GRID * GRID,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )
    return LlavaForConditionalGeneration(config)


def train_tower(steps: int) -> CLIPVisionModel:
    """Stage 1."""
    labels, streams = PatchLabels(), _streams("tower")

    def loss() -> Tensor:
        shown = [random_shown(next(streams)) for _ in range(BATCH)]
        targets = [
            np.stack(parts)
            for parts in zip(*(patch_targets(lesson) for lesson in shown), strict=True)
        ]
        return patch_loss(
            labels(pixels([lesson.image for lesson in shown])), *map(torch.from_numpy, targets)
        )

    _optimize(
        list(labels.parameters()),
        (loss() for _ in range(steps)),
        Pace(steps, peak=1.5e-3, decay=0.05),
    )
    return labels.tower


def train_language(
    model: LlavaForConditionalGeneration, processor: LlavaProcessor, steps: int
) -> None:
    """Stage 2."""
    model.model.vision_tower.requires_grad_(False)
    finder = nn.Linear(model.config.text_config.hidden_size, 4)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    words, streams = Words(processor), _streams("language")

    def loss() -> Tensor:
        return lesson_loss(
            model, finder, [pack(random_lesson(next(streams)), words) for _ in range(ROWS)], words
        )

    _optimize(
        [*parameters, *finder.parameters()],
        (loss() for _ in range(steps)),
        Pace(steps, peak=2e-3, decay=0.01),
    )


@torch.no_grad()
def exact_shares(
    model: LlavaForConditionalGeneration, processor: LlavaProcessor, lessons: int
) -> dict[str, float]:
    """Share of first facts of fresh lessons answered word for word by greedy generation, for each
    skill.
    """
    right: dict[str, list[bool]] = {}
    for start in range(0, lessons, BATCH):
        illustrated = [
            random_lesson(Random(f"pocket base/{SEED}/check/{start + row}")) for row in range(BATCH)
        ]
        illustrated = [lesson for lesson in illustrated if lesson.shown is not None]
        prompts = [f"<|user|><image>{lesson.facts[0].text}<|assistant|>" for lesson in illustrated]
        batch = processor(
            images=[lesson.shown.image for lesson in illustrated],
            text=prompts,
            return_tensors="pt",
            padding=True,
        )
        tokens = model.generate(**batch, max_new_tokens=40, do_sample=False)
        answers = processor.batch_decode(
            tokens[:, batch["input_ids"].shape[1] :], skip_special_tokens=True
        )
        for answer, lesson in zip(answers, illustrated, strict=True):
            right.setdefault(lesson.facts[0].skill, []).append(answer == lesson.facts[0].answer)
    return {skill: sum(hits) / len(hits) for skill, hits in sorted(right.items())}


@dataclass(frozen=True)
class Pace:
    """A cosine from the peak to nearly zero over the steps, after 100 steps of warm-up; and the
    weight decay.
    """

    steps: int
    peak: float
    decay: float

    def rate(self, step: int) -> float:
        wave = 0.5 + 0.5 * math.cos(math.pi * step / self.steps)
        return self.peak * max(0.01, min(1.0, (step + 1) / 100) * wave)


def _optimize(parameters: list[nn.Parameter], losses: Iterator[Tensor], pace: Pace) -> None:
    optimizer = torch.optim.AdamW(
        parameters, weight_decay=pace.decay, betas=(0.9, 0.98), fused=True
    )
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
            seconds = time.process_time() - start
            print(
                f"step {step + 1}/{pace.steps}  {seconds:.0f} s  loss {total / 100:.3f}", flush=True
            )
            total = 0.0


def _streams(name: str) -> Iterator[Random]:
    number = 0
    while True:
        yield Random(f"pocket base/{SEED}/{name}/{number}")
        number += 1


def main(directory: Path, tower_steps: int = 3200, language_steps: int = 1900) -> None:
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
