"""Load a vision-language model and its processor; freeze its parts or train them with LoRA, as the
recipe says.
"""

from __future__ import annotations

import inspect
import logging
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedConfig, PreTrainedModel

from cotbal.data.batches.processors import load_processor
from cotbal.errors import CotbalError, MissingDependency
from cotbal.recipe.schema import ModelSection, Training

Part = Literal["vision", "projector", "language"]

logger = logging.getLogger(__name__)

# Families differ in whether the projector stands inside the vision module or beside it.
PROJECTOR = re.compile(
    r"(^|\.)(multi_modal_projector|mm_projector|connector|merger|patch_merger|deepstack_merger_list|aligner|mlp1)\."
)
# Vision modules that `get_encoder` does not know.
VISION = re.compile(
    r"(^|\.)(vision_tower|vision_model|visual|vision_encoder|image_encoder|vision)\."
)


def load(
    checkpoint: str, dtype: str, remote_code: bool, settings: ModelSection | None = None
) -> tuple[PreTrainedModel, Any]:
    """The model and processor of a checkpoint directory (or hub name), safetensors only.

    Args:
        settings: how the model will be trained, where it will be: with `quantization`, the linear
            layers of the parts that get LoRA adapters are held in four bits.

    Raises:
        CotbalError: the checkpoint cannot be loaded, with the reason.
    """
    options: dict[str, Any] = {"dtype": getattr(torch, dtype), "use_safetensors": True}
    try:
        _refuse_others(
            checkpoint, AutoConfig.from_pretrained(checkpoint, trust_remote_code=remote_code)
        )
        processor = load_processor(checkpoint, remote_code)
        if settings is not None and settings.quantization is not None:
            options["quantization_config"] = _four_bits(checkpoint, settings)
        model = AutoModelForImageTextToText.from_pretrained(
            checkpoint, trust_remote_code=remote_code, **options
        )
    except (OSError, ValueError, KeyError) as error:
        raise CotbalError(
            f"checkpoint {checkpoint}: expected a vision-language model in safetensors; {error}"
        ) from None
    return model, processor


def _refuse_others(checkpoint: str, config: PreTrainedConfig) -> None:
    """Refuse what does not write its answer behind the question, one token after the other, before
    weights are read.

    Raises:
        CotbalError: an encoder-decoder, or a model that is not trained on labels (diffusion,
            actions of a robot).
    """
    if config.is_encoder_decoder or config.get_text_config().is_encoder_decoder:
        raise CotbalError(
            f"checkpoint {checkpoint}: {config.model_type} is an encoder-decoder, which reads the"
            " question in one half and writes the answer in another; only models that write the"
            " answer behind the question can be trained"
        )
    kind = AutoModelForImageTextToText._model_mapping.get(type(config), None)
    if kind is not None and "labels" not in inspect.signature(kind.forward).parameters:
        raise CotbalError(
            f"checkpoint {checkpoint}: {kind.__name__} takes no labels, so it does not learn to"
            " write the next token; only models that do can be trained"
        )


def _four_bits(checkpoint: str, settings: ModelSection) -> Any:
    """QLoRA (Dettmers et al. 2023): four-bit NormalFloat with quantized constants."""
    try:
        import bitsandbytes  # noqa: F401 - imported here, where an error can name the reason
        from transformers import BitsAndBytesConfig
    except ImportError:
        raise MissingDependency("model.quantization", "qlora") from None
    config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=settings.remote_code)
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
    """Part of every parameter, by its name in `model`, from the model's own tree of modules.

    `language` is the decoder with the embeddings of words, `vision` the encoder of images, and
    `projector` what stands between them: modules with a name known for it, and whatever is in
    neither (LLaVA-OneVision's `image_newline`).
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


def _ways(settings: ModelSection) -> dict[Part, Training]:
    return {
        "vision": settings.vision,
        "projector": settings.projector,
        "language": settings.language,
    }


def prepare(model: PreTrainedModel, settings: ModelSection) -> nn.Module:
    """Freeze each part, leave it to full training, or add LoRA adapters to its linear layers.

    Raises:
        CotbalError: a part that the recipe trains has no parameters, or nothing at all is trained.
    """
    ways = _ways(settings)
    present = set(parts(model).values())
    absent = [part for part, way in ways.items() if way != "frozen" and part not in present]
    if absent:
        raise CotbalError(f"model.{absent[0]}: the checkpoint has no such part; set it to frozen")
    if all(way == "frozen" for way in ways.values()):
        raise CotbalError("model: every part is frozen; nothing would be trained")
    prepared: nn.Module = _with_adapters(model, settings) if "lora" in ways.values() else model
    of = parts(prepared)
    for name, parameter in prepared.named_parameters():
        parameter.requires_grad_("lora_" in name or ways[of[name]] == "full")
        if parameter.requires_grad:
            # The optimizer needs float32: bfloat16 has 8 bits, and small updates would be rounded
            # away.
            parameter.data = parameter.data.float()
    if settings.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    _hold_frozen(prepared)
    return prepared


def _hold_frozen(model: nn.Module) -> None:
    """Keep wholly frozen modules in evaluation mode, whatever the trainer switches.

    A frozen part is a fixed function. In training mode a batch normalization would use, and
    overwrite, statistics of the batch at hand: measured on a frozen EfficientNet, that destroys its
    features. Layers in four bits (whose weights are whole numbers) are left alone: they compute the
    same in both modes, but on CPUs bitsandbytes takes evaluation for inference, and rounds to
    bfloat16. Layers that checkpoint their activations do so in training mode alone, and gradients
    pass through a frozen language model on their way to the projector: such layers alone are
    switched.
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
        # For families with experts peft notes ranks of their fused matrices by itself, and then
        # finds no adapter there.
        warnings.filterwarnings(
            "ignore", r"The following (rank|alpha)_pattern keys did not match", RuntimeWarning
        )
        adapted: nn.Module = get_peft_model(model, config)
    return adapted


