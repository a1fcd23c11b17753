"""TRL's SFTTrainer: no weights; every task is shown as often as its weight requires.

Read in the sources of 1.16.0: further columns are dropped (`trainer/sft_trainer.py`,
`_set_signature_columns_if_needed` and the collators), and `fraction` of a mixture never repeats a
row (`scripts/utils.py`). Rows have a prompt and a completion, because rows of messages also train
on the prompt and the images' placeholders.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from pprint import pformat
from typing import Any

from cotbal.data.files import write_jsonl, write_text
from cotbal.export import Guide, Order
from cotbal.export._material import open_material
from cotbal.export._rows import Row, one_answer_each, parts_of, rows
from cotbal.export._settings import (
    model_of,
    parameter_dtype,
    remarks,
    training_arguments,
    tuned,
)
from cotbal.export.ratios import MEANING
from cotbal.recipe.recipe import Recipe

VERSION = "1.16.0"
_MEANING = """\
- SFTTrainer has no weights, so they are expressed in the number of rows. To train with exact
  weights, use `TaskWeightedSFTTrainer` of `cotbal.training.trainers.trl` in its place.
"""
_LOSS = """\
- Its loss is the mean over the completion tokens of the whole optimizer step, as in cotbal.
- A conversation of several turns becomes one row per turn: TRL trains on the last answer of a row
  alone. Answers without loss get no row.
"""
_SCRIPT = '''"""Fine-tune with TRL on rows that cotbal exported; start it in this directory."""

from datasets import Image, List, load_dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

LORA = {lora}
ARGUMENTS = {arguments}

rows = load_dataset("json", data_files="train.jsonl", split="train")
if "images" in rows.column_names:
    rows = rows.cast_column("images", List(Image()))
trainer = SFTTrainer(
    {model!r},
    args=SFTConfig(**ARGUMENTS),
    train_dataset=rows,
    peft_config=None if LORA is None else LoraConfig(**LORA, target_modules="all-linear"),
)
trainer.train()
trainer.save_model()
'''


def write(order: Order, out: Path) -> Guide:
    """Write `train.jsonl` and `train.py`."""
    material = open_material(order)
    with_image = any(names for part in material.parts for names in part.records.images())
    answers = chain.from_iterable(map(one_answer_each, rows(material, material.copies)))
    write_jsonl(out / "train.jsonl", (_completion_row(row, with_image) for row in answers))
    write_text(out / "train.py", _script(order.recipe))
    return Guide(
        f"TRL (format of {VERSION})",
        material.table("times shown", material.copies),
        "python train.py",
        _MEANING + MEANING + _LOSS,
        remarks(order.recipe, freezes=False),
    )


def _completion_row(row: Row, with_image: bool) -> dict[str, Any]:
    """The last answer as completion, all turns before it as prompt."""
    *prompt, answer = [{"role": turn.role, "content": parts_of(turn.text)} for turn in row.turns]
    images = {"images": list(row.images)} if with_image else {}
    return {"prompt": prompt, "completion": [answer], **images}


def _script(recipe: Recipe) -> str:
    checkpoint, section = model_of(recipe)
    lora = {
        "r": section.lora.rank,
        "lora_alpha": section.lora.alpha,
        "lora_dropout": section.lora.dropout,
    }
    arguments = {
        "output_dir": "output",
        **training_arguments(recipe),
        "warmup_steps": recipe.file.optimization.warmup_ratio,  # below 1 it is a ratio
        "max_length": section.max_length,
        "bf16": section.dtype == "bfloat16",
        "model_init_kwargs": {"dtype": parameter_dtype(section)},
        "gradient_checkpointing": section.gradient_checkpointing,
    }
    chosen = pformat(lora, sort_dicts=False) if tuned(section) == "lora" else None
    return _SCRIPT.format(
        lora=chosen, arguments=pformat(arguments, sort_dicts=False, width=100), model=checkpoint
    )
