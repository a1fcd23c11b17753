"""Load a vision-language model and its processor; freeze its parts or train them with LoRA."""

from __future__ import annotations

import inspect
import logging
import re
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedConfig, PreTrainedModel

from cotbal.data.batches.processors import load_processor
from cotbal.errors import CotbalError, MissingDependency
from cotbal.recipe.model_section import ModelSection, Training

Part = Literal["vision", "projector", "language"]

logger = logging.getLogger(__name__)

# Families differ in whether the projector is inside the vision module or beside it.
PROJECTOR = re.compile(
    r"(^|\.)(multi_modal_projector|mm_projector|connector|merger|patch_merger|deepstack_merger_list|aligner|mlp1)\."
)
# Vision modules that `get_encoder` does not return.
VISION = re.compile(
    r"(^|\.)(vision_tower|vision_model|visual|vision_encoder|image_encoder|vision)\."
)


def load(
    checkpoint: str, dtype: str, remote_code: bool, settings: ModelSection | None = None
) -> tuple[PreTrainedModel, Any]:
    """The model and processor of a checkpoint directory (or hub name), safetensors only.

    Args:
        settings: of a training. With `quantization`, the linear layers of the parts that get LoRA
            adapters are loaded in four bits.

    Raises:
        CotbalError: the checkpoint cannot be loaded, or its architecture is not supported.
    """
    options: dict[str, Any] = {"dtype": getattr(torch, dtype), "use_safetensors": True}
    try:
        config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=remote_code)
        _validate_architecture(checkpoint, config)
        processor = load_processor(checkpoint, remote_code)
        if settings is not None and settings.quantization is not None:
            options["quantization_config"] = _four_bits(config, settings)
        model = AutoModelForImageTextToText.from_pretrained(
            checkpoint, trust_remote_code=remote_code, **options
        )
    except (OSError, ValueError, KeyError) as error:
        raise CotbalError(
            f"checkpoint {checkpoint}: expected a vision-language model in safetensors; {error}",
            "invalid-checkpoint",
        ) from None
    return model, processor


def _validate_architecture(checkpoint: str, config: PreTrainedConfig) -> None:
    """Reject models that do not write an answer behind its question, token by token."""
    if config.is_encoder_decoder or config.get_text_config().is_encoder_decoder:
        raise CotbalError(
            f"checkpoint {checkpoint}: {config.model_type} is an encoder-decoder, which is not"
            " supported; supported: models that write the answer behind the question",
            "unsupported-model",
        )
    kind = AutoModelForImageTextToText._model_mapping.get(type(config), None)
    if kind is not None and "labels" not in inspect.signature(kind.forward).parameters:
        raise CotbalError(
            f"checkpoint {checkpoint}: {kind.__name__} takes no labels, so it cannot be trained to"
            " predict the next token; supported: models that can",
            "unsupported-model",
        )


def _four_bits(config: PreTrainedConfig, settings: ModelSection) -> Any:
    """QLoRA (Dettmers et al. 2023): four-bit NormalFloat with quantized constants."""
    try:
        import bitsandbytes  # noqa: F401 - transformers would import it later
        from transformers import BitsAndBytesConfig
    except ImportError:
        raise MissingDependency("model.quantization", "qlora") from None
    with torch.device("meta"):
        empty = AutoModelForImageTextToText.from_config(
            config, trust_remote_code=settings.remote_code
        )
    adapted = set(_linear_layers(empty, settings))
    linear = (name for name, module in empty.named_modules() if isinstance(module, nn.Linear))
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=settings.quantization,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, settings.dtype),
        llm_int8_skip_modules=[name for name in linear if name not in adapted],
    )


def parts(model: nn.Module) -> dict[str, Part]:
    """Name of every parameter -> the part of the model that it belongs to.

    `language` is the decoder with the embeddings of words, `vision` the encoder of images, and
    `projector` is between them: modules with one of its usual names, and all that is in neither
    (LLaVA-OneVision's `image_newline`).
    """
    inner: Any = getattr(model, "get_base_model", lambda: model)()
    language = _inside(
        inner.get_decoder(), inner.get_input_embeddings(), inner.get_output_embeddings()
    )
    encoder = inner.get_encoder(modality="image")
    vision = set() if encoder in (inner, inner.base_model) else _inside(encoder)

    def part(name: str, parameter: nn.Parameter) -> Part:
        if PROJECTOR.search(name):
            return "projector"
        if id(parameter) in vision or VISION.search(name):
            return "vision"
        return "language" if id(parameter) in language else "projector"

    return {name: part(name, parameter) for name, parameter in model.named_parameters()}


def _inside(*modules: nn.Module | None) -> set[int]:
    return {
        id(parameter)
        for module in modules
        if module is not None
        for parameter in module.parameters()
    }


def _modes(settings: ModelSection) -> dict[Part, Training]:
    return {part: getattr(settings, part) for part in get_args(Part)}


def trained_parts(settings: ModelSection) -> set[Part]:
    """The parts that the recipe trains, in full or by adapters."""
    return {part for part, mode in _modes(settings).items() if mode != "frozen"}


def prepare(model: PreTrainedModel, settings: ModelSection) -> nn.Module:
    """Freeze each part, leave it to full training, or add LoRA adapters to its linear layers.

    Raises:
        CotbalError: a part that the recipe trains has no parameters, or nothing at all is trained.
    """
    modes = _modes(settings)
    present = set(parts(model).values())
    absent = [part for part, mode in modes.items() if mode != "frozen" and part not in present]
    if absent:
        raise CotbalError(
            f"model.{absent[0]}: the checkpoint has no such part; set it to frozen", "missing-part"
        )
    if set(modes.values()) == {"frozen"}:
        raise CotbalError("model: every part is frozen; nothing would be trained", "all-frozen")
    prepared: nn.Module = _with_adapters(model, settings) if "lora" in modes.values() else model
    part_of = parts(prepared)
    for name, parameter in prepared.named_parameters():
        parameter.requires_grad_("lora_" in name or modes[part_of[name]] == "full")
        if parameter.requires_grad:
            # bfloat16 has 8 bits, and small updates would be rounded away.
            parameter.data = parameter.data.float()
    if settings.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    _hold_frozen(prepared)
    return prepared


