"""The processor of a checkpoint: images and text into tensors, as the family's authors wrote
it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from typing import Any

from transformers import (
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedConfig,
    ProcessorMixin,
)
from transformers.utils import is_torchvision_available
from transformers.video_processing_utils import VideoProcessorMixin

from cotbal.data.batches.tokens import without_lengths
from cotbal.errors import CotbalError

VIDEOS = "video_processor"


def load_processor(checkpoint: str, remote_code: bool) -> Any:
    """The processor of a checkpoint directory (or hub name), with a token to pad with.

    Without torchvision, processors whose video processor needs it are loaded without it: records
    hold images only.

    Raises:
        CotbalError: a package that the processor needs is missing, or it does not take both
            images and text.
        OSError, ValueError, KeyError: the checkpoint has no processor, or a broken one.
    """
    try:
        processor = AutoProcessor.from_pretrained(checkpoint, trust_remote_code=remote_code)
    except ImportError as error:
        processor = _for_images_only(checkpoint, error)
    missing = [
        half for half in ("tokenizer", "image_processor") if getattr(processor, half, None) is None
    ]
    if missing:
        raise CotbalError(
            f"checkpoint {checkpoint}: expected a processor of images and text, found"
            f" {type(processor).__name__} without {' and '.join(missing)}; such a model cannot be"
            " trained on records",
            "model-not-supported",
        )
    _need_patch_size(checkpoint, processor)
    _let_pad(checkpoint, processor.tokenizer)
    _forget_lengths(processor.tokenizer)
    return processor


def _need_patch_size(checkpoint: str, processor: Any) -> None:
    """LLaVA's processors count the tokens of an image by the size of a patch.

    Raises:
        CotbalError: it is missing; with the value that the model's configuration has, if any.
    """
    if getattr(processor, "patch_size", 0) is not None:
        return
    vision = PreTrainedConfig.get_config_dict(checkpoint)[0].get("vision_config")
    value = vision.get("patch_size") if isinstance(vision, dict) else None
    hint = "of the vision model" if value is None else f"of config.json: {value}"
    raise CotbalError(
        f"checkpoint {checkpoint}: expected `patch_size` in processor_config.json, without which "
        f"{type(processor).__name__} cannot process images; found none. Add the patch size {hint}",
        "broken-checkpoint",
    )


def _forget_lengths(tokenizer: Any) -> None:
    """Drop the padding and truncation that a tokenizer.json may store: rows have their own length
    and `model.max_length`.
    """
    tokenizer.init_kwargs.pop("max_length", None)  # the source of defaults of processors
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is not None:
        without_lengths(fast)


def _let_pad(checkpoint: str, tokenizer: Any) -> None:
    """Pad with the end token where the checkpoint names no other: the attention mask hides padding,
    labels are kept.
    """
    if tokenizer.pad_token is not None:
        return
    if tokenizer.eos_token is None:
        raise CotbalError(
            f"checkpoint {checkpoint}: expected a tokenizer with a padding or an end token, found"
            " neither; set pad_token in its tokenizer_config.json",
            "broken-checkpoint",
        )
    tokenizer.pad_token = tokenizer.eos_token


class _VideoSettings(VideoProcessorMixin):
    """Replaces the video processor and keeps its settings for the next checkpoint."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.kept = settings

    def to_dict(self) -> dict[str, Any]:
        return dict(self.kept)


def _for_images_only(checkpoint: str, error: ImportError) -> Any:
    try:
        processor = None if is_torchvision_available() else _without_torchvision(checkpoint)
    except ImportError as deeper:  # it lacks more than torchvision
        error, processor = deeper, None
    if processor is None:
        raise CotbalError(
            f"checkpoint {checkpoint}: its processor needs a package: {str(error).strip()}",
            "missing-dependency",
        )
    return processor


def _without_torchvision(checkpoint: str) -> Any | None:
    """The processor with the image processor in Pillow, without videos; None where that changes
    nothing.
    """
    settings, _ = ProcessorMixin.get_processor_dict(checkpoint)
    kind = ProcessorMixin.get_possibly_dynamic_module(settings["processor_class"])
    if not issubclass(kind, ProcessorMixin):
        pillow_kind = _by_pillow(kind)
        return pillow_kind and pillow_kind.from_pretrained(checkpoint)
    if VIDEOS not in kind.get_attributes():
        return None
    videos, _ = VideoProcessorMixin.get_video_processor_dict(checkpoint)
    halves: dict[str, Callable[[], Any]] = {
        "image_processor": lambda: AutoImageProcessor.from_pretrained(checkpoint),
        "tokenizer": lambda: AutoTokenizer.from_pretrained(checkpoint),
        "feature_extractor": lambda: AutoFeatureExtractor.from_pretrained(checkpoint),
        VIDEOS: lambda: _VideoSettings(**videos),
    }
    return _unchecked(kind).from_args_and_dict(
        [halves[name]() for name in kind.get_attributes()], settings
    )


def _by_pillow(held_back: Any) -> Any | None:
    """The class behind a placeholder that transformers has for a class whose file imports
    torchvision.

    Pixtral's imports a function on sizes from the image processor in torchvision; the one in
    Pillow has the same function. None where the family has none in Pillow.
    """
    package, _, file = held_back.__module__.rpartition(".")
    half, pillow = (
        f"{package}.image_processing_{name}{file.removeprefix('processing_')}"
        for name in ("", "pil_")
    )
    if importlib.util.find_spec(pillow) is None:
        return None
    sys.modules[half] = importlib.import_module(pillow)
    try:
        module = importlib.import_module(held_back.__module__)
    finally:
        del sys.modules[half]
    return getattr(module, held_back.__name__)


def _unchecked(kind: Any) -> Any:
    """The class of a processor that accepts any video processor; the usual check of its type
    imports torchvision.
    """

    def check(self: Any, name: str, half: Any) -> Any:
        return (
            type(half) if name == VIDEOS else kind.check_argument_for_proper_class(self, name, half)
        )

    return type(
        kind.__name__,
        (kind,),
        {"check_argument_for_proper_class": check, "__module__": kind.__module__},
    )
