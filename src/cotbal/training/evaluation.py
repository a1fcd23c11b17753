"""Evaluate a checkpoint: greedy answers, kept as text beside their references."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, GenerationConfig

from cotbal.data.batches.collate import Collator, Row
from cotbal.data.batches.loading import made, processes
from cotbal.data.batches.questions import QuestionCollator, collator_for
from cotbal.data.files import write_jsonl
from cotbal.data.reading.record import Record, answer_row
from cotbal.recipe.recipe import Recipe
from cotbal.recipe.schema import Generation
from cotbal.training import vlm
from cotbal.training.ranks import ALONE, Ranks
from cotbal.training.run_paths import RunPaths

AnyCollator = Collator | QuestionCollator
Report = Callable[[int], None]  # number of answers given so far

Answer = Callable[[Sequence[Row], Report], list[str]]

GREEDY = {"do_sample": False, "num_beams": 1, "use_cache": True}
_IDS = ("bos_token_id", "decoder_start_token_id")  # beside those of the end and of padding


def answerer(recipe: Recipe, checkpoint: str, ranks: Ranks, images: Path | None = None) -> Answer:
    """Load a checkpoint; the function that is returned answers rows with it as the recipe says.

    Args:
        images: root of the names of images, that of the recipe by default.
    """
    model, processor = vlm.load(checkpoint, recipe.model.dtype, recipe.model.remote_code)
    device_model: Any = model.to("cuda" if torch.cuda.is_available() else "cpu")
    collator = collator_for(processor, images or recipe.images, recipe.model.max_length)
    set_greedy(device_model.eval(), collator)
    ignored = ignored_settings(checkpoint, recipe.model.remote_code)
    if ignored and ranks.main:
        listed = ", ".join(f"{name}={value}" for name, value in ignored.items())
        print(f"greedy answers: generation settings of {checkpoint} that are not used: {listed}")
    how, workers = recipe.file.generation, processes(recipe.resources.dataloader_workers)
    return lambda rows, report: generate(device_model, collator, rows, how, report, ranks, workers)


def generate(
    model: Any,
    collator: AnyCollator,
    rows: Sequence[Row],
    settings: Generation,
    report: Report,
    ranks: Ranks = ALONE,
    workers: int = 0,
) -> list[str]:
    """Greedy answers, in the order of `rows`; ranks take batches in turn, and all of them get all
    answers.

    Rows of similar length share a batch, padded on the left, so that little is computed for
    nothing; a batch ends when its last row has ended. `workers` processes per rank make the next
    batches meanwhile.
    """
    order = sorted(
        range(len(rows)), key=lambda i: sum(len(turn.text) for turn in rows[i].record.turns[:-1])
    )
    answers: dict[int, str] = {}
    starts = range(0, len(rows), settings.batch_size)[ranks.rank :: ranks.size]
    shares = [order[start : start + settings.batch_size] for start in starts]
    batches = made(shares, lambda places: collator.prompts([rows[i] for i in places]), workers)
    for start, places, batch in zip(starts, shares, batches, strict=True):
        answers |= zip(
            places, _answers(model, collator, batch, settings.max_new_tokens), strict=True
        )
        report(start + len(places))
    found = {place: answer for part in ranks.gathered(answers) for place, answer in part.items()}
    return [found[place] for place in range(len(rows))]


def _answers(
    model: Any, collator: AnyCollator, batch: dict[str, Any], max_new_tokens: int
) -> list[str]:
    inputs = {key: _to(value, model) for key, value in batch.items()}
    with torch.inference_mode():
        tokens = model.generate(**inputs, max_new_tokens=max_new_tokens)
    new = tokens[:, inputs["input_ids"].shape[1] :]
    texts = collator.tokenizer.batch_decode(
        new, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return [text.strip() for text in texts]


def _to(value: Any, model: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return value.to(model.device, model.dtype if value.is_floating_point() else None)


def set_greedy(model: Any, collator: AnyCollator) -> None:
    """Make `model.generate` take the most likely token at every step.

    Of the checkpoint's generation settings only the ids of special tokens are kept: any other
    (`repetition_penalty`, `min_new_tokens`, `suppress_tokens`, ...) could change the most likely
    token. An answer ends at the token that ended the turns of the training, or at one that the
    checkpoint names.
    """
    stored, tokenizer = model.generation_config, collator.tokenizer
    named = stored.eos_token_id
    ends = named if isinstance(named, list) else [named]
    model.generation_config = GenerationConfig(
        **GREEDY,
        **{name: getattr(stored, name) for name in _IDS},
        eos_token_id=sorted({*ends, tokenizer.convert_tokens_to_ids(collator.end)} - {None}),
        pad_token_id=tokenizer.pad_token_id,
    )


def ignored_settings(checkpoint: str, remote_code: bool) -> dict[str, Any]:
    """Generation settings of a checkpoint that `set_greedy` leaves out, name -> value.

    Args:
        checkpoint: a directory or the name of a repository.
    """
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
    """Keep every answer beside its question and references, so that scores can be computed again
    without a model.
    """
    rows = (answer_row(*pair) for pair in zip(records, answers, strict=True))
    write_jsonl(paths.generations(task, split), rows)