def _hold_frozen(model: nn.Module) -> None:
    """Keep wholly frozen modules in evaluation mode, also when the trainer calls `train()`.

    A frozen part is a fixed function. In training mode a batch normalization would use, and
    overwrite, statistics of the batch: measured on a frozen EfficientNet, that destroys its
    features. Two kinds of layers are exceptions. Layers in four bits (weights in whole numbers)
    compute the same in both modes, but on CPUs bitsandbytes takes evaluation for inference and
    rounds to bfloat16. Layers with gradient checkpointing need training mode, because gradients
    pass through a frozen language model on their way to the projector.
    """
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad or not p.is_floating_point() for p in parameters):
            module.eval()
            module.train = partial(_held, module)  # type: ignore[method-assign]


def _held(frozen: nn.Module, mode: bool = True) -> nn.Module:
    for module in frozen.modules():
        if getattr(module, "gradient_checkpointing", False):
            module.training = mode
    return frozen


def _with_adapters(model: PreTrainedModel, settings: ModelSection) -> nn.Module:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise MissingDependency("training with LoRA", "train") from None
    config = LoraConfig(
        r=settings.lora.rank,
        lora_alpha=settings.lora.alpha,
        lora_dropout=settings.lora.dropout,
        target_modules=_linear_layers(model, settings),
    )
    with warnings.catch_warnings():
        # For families with experts peft itself sets ranks of their fused matrices, where it then
        # finds no adapter.
        warnings.filterwarnings(
            "ignore", r"The following (rank|alpha)_pattern keys did not match", RuntimeWarning
        )
        adapted: nn.Module = get_peft_model(model, config)
    return adapted


def _linear_layers(model: PreTrainedModel, settings: ModelSection) -> list[str]:
    """Names of the linear layers that get adapters, in the parts trained with LoRA."""
    adapted = {part for part, mode in _modes(settings).items() if mode == "lora"}
    names = [name for name, part in parts(model).items() if part in adapted]
    linear, others = _linear_modules(model, set(names))
    wanted = settings.lora.targets
    targets, unknown = linear, set[str]()
    if wanted is not None:
        targets = [name for name in linear if _last(name) in wanted]
        unknown = set(wanted) - set(map(_last, linear))
    _leave_frozen(_experts(model, names), "parameters of experts", unknown)
    _leave_frozen(others, "layers that compute more than linear ones", unknown)
    if not targets:
        raise CotbalError(
            f"model.lora.targets: no linear layer of {', '.join(sorted(adapted))} has one of these"
            " names",
            "unknown-lora-target",
        )
    return targets


def _linear_modules(model: PreTrainedModel, names: set[str]) -> tuple[list[str], list[str]]:
    """Layers of these parameters: linear ones, and those that are linear by class alone."""
    head = model.get_output_embeddings()
    linear: list[str] = []
    others: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module is not head and f"{name}.weight" in names:
            (others if _computes_more(module) else linear).append(name)
    return linear, others


def _experts(model: PreTrainedModel, names: Sequence[str]) -> list[str]:
    """Parameters that hold the matrices of all experts of a layer."""
    return [name for name in names if "experts" in name and model.get_parameter(name).dim() == 3]


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _computes_more(layer: nn.Linear) -> bool:
    """Whether a layer does more than multiply and add, as the router of Llama 4, which returns
    scores and logits.

    An adapter adds to the result of a layer, and merging adds to its weight: the two agree for
    linear layers alone. Layers in four bits (weights in whole numbers) are linear.
    """
    return type(layer).forward is not nn.Linear.forward and layer.weight.is_floating_point()


def _leave_frozen(names: Sequence[str], kind: str, asked: set[str]) -> None:
    """Log that these get no adapters; an error if the recipe asks for them."""
    if unsupported := asked & {_last(name) for name in names}:
        raise CotbalError(
            f"model.lora.targets: {min(unsupported)} is not a linear layer ({kind}), so it gets no"
            " adapters; leave it out, or train the part in full",
            "unsupported-lora-target",
        )
    if names:
        logger.warning("LoRA leaves %d %s frozen, among them %s", len(names), kind, names[0])


def save_merged(model: nn.Module, processor: Any, directory: Path, dtype: str) -> None:
    """Write an ordinary checkpoint directory in one dtype, adapters merged into the weights."""
    merged = _merged(model, getattr(torch, dtype))
    merged.to(getattr(torch, dtype)).save_pretrained(directory)
    processor.save_pretrained(directory)


def _merged(model: Any, dtype: torch.dtype) -> Any:
    if not hasattr(model, "merge_and_unload"):
        return model
    if not getattr(model.get_base_model(), "is_quantized", False):
        return model.merge_and_unload()
    # Adapters were trained on four-bit weights: they are added to their values without rounding.
    changes = {
        name: module.get_delta_weight(model.active_adapter)
        for name, module in model.get_base_model().named_modules()
        if hasattr(module, "get_delta_weight")
    }
    model.state_dict()  # on CPUs bitsandbytes restores the order that it changed for inference
    plain = model.unload().dequantize(dtype=dtype)
    with torch.no_grad():
        for name, change in changes.items():
            weight = plain.get_parameter(f"{name}.weight")
            weight.copy_(weight.float() + change.float())
    return plain
