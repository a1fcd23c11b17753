"""What one writes without cotbal: a script that trains with the stock Trainer, and a script that
answers by `generate` in batches. `one_probe.py` measures them, and asks a third one how close the
first tokens are in which two answers differ.

    python benchmarks/separate_scripts.py train SETTINGS.json
    python benchmarks/separate_scripts.py answer SETTINGS.json
    python benchmarks/separate_scripts.py gaps SETTINGS.json

Rows are JSON lines with `messages`, as chat templates read them, and `images`, the paths of their
images. Rows of the training are in the order in which they are shown.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

Rows = list[dict[str, Any]]


def read(file: str) -> Rows:
    return [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]


class Batches:
    """Rows to tensors: the processor with its padding, and labels on the answers."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def training(self, rows: Rows) -> dict[str, torch.Tensor]:
        texts = [self.text(row["messages"]) for row in rows]
        questions = [self.text(row["messages"][:-1], asks=True) for row in rows]
        batch = self.tensors(rows, texts, "right")
        labels = torch.full_like(batch["input_ids"], -100)
        lengths = batch["attention_mask"].sum(dim=1)
        counts = zip(self.lengths(texts), self.lengths(questions), strict=True)
        for i, (whole, asked) in enumerate(counts):
            end = int(lengths[i])
            answer = slice(end - (whole - asked), end)
            labels[i, answer] = batch["input_ids"][i, answer]
        return {**batch, "labels": labels}

    def text(self, messages: Rows, asks: bool = False) -> str:
        return self.processor.apply_chat_template(messages, add_generation_prompt=asks)

    def lengths(self, texts: list[str]) -> list[int]:
        """Tokens of texts, one per image."""
        encoded = self.processor.tokenizer(texts, add_special_tokens=False)
        return [len(ids) for ids in encoded["input_ids"]]

    def tensors(self, rows: Rows, texts: list[str], side: str) -> dict[str, torch.Tensor]:
        images = [[Image.open(path).convert("RGB") for path in row["images"]] for row in rows]
        return dict(
            self.processor(
                text=texts,
                images=images if any(images) else None,
                padding=True,
                padding_side=side,
                add_special_tokens=False,
                return_tensors="pt",
            )
        )


def train(settings: dict[str, Any]) -> None:
    """Write a checkpoint, and the losses of the steps."""
    processor = AutoProcessor.from_pretrained(settings["base"])
    model = AutoModelForImageTextToText.from_pretrained(settings["base"], dtype=torch.float32)
    model.model.vision_tower.requires_grad_(False)
    args = TrainingArguments(
        settings["trained"],
        **settings["arguments"],
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = Trainer(
        model,
        args,
        train_dataset=read(settings["rows"]),
        data_collator=Batches(processor).training,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    model.save_pretrained(settings["trained"])
    processor.save_pretrained(settings["trained"])
    lines = [line for line in trainer.state.log_history if "loss" in line]
    Path(settings["losses"]).write_text(json.dumps([line["loss"] for line in lines]))


@torch.inference_mode()
def answer(settings: dict[str, Any]) -> None:
    """Write the greedy answers to the questions of all files, in their order."""
    processor = AutoProcessor.from_pretrained(settings["checkpoint"])
    model = AutoModelForImageTextToText.from_pretrained(
        settings["checkpoint"], dtype=torch.float32
    ).eval()
    batches, size = Batches(processor), settings["size"]
    answers: dict[str, list[str]] = {}
    for name, file in settings["questions"].items():
        rows, answers[name] = read(file), []
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            texts = [batches.text(row["messages"][:-1], asks=True) for row in some]
            batch = batches.tensors(some, texts, "left")
            tokens = model.generate(
                **batch, max_new_tokens=settings["max_new_tokens"], do_sample=False
            )
            new = tokens[:, batch["input_ids"].shape[1] :]
            decoded = processor.batch_decode(new, skip_special_tokens=True)
            answers[name] += [text.strip() for text in decoded]
    Path(settings["answers"]).write_text(json.dumps(answers))


@torch.inference_mode()
def gaps(settings: dict[str, Any]) -> None:
    """Write, for each pair of answers to a question, by how much the model prefers one of the first
    tokens in which they differ: logits in float64, relative to the largest one.
    """
    processor = AutoProcessor.from_pretrained(settings["checkpoint"])
    model = AutoModelForImageTextToText.from_pretrained(
        settings["checkpoint"], dtype=torch.float64
    ).eval()
    batches, end = Batches(processor), processor.tokenizer.eos_token_id
    relative = []
    for row, answers in settings["pairs"]:
        text = batches.text(row["messages"][:-1], asks=True)
        encoded = [batches.tensors([row], [text + answer], "right") for answer in answers]
        tokens = [[*batch["input_ids"][0].tolist(), end] for batch in encoded]
        first = next(i for i, (a, b) in enumerate(zip(*tokens, strict=False)) if a != b)
        logits = model(**encoded[0]).logits[0, first - 1]
        preferred = logits[tokens[0][first]] - logits[tokens[1][first]]
        relative.append(float(preferred.abs() / logits.abs().max()))
    Path(settings["gaps"]).write_text(json.dumps(relative))


if __name__ == "__main__":
    torch.set_num_threads(1)
    step = {"train": train, "answer": answer, "gaps": gaps}[sys.argv[1]]
    step(json.loads(Path(sys.argv[2]).read_text()))
