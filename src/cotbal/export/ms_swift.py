"""ms-swift 4: a weight on every assistant message, and the arguments without which it would be
ignored.

Read in the sources of 4.6.0 and run (benchmarks/trainer_exports.py):

* the field `loss_scale` of a message multiplies the losses of its words
  (`swift/loss_scale/base.py`), unless the template takes the strategy for a binary one, which it
  does by default and then drops every weight (`swift/template/base.py`, `_encode_context_list`):
  `is_binary_loss_scale: false` is what makes weights act;
* the sum is divided by the plain number of supervised tokens of the whole step
  (`num_items_in_batch`, `swift/trainers/seq2seq_trainer.py`), so weights need the mean 1 over
  tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from math import nextafter
from pathlib import Path
from typing import Any

import yaml

from cotbal.data.files import write_jsonl, write_text
from cotbal.export import Guide, Order
from cotbal.export._material import Material, open_material
from cotbal.export._rows import Row, rows
from cotbal.export._settings import frozen, model_of, remarks, training_arguments, tuned

VERSION = "4.6.0"
PLUGIN = "cotbal_weights.py"
_LOST = (
    "A record longer than max_length is left out by ms-swift, where cotbal cuts it off at the end.",
    (
        "ms-swift writes conversations by its own template of the model; where it cannot tell the"
        " model from the checkpoint, add `model_type` to train.yaml."
    ),
    (
        "For a thinking model ms-swift appends `ignore_empty_think` to `loss_scale`; the weights"
        " still act."
    ),
    "Weights take Liger's fused loss out of use: the logits of a micro-batch are in memory.",
)


def write(order: Order, out: Path) -> Guide:
    """Write `train.jsonl`, `train.yaml` and the plugin that lets a weight act on the end of a turn
    too.
    """
    material = open_material(order)
    weights = material.loss_weights
    write_jsonl(
        out / "train.jsonl", (_message_row(row, weights[row.task]) for row in rows(material))
    )
    write_text(out / "train.yaml", yaml.safe_dump(dict(_arguments(material)), sort_keys=False))
    plugin = files("cotbal.export") / "plugin" / PLUGIN
    write_text(out / PLUGIN, plugin.read_text(encoding="utf-8"))
    return Guide(
        f"ms-swift (format of {VERSION})",
        material.table("loss_scale", weights),
        "swift sft train.yaml",
        (
            (
                "Every assistant message carries its task's weight as `loss_scale`;"
                " `is_binary_loss_scale: false` makes ms-swift heed it, since by default it drops"
                " all weights without a word."
            ),
            (
                f"{PLUGIN} gives the same weight to the tokens that end a turn, which otherwise"
                " keep 1, and keeps weights in their places for LLaVA-1.5, where they otherwise"
                " slip by the image's tokens. An answer that carries no loss has the weight 0,"
                " its end included."
            ),
            (
                "ms-swift divides by the number of supervised tokens of the whole optimizer step,"
                f" so the weights are scaled to a mean of 1 over the {material.counted} of the"
                " mixture."
            ),
            (
                "Exact: the gradient of a step is that of cotbal with these weights and"
                " `optimization.normalizer: tokens`. cotbal's default divides by the weighted"
                " number of tokens instead: the gradient of ms-swift is that one times the mean"
                " weight of the tokens of the step, which is 1 on average."
            ),
            (
                "`channel` names the task: with `--enable_channel_loss true`, its curve is the"
                " weighted loss."
            ),
        ),
        (*remarks(order.recipe, freezes=True), *_LOST),
    )


def _message_row(row: Row, weight: float) -> dict[str, Any]:
    weight = nextafter(1, 2) if weight == 1 else weight  # 1 is what tokens without a message have
    messages = []
    for turn in row.turns:
        message: dict[str, Any] = {"role": turn.role, "content": turn.text}
        if turn.role == "assistant":
            message["loss_scale"] = weight if turn.loss else 0.0
        messages.append(message)
    return {"messages": messages, "images": list(row.images), "channel": row.task}


def _arguments(material: Material) -> Iterator[tuple[str, Any]]:
    checkpoint, section = model_of(material.recipe)
    yield from {"model": checkpoint, "dataset": ["train.jsonl"], "split_dataset_ratio": 0}.items()
    yield from {
        "loss_scale": "default",
        "is_binary_loss_scale": False,
        "external_plugins": [PLUGIN],
    }.items()
    yield "tuner_type", tuned(section)
    if tuned(section) == "lora":
        lora = section.lora
        yield from {
            "lora_rank": lora.rank,
            "lora_alpha": lora.alpha,
            "lora_dropout": lora.dropout,
        }.items()
    names = {"vision": "freeze_vit", "projector": "freeze_aligner", "language": "freeze_llm"}
    yield from ((names[part], still) for part, still in frozen(section).items())
    yield from {"torch_dtype": section.dtype, "max_length": section.max_length}.items()
    yield "gradient_checkpointing", section.gradient_checkpointing
    yield from training_arguments(material.recipe).items()
    yield from {
        "warmup_ratio": material.recipe.file.optimization.warmup_ratio,
        "output_dir": "output",
    }.items()
