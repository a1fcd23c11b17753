"""LLaMA-Factory: no weights; every task is shown as often as its weight requires (docs/exports.md).

Read in the sources of 0.9.5 (`data/converter.py`; `v1/trainers/sft_trainer.py`;
`v1/core/utils/rendering.py`). Its probabilities (`mix_strategy`, `interleave_probs`) repeat or drop
records at random, so rows are repeated here instead.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

from cotbal.data.files import write_json, write_jsonl
from cotbal.export import Guide, Order
from cotbal.export._material import open_material
from cotbal.export._rows import Row, one_answer_each, rows
from cotbal.export._settings import (
    MICRO_BATCH_MEAN,
    frozen,
    model_of,
    remarks,
    training_arguments,
    tuned,
    write_yaml,
)
from cotbal.export.ratios import MEANING
from cotbal.recipe.recipe import Recipe

VERSION = "0.9.5"
_MARKED = """\
- Some answers carry no loss. LLaMA-Factory has no marks for turns, so every other answer is a row
  with all turns before it, and `mask_history: true` trains on the last answer of a row alone.
"""
_TEMPLATE = """\
- Set `template` in train.yaml to LLaMA-Factory's name for the model, such as qwen2_vl.
"""
_ENTRY = {
    "file_name": "train.jsonl",
    "formatting": "sharegpt",
    "columns": {"messages": "messages", "images": "images"},
    "tags": {
        "role_tag": "role",
        "content_tag": "content",
        "user_tag": "user",
        "assistant_tag": "assistant",
        "system_tag": "system",
    },
}


def write(order: Order, out: Path) -> Guide:
    """Write `train.jsonl`, `dataset_info.json` and `train.yaml`."""
    material = open_material(order)
    arguments = _arguments(order.recipe)
    shown = rows(material, material.copies)
    meaning = (
        "- LLaMA-Factory has no weights that work, so they are expressed in the number of rows.\n"
        + MEANING
        + MICRO_BATCH_MEAN
    )
    if material.marked():
        shown = chain.from_iterable(map(one_answer_each, shown))
        arguments["mask_history"] = True
        meaning += _MARKED
    write_jsonl(out / "train.jsonl", map(_message_row, shown))
    write_json(out / "dataset_info.json", {"cotbal": _ENTRY})
    write_yaml(out / "train.yaml", arguments)
    return Guide(
        f"LLaMA-Factory (format of {VERSION})",
        material.table("times shown", material.copies),
        "llamafactory-cli train train.yaml",
        meaning,
        remarks(order.recipe, freezes=True) + _TEMPLATE,
    )


def _message_row(row: Row) -> dict[str, Any]:
    messages = [{"role": turn.role, "content": turn.text} for turn in row.turns]
    return {"messages": messages, "images": list(row.images)}


def _arguments(recipe: Recipe) -> dict[str, Any]:
    checkpoint, section = model_of(recipe)
    is_frozen = frozen(section)
    method: dict[str, Any] = {
        "freeze_vision_tower": is_frozen["vision"],
        "freeze_multi_modal_projector": is_frozen["projector"],
        "freeze_language_model": is_frozen["language"],
    }
    if tuned(section) == "lora":
        method = {
            "lora_rank": section.lora.rank,
            "lora_alpha": round(section.lora.alpha),
            "lora_dropout": section.lora.dropout,
        }
    return {
        "model_name_or_path": checkpoint,
        "stage": "sft",
        "do_train": True,
        "template": "YOUR_TEMPLATE",
        "dataset": "cotbal",
        "dataset_dir": ".",
        "cutoff_len": section.max_length,
        "finetuning_type": tuned(section),
        **method,
        "bf16": section.dtype == "bfloat16",
        "output_dir": "output",
        **training_arguments(recipe),
        "warmup_ratio": recipe.file.optimization.warmup_ratio,
    }
