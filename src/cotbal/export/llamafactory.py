"""LLaMA-Factory: no weights; every task is shown as often as its weight says.

Read in the sources of 0.9.5:

* the trainer that it starts by default has no field for a weight (`data/converter.py`), and
  probabilities of its own (`mix_strategy`, `interleave_probs`) repeat or drop records by chance, so
  rows are repeated here instead;
* the trainer behind `USE_V1=1` reads `loss_weight` of a message, but divides each micro-batch by
  its own sum of weights (`v1/trainers/sft_trainer.py`): with one record a micro-batch weights
  cancel, and it reads no images (`v1/core/utils/rendering.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from cotbal.data.files import write_json, write_jsonl, write_text
from cotbal.export import Guide, Order
from cotbal.export._material import open_material
from cotbal.export._rows import Row, one_answer_each, rows
from cotbal.export._settings import frozen, model_of, remarks, training_arguments, tuned
from cotbal.export.ratios import MEANING
from cotbal.recipe.recipe import Recipe

VERSION = "0.9.5"
_MARKED = (
    "Some answers carry no loss. LLaMA-Factory has no marks for turns, so every other answer is a"
    " row with all that was said before it, and `mask_history: true` trains on the last answer of a"
    " row alone."
)
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
    marked = material.marked() is not None
    found = rows(material, material.copies)
    if marked:
        found = chain.from_iterable(map(one_answer_each, found))
    write_jsonl(out / "train.jsonl", map(_message_row, found))
    write_json(out / "dataset_info.json", {"cotbal": _ENTRY})
    arguments = dict(_arguments(order.recipe)) | ({"mask_history": True} if marked else {})
    write_text(out / "train.yaml", yaml.safe_dump(arguments, sort_keys=False))
    return Guide(
        f"LLaMA-Factory (format of {VERSION})",
        material.table("times shown", material.copies),
        "llamafactory-cli train train.yaml",
        (
            (
                "LLaMA-Factory has no weights that would act, so they are carried by the number of"
                " rows."
            ),
            *MEANING,
            (
                "Its loss is the mean over the tokens of a micro-batch, then the mean over the"
                " micro-batches of a step: with small ones, tasks with short answers count for more"
                " than in cotbal."
            ),
            *([_MARKED] if marked else []),
        ),
        (
            *remarks(order.recipe, freezes=True),
            (
                "Set `template` in train.yaml to the name that LLaMA-Factory has for the model,"
                " such as qwen2_vl."
            ),
        ),
    )


def _message_row(row: Row) -> dict[str, Any]:
    messages = [{"role": turn.role, "content": turn.text} for turn in row.turns]
    return {"messages": messages, "images": list(row.images)}


def _arguments(recipe: Recipe) -> Iterator[tuple[str, Any]]:
    checkpoint, section = model_of(recipe)
    yield from {
        "model_name_or_path": checkpoint,
        "stage": "sft",
        "do_train": True,
        "template": "YOUR_TEMPLATE",
    }.items()
    yield from {"dataset": "cotbal", "dataset_dir": ".", "cutoff_len": section.max_length}.items()
    yield "finetuning_type", tuned(section)
    if tuned(section) == "lora":
        lora = section.lora
        yield from {
            "lora_rank": lora.rank,
            "lora_alpha": round(lora.alpha),
            "lora_dropout": lora.dropout,
        }.items()
    else:
        names = {
            "vision": "vision_tower",
            "projector": "multi_modal_projector",
            "language": "language_model",
        }
        yield from ((f"freeze_{names[part]}", still) for part, still in frozen(section).items())
    yield from {"bf16": section.dtype == "bfloat16", "output_dir": "output"}.items()
    yield from training_arguments(recipe).items()
    yield "warmup_ratio", recipe.file.optimization.warmup_ratio
