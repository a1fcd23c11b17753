"""A LLaVA of some ten thousand parameters with pocket's processor, and rows to train it on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoConfig, AutoProcessor, LlavaForConditionalGeneration

import cotbal.benchmarks.pocket

BASE = Path(cotbal.benchmarks.pocket.__file__).parent / "base"


def build(directory: Path, seed: int = 0) -> Path:
    """Write a checkpoint directory with random weights."""
    config = AutoConfig.from_pretrained(BASE)
    for part in (config.text_config, config.vision_config):
        part.hidden_size, part.intermediate_size = 16, 32
        part.num_attention_heads, part.num_hidden_layers = 2, 2
    config.text_config.num_key_value_heads, config.text_config.head_dim = 2, 8
    torch.manual_seed(seed)
    LlavaForConditionalGeneration(config).save_pretrained(directory)
    AutoProcessor.from_pretrained(BASE).save_pretrained(directory)
    return directory


COLOURS = ["red", "green", "blue", "yellow"]


def mixture(
    directory: Path,
    tasks: dict[str, int],
    train: int = 24,
    answers: int = 8,
    choosing: Collection[str] = (),
) -> Path:
    """Write records, images and a recipe; `tasks` maps names to the number of words of their
    answers, and records of the tasks in `choosing` offer a list of options.
    """
    colours = COLOURS
    (directory / "images").mkdir(parents=True)
    for colour in colours:
        Image.new("RGB", (48, 48), colour).save(directory / "images" / f"{colour}.png")
    sections = []
    for task, words in tasks.items():
        for split, count in (("train", train), ("validation", answers), ("test", answers)):
            rows = [_row(task, split, i, colours[i % 4], words) for i in range(count)]
            if task in choosing:
                rows = [
                    {**row, "options": [" ".join([c] * words) for c in colours]} for row in rows
                ]
            path = directory / "data" / f"{task}_{split}.jsonl"
            path.parent.mkdir(exist_ok=True)
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        files = "".join(
            f"    {s}: data/{task}_{s}.jsonl\n" for s in ("train", "validation", "test")
        )
        sections.append(f"  {task}:\n{files}")
    build(directory / "base")
    recipe = directory / "recipe.yaml"
    recipe.write_text(
        f"name: tiny\nimages: images\ntasks:\n{''.join(sections)}model: {{checkpoint: base, dtype:"
        " float32, max_length: 120}\noptimization: {epochs: 1, batch_size: 8, micro_batch_size:"
        " 4, learning_rate: 1.0e-2, checkpoint_steps: 2}\ngeneration: {max_new_tokens: 4,"
        " batch_size: 8}\nportions: {mini: 1/4}\nbalance: {bootstrap: 200, replicates: 1}\n"
    )
    return recipe


def _row(task: str, split: str, i: int, colour: str, words: int) -> dict[str, object]:
    answer = " ".join([colour] * words)
    return {
        "id": f"{task}_{split}_{i}",
        "image": f"{colour}.png",
        "conversations": [
            {"from": "human", "value": f"<image>\nWhich color has the {task}?"},
            {"from": "gpt", "value": answer},
        ],
    }


def copy(source: Path, target: Path) -> Path:
    """A second mixture with the same content; returns its recipe."""
    shutil.copytree(source, target)
    return target / "recipe.yaml"
