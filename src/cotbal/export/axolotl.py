"""axolotl: no weights; every task is shown as often as its weight says.

Read in the sources of 0.19.0, and run (`benchmarks/trainer_exports.py`): the field `weight` of a
text part is read as true or false (`prompt_strategies/chat_template.py`, `_convert_content_parts`),
so 1.6 is the same as 1, and for models with images it is not read at all; no other field of a row
or data set weighs losses. Which tokens of a row with images carry loss follows from the name of the
chat template (`processing_strategies.py`), and nothing cuts such a row off
(`utils/collators/mm_chat.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from cotbal.data.files import write_jsonl, write_text
from cotbal.errors import CotbalError
from cotbal.export import Guide, Order
from cotbal.export._material import open_material
from cotbal.export._rows import Row, parts_of, rows
from cotbal.export._settings import model_of, remarks, tuned
from cotbal.export.ratios import MEANING
from cotbal.recipe.recipe import Recipe

VERSION = "0.19.0"


def write(order: Order, out: Path) -> Guide:
    """Write `train.jsonl` and `train.yaml`."""
    material = open_material(order)
    if marked := material.marked():
        raise CotbalError(
            f"{marked}: an answer is marked to carry no loss, which axolotl does not support for"
            " models with images; export to trl, ms-swift or llamafactory, or leave such records"
            " out"
        )
    write_jsonl(out / "train.jsonl", map(_message_row, rows(material, material.copies)))
    write_text(
        out / "train.yaml", yaml.safe_dump(dict(_configuration(order.recipe)), sort_keys=False)
    )
    return Guide(
        f"axolotl (format of {VERSION})",
        material.table("times shown", material.copies),
        "axolotl train train.yaml",
        (
            "axolotl has no weights that would act, so they are carried by the number of rows.",
            *MEANING,
            (
                "For models with images its loss is the mean over the tokens of a micro-batch,"
                " then the mean over the micro-batches of a step: with small ones, tasks with short"
                " answers count for more than in cotbal."
            ),
        ),
        (
            *remarks(order.recipe, freezes=False),
            (
                "Set `chat_template` in train.yaml to the name that axolotl has for the model, such"
                " as qwen2_vl: by it axolotl tells answers from prompts. For models where it"
                " cannot, LLaVA-1.5 among them, it trains on the prompt as well, and its log says"
                " so. Its remedy, `role_boundaries`, ends in a TypeError in 0.19.0 (in"
                " `_resolve_role_boundary_override`; the line is still in 0.21.0)."
            ),
            "For models with images axolotl does not cut conversations off at sequence_len.",
        ),
    )


def _message_row(row: Row) -> dict[str, Any]:
    images = iter(row.images)
    return {
        "messages": [
            {"role": turn.role, "content": parts_of(turn.text, images)} for turn in row.turns
        ]
    }


def _configuration(recipe: Recipe) -> Iterator[tuple[str, Any]]:
    checkpoint, section = model_of(recipe)
    s = recipe.file.optimization
    yield from {
        "base_model": checkpoint,
        "processor_type": "AutoProcessor",
        "chat_template": "YOUR_TEMPLATE",
    }.items()
    # The three that images need.
    yield from {
        "skip_prepare_dataset": True,
        "remove_unused_columns": False,
        "sample_packing": False,
    }.items()
    yield "datasets", [{"path": "train.jsonl", "ds_type": "json", "type": "chat_template"}]
    if tuned(section) == "lora":
        lora = section.lora
        yield from {"adapter": "lora", "lora_r": lora.rank, "lora_alpha": round(lora.alpha)}.items()
        yield from {"lora_dropout": lora.dropout, "lora_target_linear": True}.items()
    yield from {"sequence_len": section.max_length, "bf16": section.dtype == "bfloat16"}.items()
    yield "gradient_checkpointing", section.gradient_checkpointing
    yield from {"num_epochs": s.epochs, "micro_batch_size": s.micro_batch_size}.items()
    yield "gradient_accumulation_steps", s.batch_size // s.micro_batch_size
    yield from {
        "optimizer": "adamw_torch",
        "learning_rate": s.learning_rate,
        "lr_scheduler": s.schedule,
    }.items()
    yield from {"warmup_ratio": s.warmup_ratio, "weight_decay": s.weight_decay}.items()
    yield from {"max_grad_norm": s.max_grad_norm, "seed": s.seed, "output_dir": "output"}.items()
