"""Load a vision-language model and its processor; freeze its parts or train them with LoRA, as the recipe says."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel

from cotbal.errors import CotbalError, MissingDependency
from cotbal.sections import ModelSection, Training

# Checked in this order: some families keep the projector inside the vision module.
PART_PATTERNS = {
    "projector": re.compile(
        r"(^|\.)(multi_modal_projector|mm_projector|connector|merger|deepstack_merger_list|aligner|mlp1)\."
    ),
    "vision": re.compile(r"(^|\.)(vision_tower|vision_model|visual|vision_encoder|image_encoder|vision)\."),
}


def load(checkpoint: str, dtype: str, remote_code: bool) -> tuple[PreTrainedModel, Any]:
    """The model and processor of a checkpoint directory (or hub name), safetensors only.

    Raises:
        CotbalError: the checkpoint cannot be loaded, with the reason.
    """
    try:
        processor = AutoProcessor.from_pretrained(checkpoint, trust_remote_code=remote_code)
        model = AutoModelForImageTextToText.from_pretrained(
            checkpoint, dtype=getattr(torch, dtype), use_safetensors=True, trust_remote_code=remote_code
        )
    except (OSError, ValueError, KeyError) as error:
        raise CotbalError(
            f"checkpoint {checkpoint}: expected a vision-language model in safetensors; {error}"
        ) from None
    return model, processor


def part_of(parameter: str) -> str:
    """`vision`, `projector` or `language`, from the full name of a parameter."""
    return next((part for part, pattern in PART_PATTERNS.items() if pattern.search(parameter)), "language")


def prepare(model: PreTrainedModel, settings: ModelSection) -> nn.Module:
    """Freeze each part, leave it to full training, or add LoRA adapters to its linear layers.

    Raises:
        CotbalError: a part that the recipe trains has no parameters, or nothing at all is trained.
    """
    ways: dict[str, Training] = {
        "vision": settings.vision, "projector": settings.projector, "language": settings.language
    }  # fmt: skip
    present = {part_of(name) for name, _ in model.named_parameters()}
    absent = [part for part, way in ways.items() if way != "frozen" and part not in present]
    if absent:
        raise CotbalError(f"model.{absent[0]}: the checkpoint has no such part; set it to frozen")
    if all(way == "frozen" for way in ways.values()):
        raise CotbalError("model: every part is frozen; nothing would be trained")
    prepared: nn.Module = model
    if "lora" in ways.values():
        prepared = _with_adapters(model, settings, {part for part, way in ways.items() if way == "lora"})
    for name, parameter in prepared.named_parameters():
        way = ways[part_of(name)]
        adapter = "lora_" in name
        parameter.requires_grad_(adapter or way == "full")
        if parameter.requires_grad:
            # The optimizer needs float32: bfloat16 has 8 bits, and small updates would be rounded away.
            parameter.data = parameter.data.float()
    _hold_frozen(prepared)
    if settings.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    return prepared


def _hold_frozen(model: nn.Module) -> None:
    """Keep wholly frozen modules in evaluation mode, whatever the trainer switches.

    A frozen part is a fixed function. In training mode a batch normalization would use, and overwrite, statistics of
    the batch at hand: measured on a frozen EfficientNet, that destroys its features.
    """
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()
            module.train = partial(_stay, module)  # type: ignore[method-assign]


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:  # noqa: ARG001 - the signature of nn.Module.train
    return module


def _with_adapters(model: PreTrainedModel, settings: ModelSection, parts: set[str]) -> nn.Module:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise MissingDependency("training with LoRA", "train") from None
    head = model.get_output_embeddings()
    targets = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module is not head
        and part_of(f"{name}.weight") in parts
        and (settings.lora.targets is None or name.rpartition(".")[2] in settings.lora.targets)
    ]
    if not targets:
        raise CotbalError(f"model.lora.targets: no linear layer of {', '.join(sorted(parts))} has one of these names")
    config = LoraConfig(
        r=settings.lora.rank, lora_alpha=settings.lora.alpha, lora_dropout=settings.lora.dropout, target_modules=targets
    )
    adapted: nn.Module = get_peft_model(model, config)
    return adapted


def save_merged(model: nn.Module, processor: Any, directory: Path, dtype: str) -> None:
    """Write an ordinary checkpoint directory in one dtype, adapters merged into the weights."""
    adapted: Any = model
    merged = adapted.merge_and_unload() if hasattr(adapted, "merge_and_unload") else adapted
    merged.to(getattr(torch, dtype)).save_pretrained(directory)
    processor.save_pretrained(directory)
