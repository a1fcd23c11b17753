"""axolotl: no weights; every task is shown as often as its weight requires (docs/exports.md).

Read in the sources of 0.19.0 (`prompt_strategies/chat_template.py`, `_convert_content_parts`;
`processing_strategies.py`; `utils/collators/mm_chat.py`) and run (`benchmarks/trainer_exports.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cotbal.data.files import write_jsonl
from cotbal.errors import CotbalError
from cotbal.export import Guide, Order
from cotbal.export._material import open_material
from cotbal.export._rows import Row, parts_of, rows
from cotbal.export._settings import MICRO_BATCH_MEAN, model_of, remarks, tuned, write_yaml
from cotbal.export.ratios import MEANING
from cotbal.recipe.recipe import Recipe

VERSION = "0.19.0"
_LOST = """\
- Set `chat_template` in train.yaml to axolotl's name for the model, such as qwen2_vl: by it axolotl
  separates answers from prompts. Where it cannot (LLaVA-1.5 among others), it trains on the
  prompt as well, and its log says so. Its remedy, `role_boundaries`, ends in a TypeError in 0.19.0
  (in `_resolve_role_boundary_override`; the line is still in 0.21.0).
- For models with images axolotl does not cut conversations off at sequence_len.
"""


def write(order: Order, out: Path) -> Guide:
    """Write `train.jsonl` and `train.yaml`."""
    material = open_material(order)
    if marked := material.marked():
        raise CotbalError(
            f"{marked}: an answer is marked to carry no loss, which axolotl does not support for"
            " models with images; export to trl, ms-swift or llamafactory, or leave such records"
            " out",
            "unsupported-record",
        )
    write_jsonl(out / "train.jsonl", map(_message_row, rows(material, material.copies)))
    write_yaml(out / "train.yaml", _configuration(order.recipe))
    return Guide(
        f"axolotl (format of {VERSION})",
        material.table("times shown", material.copies),
        "axolotl train train.yaml",
        "- axolotl has no weights that work, so they are expressed in the number of rows.\n"
        + MEANING
        + MICRO_BATCH_MEAN,
        remarks(order.recipe, freezes=False) + _LOST,
    )


def _message_row(row: Row) -> dict[str, Any]:
    images = iter(row.images)
    messages = [{"role": turn.role, "content": parts_of(turn.text, images)} for turn in row.turns]
    return {"messages": messages}


def _configuration(recipe: Recipe) -> dict[str, Any]:
    checkpoint, section = model_of(recipe)
    s = recipe.file.optimization
    lora = {
        "adapter": "lora",
        "lora_r": section.lora.rank,
        "lora_alpha": round(section.lora.alpha),
        "lora_dropout": section.lora.dropout,
        "lora_target_linear": True,
    }
    return {
        "base_model": checkpoint,
        "processor_type": "AutoProcessor",
        "chat_template": "YOUR_TEMPLATE",
        "skip_prepare_dataset": True,  # this and the next two are needed for images
        "remove_unused_columns": False,
        "sample_packing": False,
        "datasets": [{"path": "train.jsonl", "ds_type": "json", "type": "chat_template"}],
        **(lora if tuned(section) == "lora" else {}),
        "sequence_len": section.max_length,
        "bf16": section.dtype == "bfloat16",
        "gradient_checkpointing": section.gradient_checkpointing,
        "num_epochs": s.epochs,
        "micro_batch_size": s.micro_batch_size,
        "gradient_accumulation_steps": s.batch_size // s.micro_batch_size,
        "optimizer": "adamw_torch",
        "learning_rate": s.learning_rate,
        "lr_scheduler": s.schedule,
        "warmup_ratio": s.warmup_ratio,
        "weight_decay": s.weight_decay,
        "max_grad_norm": s.max_grad_norm,
        "seed": s.seed,
        "output_dir": "output",
    }
