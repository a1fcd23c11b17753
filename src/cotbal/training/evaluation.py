"""Greedy answers of a checkpoint, kept as text beside their references."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, GenerationConfig

from cotbal.data.batches.collate import Collator, Row
from cotbal.data.batches.loading import made, processes
from cotbal.data.batches.questions import QuestionCollator, collator_for
from cotbal.data.files import write_sealed_rows
from cotbal.data.reading.record import Record, answer_row
from cotbal.recipe.recipe import Recipe
from cotbal.recipe.schema import Generation
from cotbal.training import vlm
from cotbal.training.features.images import ImageFeatures
from cotbal.training.ranks import ALONE, Ranks
from cotbal.training.run_paths import RunPaths

AnyCollator = Collator | QuestionCollator
Report = Callable[[int], None]  # number of answers so far
Answer = Callable[[Sequence[Row], Report], list[str]]

GREEDY = {"do_sample": False, "num_beams": 1, "use_cache": True}
_IDS = ("bos_token_id", "decoder_start_token_id")  # beside those of the end and of padding


def answerer(
    recipe: Recipe,
    checkpoint: str,
    ranks: Ranks,
    images: Path | None = None,
    features: ImageFeatures | None = None,
) -> Answer:
    """Load a checkpoint; the result answers rows with the settings of the recipe.

    Args:
        images: root of image names; by default that of the recipe.
        features: keeps what the vision tower computes; None encodes images in every batch.
    """
    model, processor = vlm.load(checkpoint, recipe.model.dtype, recipe.model.remote_code)
    device_model: Any = model.to("cuda" if torch.cuda.is_available() else "cpu")
    collator = collator_for(processor, images or recipe.images, recipe.model.max_length)
    set_greedy(device_model.eval(), collator)
    if features is not None:
        features.attach(device_model)
    ignored = ignored_settings(checkpoint, recipe.model.remote_code)
    if ignored and ranks.main:
        listed = ", ".join(f"{name}={value}" for name, value in ignored.items())
        print(f"greedy answers: generation settings of {checkpoint} that are not used: {listed}")
    workers = processes(recipe.resources.dataloader_workers)
    return Answerer(device_model, collator, recipe.file.generation, ranks, workers)


@dataclass(frozen=True)
class Answerer:
    """Greedy answers of a model; ranks take batches in turn, and all of them get all answers.

    Attributes:
        workers: processes per rank that make the next batches meanwhile.
    """

    model: Any
    collator: AnyCollator
    settings: Generation
    ranks: Ranks = ALONE
    workers: int = 0

    def __call__(self, rows: Sequence[Row], report: Report) -> list[str]:
        """The answers, in the order of `rows`.

        Rows of similar length share a batch, padded on the left, to save computation; a batch ends
        when its last row has ended.
        """
        size, ranks = self.settings.batch_size, self.ranks
        order = sorted(range(len(rows)), key=lambda i: _question_length(rows[i]))
        starts = range(0, len(rows), size)[ranks.rank :: ranks.size]
        shares = [order[start : start + size] for start in starts]
        batches = made(
            shares, lambda share: self.collator.prompts([rows[i] for i in share]), self.workers
        )
        answers: dict[int, str] = {}
        for start, share, batch in zip(starts, shares, batches, strict=True):
            answers |= zip(share, self._generate(batch), strict=True)
            report(start + len(share))
        for part in ranks.gathered(answers):
            answers |= part
        return [answers[i] for i in range(len(rows))]

    def _generate(self, batch: dict[str, Any]) -> list[str]:
        inputs = {key: self._on_device(value) for key, value in batch.items()}
        with torch.inference_mode():
            tokens = self.model.generate(**inputs, max_new_tokens=self.settings.max_new_tokens)
        texts = self.collator.tokenizer.batch_decode(
            tokens[:, inputs["input_ids"].shape[1] :],
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
        return [text.strip() for text in texts]

    def _on_device(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        dtype = self.model.dtype if value.is_floating_point() else None
        return value.to(self.model.device, dtype)


def _question_length(row: Row) -> int:
    return sum(len(turn.text) for turn in row.record.turns[:-1])


def set_greedy(model: Any, collator: AnyCollator) -> None:
    """Make `model.generate` choose the most likely token at every step.

    Only the ids of special tokens are kept of the checkpoint's generation settings: others
    (`repetition_penalty`, `min_new_tokens`, `suppress_tokens`, ...) could change the most likely
    token. An answer ends at the token that ends a turn in training, or at one of the checkpoint's.
    """
    stored, tokenizer = model.generation_config, collator.tokenizer
    ends = stored.eos_token_id if isinstance(stored.eos_token_id, list) else [stored.eos_token_id]
    model.generation_config = GenerationConfig(
        **GREEDY,
        **{name: getattr(stored, name) for name in _IDS},
        eos_token_id=sorted({*ends, tokenizer.convert_tokens_to_ids(collator.end)} - {None}),
        pad_token_id=tokenizer.pad_token_id,
    )


def ignored_settings(checkpoint: str, remote_code: bool) -> dict[str, Any]:
    """Generation settings of a checkpoint (or hub name) that `set_greedy` leaves out."""
    try:
        stored = GenerationConfig.from_pretrained(checkpoint)
    except OSError:  # no generation_config.json: transformers reads the configuration of the model
        config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=remote_code)
        stored = GenerationConfig.from_model_config(config)
    settings: dict[str, Any] = json.loads(stored.to_json_string(use_diff=True))
    kept = (*_IDS, "eos_token_id", "pad_token_id", "transformers_version")
    return {
        name: value
        for name, value in settings.items()
        if value and name not in kept and not name.startswith("_") and value != GREEDY.get(name)
    }


def write_generations(
    paths: RunPaths, task: str, split: str, records: Sequence[Record], answers: Sequence[str]
) -> None:
    """Write answers with questions and references, to recompute scores without a model."""
    rows = (answer_row(*pair) for pair in zip(records, answers, strict=True))
    write_sealed_rows(paths.generations(task, split), rows)
