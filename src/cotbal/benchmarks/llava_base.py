"""The base checkpoint of the paper: Vicuna-1.5, CLIP ViT-L/14-336 and the projector of LLaVA-1.5's
first stage.

Nothing of it has been tuned on instructions about images yet. The published script gives the
three parts to its trainer (`--model_name_or_path`, `--vision_tower`, `--pretrain_mm_mlp_adapter`);
transformers wants them together.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cotbal.data.files import read_json, write_json
from cotbal.errors import CotbalError, MissingDependency

IMAGE_TOKEN, PAD_TOKEN = "<image>", "<pad>"
_PROJECTOR = {
    "0": "linear_1",
    "2": "linear_2",
}  # a layer of LLaVA's two -> its name in transformers; 1 is the GELU
_LANGUAGE_HEAD = "lm_head.weight"
_ROWS = 64  # the vocabulary is filled up to a multiple: matrices of other shapes are slow on GPUs
_SHARD = "2GB"  # a shard is copied while it is written, so this bounds memory
_BUFFERS = (
    "rotary_emb.inv_freq",
    "position_ids",
)  # older checkpoints hold them; they follow from the configuration
_CONVERTERS = ("sentencepiece", "google.protobuf")
_FILES = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
)

Tensors = dict[str, Any]
Shapes = Mapping[str, Any]  # name -> torch.Size


def assemble(language: Path, vision: Path, projector: Path, target: Path, template: str) -> Path:
    """Write a `LlavaForConditionalGeneration` with processor, tokenizer and chat template; return
    its directory.

    Weights keep their values and their dtypes. The vocabulary grows by `<image>` and `<pad>` and is
    filled up to a multiple of 64; a new row is the mean of the old ones, so that new tokens
    together get at most their share of the probability (Jensen), and in practice next to none.
    Files are mapped, not read: memory holds one shard of 2 GB.

    Args:
        language: directory of Vicuna-1.5, as on the hub.
        vision: directory of CLIP ViT-L/14-336, as on the hub.
        projector: `mm_projector.bin` of the first stage of LLaVA-1.5.
        target: where to write; it must not exist, and exists only when it is whole.
        template: chat template.

    Raises:
        CotbalError: something is at `target`; a part is absent, of another architecture, or its
            weights do not fit.
        MissingDependency: no torch or transformers, or nothing to convert a tokenizer.model with.
    """
    if target.exists():
        raise CotbalError(
            f"{target}: already exists; remove it, or give another directory",
            "existing-output",
        )
    if not (_installed("torch") and _installed("transformers")):
        raise MissingDependency("`cotbal prepare llava-base`", "train")
    from transformers import GenerationConfig

    processor = _processor(language, vision, template)
    config = _config(language, vision, processor)
    model = _filled(config, language, vision, projector)
    ends = {
        key: getattr(processor.tokenizer, key)
        for key in ("bos_token_id", "eos_token_id", "pad_token_id")
    }
    model.generation_config = GenerationConfig(**ends)
    partial = target.with_name(f".{target.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial, max_shard_size=_SHARD)
    processor.save_pretrained(partial)
    _state_dtype(partial / "config.json", config.text_config.dtype)
    partial.rename(target)
    return target


def _tokenizer(language: Path) -> Any:
    """The tokenizer with its two new tokens."""
    from tokenizers import AddedToken
    from transformers import AutoTokenizer

    if not (language / "tokenizer.json").exists() and not all(map(_installed, _CONVERTERS)):
        # without them transformers takes the file for one of another kind, and says so
        raise MissingDependency("a tokenizer.model without tokenizer.json", "llava")
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(language))
    except (OSError, ValueError) as error:
        raise CotbalError(
            f"{language}: expected the tokenizer of Vicuna; {_line(error)}",
            "unsupported-checkpoint",
        ) from None
    if tokenizer.bos_token_id is None or tokenizer("a").input_ids[0] != tokenizer.bos_token_id:
        raise CotbalError(
            f"{language}: expected a tokenizer that begins every text with"
            f" {tokenizer.bos_token or '<s>'}, as Vicuna was trained; found none;"
            ' set "add_bos_token": true in its tokenizer_config.json',
            "unsupported-checkpoint",
        )
    tokenizer.add_tokens(
        [AddedToken(IMAGE_TOKEN, special=True, normalized=False)], special_tokens=True
    )
    tokenizer.add_special_tokens({"pad_token": PAD_TOKEN})
    return tokenizer


def _processor(language: Path, vision: Path, template: str) -> Any:
    """The tokenizer, and images padded to squares."""
    from transformers import LlavaImageProcessorPil, LlavaProcessor

    _demand(language, "config.json", "tokenizer_config.json")
    _demand(vision, "config.json", "preprocessor_config.json")
    tokenizer = _tokenizer(language)
    settings = _vision_settings(vision)
    images = LlavaImageProcessorPil.from_pretrained(str(vision), do_pad=True)
    side = images.crop_size["height"]
    if side != settings.image_size:
        raise CotbalError(
            f"{vision}/preprocessor_config.json: expected images of {settings.image_size} pixels,"
            f" as in config.json; found {side}",
            "unsupported-checkpoint",
        )
    return LlavaProcessor(
        images,
        tokenizer,
        patch_size=settings.patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token=IMAGE_TOKEN,
        chat_template=template,
    )


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package around it
        return False


def _vision_settings(vision: Path) -> Any:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(str(vision))
    config = getattr(config, "vision_config", config)
    if config.model_type != "clip_vision_model":
        raise CotbalError(
            f"{vision}: expected a CLIP vision model; found model_type {config.model_type!r}",
            "unsupported-checkpoint",
        )
    return config


def _config(language: Path, vision: Path, processor: Any) -> Any:
    from transformers import AutoConfig, LlavaConfig

    text, seen = AutoConfig.from_pretrained(str(language)), _vision_settings(vision)
    if text.model_type != "llama":
        raise CotbalError(
            f"{language}: expected Vicuna, whose model_type is llama; found {text.model_type!r}",
            "unsupported-checkpoint",
        )
    tokens = len(processor.tokenizer)
    config = LlavaConfig(
        vision_config=seen.to_dict(),
        text_config=text.to_dict(),
        image_token_index=processor.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        image_seq_length=(seen.image_size // seen.patch_size) ** 2,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        projector_hidden_act="gelu",
        tie_word_embeddings=False,
    )
    config.text_config.vocab_size = max(text.vocab_size, -(-tokens // _ROWS) * _ROWS)
    config.text_config.pad_token_id = processor.tokenizer.pad_token_id
    return config


def _filled(config: Any, language: Path, vision: Path, projector: Path) -> Any:
    """The model with the weights of the parts in place, mapped from their files."""
    import torch
    from transformers import LlavaForConditionalGeneration

    with torch.device("meta"):  # shapes only
        model = LlavaForConditionalGeneration(config).eval()
    inner = model.model
    width = inner.language_model.embed_tokens.weight.shape[1:]
    tensors = _read(language)
    for name in ("model.embed_tokens.weight", _LANGUAGE_HEAD):
        if name in tensors and tensors[name].shape[1:] == width:
            tensors[name] = _widened(tensors[name], config.text_config.vocab_size)
    head = {}
    if _LANGUAGE_HEAD in tensors:
        head[_LANGUAGE_HEAD] = tensors.pop(_LANGUAGE_HEAD)
    _fill(inner.language_model, _below(tensors, "model."), f"{language}: model.")
    _fill(model.lm_head, _below(head, "lm_head."), f"{language}: lm_head.")
    tower = _tower(_read(vision), inner.vision_tower.state_dict())
    _fill(inner.vision_tower, tower, f"{vision}: ")
    _fill(inner.multi_modal_projector, _projector_weights(projector), f"{projector}: ")
    return model


def _fill(module: Any, weights: Tensors, source: str) -> None:
    """Give a module these weights, without a copy.

    Args:
        source: where they are from, and how their names begin there.

    Raises:
        CotbalError: they are not its weights exactly.
    """
    wanted: Shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    missing = [name for name in wanted if name not in weights]
    strange = [name for name in weights if name not in wanted]
    if missing or strange:
        name = (missing + strange)[0]
        problem = "unknown weight"
        if missing:
            problem = f"missing, and {len(missing) - 1} others too"
        raise CotbalError(
            f"{source}{name}: {problem}; expected the weights that config.json describes, and no"
            " others",
            "incompatible-weights",
        )
    for name, shape in wanted.items():
        if weights[name].shape != shape:
            raise CotbalError(
                f"{source}{name}: expected the shape {list(shape)}; found"
                f" {list(weights[name].shape)}; are all three parts of the same size (7B or 13B)?",
                "incompatible-weights",
            )
    module.load_state_dict(weights, assign=True)


def _widened(weight: Any, rows: int) -> Any:
    """The matrix with as many rows as wanted; each new one is the mean of the old ones."""
    import torch

    new = weight.mean(0, keepdim=True, dtype=torch.float32).to(weight.dtype)
    missing = max(0, rows - len(weight))
    return torch.cat([weight, new.expand(missing, -1)])


def _below(weights: Tensors, prefix: str) -> Tensors:
    """The weights whose names begin with the prefix, without it, and without buffers."""
    return {
        name.removeprefix(prefix): weight
        for name, weight in weights.items()
        if name.startswith(prefix) and not name.endswith(_BUFFERS)
    }


def _tower(weights: Tensors, wanted: Shapes) -> Tensors:
    """The vision tower of a whole CLIP or of a tower alone.

    Versions of transformers differ in whether the names of a tower begin with `vision_model.`, on
    disk and in memory.
    """
    prefix = "vision_model." if all(name.startswith("vision_model.") for name in wanted) else ""
    tower = _below(weights, "vision_model.") or _below(weights, "")
    return {prefix + name: weight for name, weight in tower.items()}


def _projector_weights(path: Path) -> Tensors:
    """`model.mm_projector.0.weight` and its like, under the names of transformers."""
    if not path.is_file():
        raise CotbalError(
            f"{path}: expected mm_projector.bin of LLaVA-1.5's first stage; found no such file",
            "missing-file",
        )
    projector: Tensors = {}
    for name, weight in _load(path).items():
        before, middle, rest = name.partition("mm_projector.")
        layer, _, kind = rest.partition(".")
        if before not in ("", "model.") or not middle or layer not in _PROJECTOR:
            raise CotbalError(
                f"{path}: expected the weights of two layers, model.mm_projector.0 and .2; found"
                f" {name}, so this is not the projector of LLaVA-1.5",
                "incompatible-weights",
            )
        projector[f"{_PROJECTOR[layer]}.{kind}"] = weight
    return projector


def _read(directory: Path) -> Tensors:
    """All weights of a checkpoint, mapped; safetensors where there are both."""
    paths = [directory / name for name in _FILES if (directory / name).is_file()]
    if not paths:
        raise CotbalError(
            f"{directory}: expected {_FILES[1]} or {_FILES[3]}, or their shards; found neither",
            "missing-file",
        )
    tensors: Tensors = {}
    for file in _shards(paths[0]):
        tensors.update(_load(file))
    return tensors


def _shards(path: Path) -> Iterator[Path]:
    if path.suffix != ".json":
        yield path
        return
    try:
        names = sorted({Path(name).name for name in read_json(path)["weight_map"].values()})
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CotbalError(
            f"{path}: expected an index of shards, with a `weight_map`; found another file",
            "broken-file",
        ) from None
    for name in names:
        if not (path.parent / name).is_file():
            raise CotbalError(
                f"{path}: expected {len(names)} shards beside it; {name} is missing",
                "missing-file",
            )
        yield path.parent / name


def _load(path: Path) -> Tensors:
    """The tensors of one file, mapped where its form allows; a pickle may hold tensors and nothing
    that runs.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        tensors = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except SafetensorError as error:
        raise CotbalError(
            f"{path}: expected safetensors; is it only half downloaded? ({_line(error)})",
            "broken-file",
        ) from None
    except Exception as error:  # a broken or hostile pickle raises errors of many kinds
        raise CotbalError(
            f"{path}: expected a file of weights and nothing else; rejected: {_line(error)}",
            "broken-file",
        ) from None
    values = tensors.values() if isinstance(tensors, dict) else [None]
    if not all(isinstance(value, torch.Tensor) for value in values):
        raise CotbalError(
            f"{path}: expected tensors by name; found {type(tensors).__name__}", "broken-file"
        )
    return tensors


def _state_dtype(path: Path, dtype: Any) -> None:
    """transformers writes the dtype of the first weight, which is the vision tower's; readers want
    the language's.
    """
    if dtype is not None:
        write_json(path, {**read_json(path), "dtype": str(dtype).removeprefix("torch.")})


def _demand(directory: Path, *names: str) -> None:
    for name in names:
        if not (directory / name).is_file():
            raise CotbalError(
                f"{directory}: expected a checkpoint of Hugging Face; found no {name} in it",
                "missing-file",
            )
        try:
            json.loads((directory / name).read_text(encoding="utf-8"))
        except ValueError as error:
            raise CotbalError(
                f"{directory / name}: expected JSON; {error}", "broken-file"
            ) from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
