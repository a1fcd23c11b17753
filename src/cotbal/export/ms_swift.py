"""ms-swift 4: a weight on every assistant message, and the arguments that make it use weights.

Read in the sources of 4.6.0 and run (benchmarks/trainer_exports.py). The field `loss_scale` of a
message multiplies the losses of its words (`swift/loss_scale/base.py`), if the strategy is not
binary (`swift/template/base.py`, `_encode_context_list`). The sum is divided by the number of
supervised tokens of the step (`swift/trainers/seq2seq_trainer.py`), so weights need the mean 1 over
tokens.
"""

from __future__ import annotations

from importlib.resources import files
from math import nextafter
from pathlib import Path
from typing import Any

from cotbal.data.files import write_jsonl, write_text
from cotbal.export import Guide, Order
from cotbal.export._material import open_material
from cotbal.export._rows import Row, rows
from cotbal.export._settings import (
    frozen,
    model_of,
    parameter_dtype,
    remarks,
    training_arguments,
    tuned,
    write_yaml,
)
from cotbal.recipe.recipe import Recipe

VERSION = "4.6.0"
PLUGIN = "cotbal_weights.py"
_MEANING = """\
- Every assistant message has its task's weight as `loss_scale`. With
  `is_binary_loss_scale: false` ms-swift uses it; by default it silently drops all weights.
- {plugin} gives the same weight to the tokens that end a turn, which otherwise have 1. For
  LLaVA-1.5 it also corrects the positions of weights, which are otherwise shifted by the image's
  tokens. An answer without loss has the weight 0, its end included.
- ms-swift divides by the number of supervised tokens of the whole optimizer step, so the weights
  are scaled to a mean of 1 over the {counted} of the mixture.
- Exact: the gradient of a step is that of cotbal with these weights and
  `optimization.normalizer: tokens`. cotbal's default divides by the weighted number of tokens: the
  gradient of ms-swift is that one times the mean weight of the step's tokens, 1 on average.
- `channel` names the task: with `--enable_channel_loss true`, its curve is the weighted loss.
"""
_SAMPLED = """\
- Records are repeated and left out as `optimization.sampling` of the recipe says, as often as in an
  epoch of cotbal; which ones may differ, and every epoch shows the same rows.
"""
_LOST = """\
- ms-swift leaves out a record longer than max_length, where cotbal cuts off its end.
- ms-swift writes conversations by its own template of the model; where it does not recognise the
  model of the checkpoint, add `model_type` to train.yaml.
- For a thinking model ms-swift appends `ignore_empty_think` to `loss_scale`; the weights are still
  used.
- Weights switch off Liger's fused loss: the logits of a micro-batch are in memory.
"""


def write(order: Order, out: Path) -> Guide:
    """Write `train.jsonl`, `train.yaml` and a plugin for the weights of the ends of turns."""
    material = open_material(order)
    weights = material.loss_weights
    weighted = (_message_row(row, weights[row.task]) for row in rows(material, material.sampled))
    write_jsonl(out / "train.jsonl", weighted)
    write_yaml(out / "train.yaml", _arguments(order.recipe))
    plugin = files("cotbal.export") / "plugin" / PLUGIN
    write_text(out / PLUGIN, plugin.read_text(encoding="utf-8"))
    meaning = _MEANING.format(plugin=PLUGIN, counted=material.counted)
    if set(material.sampled.values()) != {1.0}:
        meaning += _SAMPLED
    return Guide(
        f"ms-swift (format of {VERSION})",
        material.table("loss_scale", weights),
        "swift sft train.yaml",
        meaning,
        remarks(order.recipe, freezes=True) + _LOST,
    )


def _message_row(row: Row, weight: float) -> dict[str, Any]:
    weight = nextafter(1, 2) if weight == 1 else weight  # tokens without a message have 1
    messages = []
    for turn in row.turns:
        message: dict[str, Any] = {"role": turn.role, "content": turn.text}
        if turn.role == "assistant":
            message["loss_scale"] = weight if turn.loss else 0.0
        messages.append(message)
    return {"messages": messages, "images": list(row.images), "channel": row.task}


def _arguments(recipe: Recipe) -> dict[str, Any]:
    checkpoint, section = model_of(recipe)
    is_frozen = frozen(section)
    lora = {
        "lora_rank": section.lora.rank,
        "lora_alpha": section.lora.alpha,
        "lora_dropout": section.lora.dropout,
    }
    return {
        "model": checkpoint,
        "dataset": ["train.jsonl"],
        "split_dataset_ratio": 0,
        "loss_scale": "default",
        "is_binary_loss_scale": False,
        "external_plugins": [PLUGIN],
        "tuner_type": tuned(section),
        **(lora if tuned(section) == "lora" else {}),
        "freeze_vit": is_frozen["vision"],
        "freeze_aligner": is_frozen["projector"],
        "freeze_llm": is_frozen["language"],
        "torch_dtype": parameter_dtype(section),
        "bf16": section.dtype == "bfloat16",
        "fp16": False,  # or it computes float32 in float16
        "max_length": section.max_length,
        "gradient_checkpointing": section.gradient_checkpointing,
        **training_arguments(recipe),
        "warmup_ratio": recipe.file.optimization.warmup_ratio,
        "output_dir": "output",
    }