def _linear_layers(model: PreTrainedModel, settings: ModelSection) -> list[str]:
    """Names of the linear layers that get adapters: of the parts trained with LoRA, the head left
    out.
    """
    adapted = {part for part, way in _ways(settings).items() if way == "lora"}
    head, wanted = model.get_output_embeddings(), settings.lora.targets
    part_of = {name: part for name, part in parts(model).items() if part in adapted}
    _mention_experts(model, list(part_of), wanted)
    plain: list[str] = []
    others: list[str] = []  # linear by class, but they compute more
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear) or module is head:
            continue
        if f"{name}.weight" in part_of:
            (others if _computes_more(module) else plain).append(name)
    _mention_others(others, plain, wanted)
    targets = plain if wanted is None else _named(plain, wanted)
    if not targets:
        raise CotbalError(
            f"model.lora.targets: no linear layer of {', '.join(sorted(adapted))} has one of these"
            " names"
        )
    return targets


def _named(layers: Sequence[str], endings: Sequence[str]) -> list[str]:
    return [name for name in layers if name.rpartition(".")[2] in endings]


def _computes_more(layer: nn.Linear) -> bool:
    """Whether a layer does more than multiply and add, as the router of Llama 4 does, which answers
    scores and logits.

    An adapter adds to what a layer returns, and merging adds to its weight: the two agree for
    linear layers alone. Layers in four bits (whose weights are whole numbers) compute the same in a
    way of their own.
    """
    return type(layer).forward is not nn.Linear.forward and layer.weight.is_floating_point()


def _mention_others(
    others: Sequence[str], linear: Collection[str], wanted: Sequence[str] | None
) -> None:
    """Say that layers which are linear by their class alone get no adapters.

    Raises:
        CotbalError: the recipe asks for them.
    """
    asked = set(wanted or ()) & {n.rpartition(".")[2] for n in others} - {
        n.rpartition(".")[2] for n in linear
    }
    if asked:
        raise CotbalError(
            f"model.lora.targets: {min(asked)} computes more than a linear layer does, so it gets"
            " no adapters; leave it out, or train the part in full"
        )
    if others:
        logger.warning(
            "LoRA leaves %d layers frozen that compute more than linear ones, among them %s",
            len(others),
            others[0],
        )


def _mention_experts(
    model: PreTrainedModel, names: list[str], wanted: Sequence[str] | None
) -> None:
    """Say that parameters which hold the matrices of all experts of a layer get no adapters.

    Raises:
        CotbalError: the recipe asks for them.
    """
    experts = [name for name in names if "experts" in name and model.get_parameter(name).dim() == 3]
    layers = {
        name.split(".")[-2] for name in names if "." in name
    }  # also a layer of this name: no doubt what is meant
    asked = sorted(set(wanted or ()) & {name.rpartition(".")[2] for name in experts} - layers)
    if asked:
        raise CotbalError(
            f"model.lora.targets: {asked[0]} holds the matrices of all experts of a layer and is no"
            " linear layer, so it gets no adapters; leave it out, or train the part in full"
        )
    if experts:
        logger.warning(
            "LoRA leaves %d parameters of experts frozen, among them %s", len(experts), experts[0]
        )


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
    # Adapters were trained on four-bit weights: they are added to what those stand for, and nothing
    # is rounded again.
    changes = {
        name: module.get_delta_weight(model.active_adapter)
        for name, module in model.get_base_model().named_modules()
        if hasattr(module, "get_delta_weight")
    }
    # on CPUs bitsandbytes stores weights in another order after inference; this puts them back
    model.state_dict()
    plain = model.unload().dequantize(dtype=dtype)
    _add(plain, changes)
    return plain


def _add(model: nn.Module, changes: Mapping[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, change in changes.items():
            weight = model.get_parameter(f"{name}.weight")
            weight.copy_(weight.float() + change.float())
