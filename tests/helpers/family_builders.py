"""Builders of tiny checkpoints: what families of vision-language models have in common.

The configuration, model and processor classes are the family's own; sizes are cut until an image
costs a few tokens. Chat templates are written to have the difficulties of the published ones: text
around images and turns, the start token, the end of a turn, generation marks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from transformers.models.pixtral.image_processing_pil_pixtral import PixtralImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

WIDTH = 16  # of every layer
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for part in m['content'] %}{% if"
    " part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}{% endfor"
    " %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
Token = Callable[[str], int]
TILES = [[16, 16], [16, 32], [32, 16], [32, 32]]
CLIP = {"model_type": "clip_vision_model"}
SIGLIP = {"model_type": "siglip_vision_model", "vision_use_head": False}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
CHAT = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
MROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
HYBRID = {  # a layer of linear attention, then one of full attention
    "head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
    "rope_parameters": {
        "rope_theta": 1e4,
        "mrope_section": [1, 1, 2],
        "partial_rotary_factor": 1.0,
    },
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 1,
    "linear_num_value_heads": 2,
}


@dataclass(frozen=True)
class Family:
    """What makes a family's checkpoint.

    Attributes:
        processor, model: names of its processor and configuration class in transformers.
        tokens: name in the tokenizer's settings -> special token.
        config: (ids of special tokens, size of the vocabulary) -> arguments of the configuration.
        images: its image processor, or the settings of one that needs torchvision.
        template: chat template; None for a family of questions and answers without one.
        end: token that ends a turn.
        others: special tokens without a name in the tokenizer's settings.
        settings: further arguments of the processor.
        videos: class of the processor's half for videos; empty where it has none.
        bytes: whether the tokenizer works on bytes.
        packs: whether packed rows are kept apart; otherwise packing is rejected.
        mixes: whether rows with and without images may share a batch.
        audio: class of the processor's half for sound; empty where it has none.
    """

    processor: str
    model: str
    tokens: Mapping[str, str]
    config: Callable[[Callable[[str], int], int], dict[str, Any]]
    images: Callable[[], Any] | Mapping[str, Any]
    template: str | None
    end: str
    others: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    videos: str = ""
    bytes: bool = True
    packs: bool = False
    mixes: bool = True
    audio: str = ""


def text(vocabulary: int, **more: Any) -> dict[str, Any]:
    sizes = {
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }
    return {
        "vocab_size": vocabulary,
        "num_hidden_layers": 2,
        "max_position_embeddings": 512,
        **sizes,
        **more,
    }


def vision(**more: Any) -> dict[str, Any]:
    sizes = {
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
    }
    return {**sizes, **more}


def tokens(**names: str) -> dict[str, str]:
    """Settings of a tokenizer: `tokens(eos="</s>")` is `{"eos_token": "</s>"}`."""
    return {f"{name}_token": token for name, token in names.items()}


def ids(token: Token, **names: str) -> dict[str, int]:
    return {name: token(value) for name, value in names.items()}


def chatml(image: str) -> str:
    """Qwen's chat template, with this text for an image."""
    return CHATML.replace("IMAGE", image)


def turns(
    user: str,
    assistant: str,
    end: str,
    image: str,
    ask: str,
    start: str = "",
    prompt: str | None = None,
) -> str:
    """A chat template.

    Args:
        user, assistant: text before a turn.
        end: text after an answer.
        image: text for an image.
        ask: text after a question.
        start: text before the first turn.
        prompt: text before an answer that is to be generated, by default `assistant`.
    """
    return (
        start
        + "{% for m in messages %}{% if m['role'] == 'user' %}"
        + user
        + "{% else %}"
        + assistant
        + "{% endif %}{% for part in m['content'] %}{% if part['type'] == 'image' %}"
        + image
        + "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% if m['role'] == 'user' %}"
        + ask
        + "{% else %}"
        + end
        + "{% endif %}{% endfor %}{% if add_generation_prompt %}"
        + (assistant if prompt is None else prompt)
        + "{% endif %}"
    )


def image(kind: str, **settings: Any) -> dict[str, Any]:
    return {"image_processor_type": kind, **settings}


def square(kind: str, side: int = 16, **settings: Any) -> dict[str, Any]:
    return image(kind, size={"height": side, "width": side}, **settings)


def grid(kind: str, **settings: Any) -> dict[str, Any]:
    return image(
        kind,
        patch_size=4,
        merge_size=2,
        size={"shortest_edge": 64, "longest_edge": 512},
        **settings,
    )


def cropped(kind: str, **settings: Any) -> dict[str, Any]:
    crop = {"height": 16, "width": 16}
    return image(kind, size={"shortest_edge": 16}, crop_size=crop, **settings)


def chat(**more: Any) -> dict[str, Any]:
    """Arguments of most families with Qwen's chat format."""
    return {"tokens": CHAT, "template": chatml("<image>"), "end": "<|im_end|>", **more}


def plain(
    model: str, images: dict[str, Any], config: Any, settings: dict[str, Any] | None = None
) -> Family:
    """No chat template, and a fixed number of tokens per image, or none."""
    return Family(
        processor=f"{model}Processor",
        model=f"{model}Config",
        tokens=tokens(bos="<s>", eos="</s>", pad="<pad>"),
        config=lambda _, size: config(size),
        images=images,
        template=None,
        end="</s>",
        settings=settings or {},
    )


def qwen_vision(**more: Any) -> dict[str, Any]:
    return {"depth": 2, "hidden_size": WIDTH, "num_heads": 2, "patch_size": 4, **more}


def qwen(
    model: str, videos: str, vision_config: dict[str, Any], processor: str = "", **text_more: Any
) -> Family:
    """The generations differ in vision tower, rotation of positions, and kinds of layers."""

    def config(token: Token, size: int) -> dict[str, Any]:
        ends = {"eos_token_id": token("<|im_end|>"), "bos_token_id": None}
        return {
            "text_config": text(size, **{"rope_parameters": MROPE, **ends, **text_more}),
            "vision_config": vision_config,
            **ids(
                token,
                image_token_id="<|image_pad|>",
                video_token_id="<|video_pad|>",
                vision_start_token_id="<|vision_start|>",
                vision_end_token_id="<|vision_end|>",
            ),
        }

    return Family(
        processor=f"{processor or model}Processor",
        model=f"{model}Config",
        tokens=CHAT,
        others=(
            "<|im_start|>",
            "<|vision_start|>",
            "<|vision_end|>",
            "<|image_pad|>",
            "<|video_pad|>",
        ),
        config=config,
        images=lambda: Qwen2VLImageProcessorPil(
            patch_size=4, merge_size=2, size={"shortest_edge": 64, "longest_edge": 512}
        ),
        template=(
            "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nyou are a helpful"
            " assistant<|im_end|>\n{% endif %}"
        )
        + chatml("<|vision_start|><|image_pad|><|vision_end|>"),
        end="<|im_end|>",
        videos=videos,
    )


def omni(model: str, processor: str, seen: dict[str, Any], **text_more: Any) -> Family:
    names = tokens(
        image="<|IMAGE|>",
        video="<|VIDEO|>",
        audio="<|AUDIO|>",
        vision_bos="<|vision_bos|>",
        vision_eos="<|vision_eos|>",
        audio_bos="<|audio_bos|>",
        audio_eos="<|audio_eos|>",
    )
    sound = {
        "d_model": WIDTH,
        "encoder_layers": 1,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "num_mel_bins": 16,
        "output_dim": WIDTH,
        "max_source_positions": 64,
        "n_window": 4,
        "downsample_hidden_size": 8,
    }
    kind = "index" if processor == "Qwen2_5Omni" else "id"
    return Family(
        processor=f"{processor}Processor",
        model=f"{model}Config",
        tokens={**CHAT, **names},
        others=("<|im_start|>",),
        config=lambda token, size: {
            "text_config": text(size, **{"rope_parameters": MROPE, **text_more}),
            "vision_config": seen,
            "audio_config": sound,
            **{
                f"{part}_token_{kind}": token(f"<|{part.upper()}|>")
                for part in ("image", "video", "audio")
            },
            **ids(
                token, vision_start_token_id="<|vision_bos|>", vision_end_token_id="<|vision_eos|>"
            ),
            **ids(token, audio_start_token_id="<|audio_bos|>", audio_end_token_id="<|audio_eos|>"),
        },
        images=grid("Qwen2VLImageProcessor"),
        template=chatml("<|vision_bos|><|IMAGE|><|vision_eos|>"),
        end="<|im_end|>",
        videos="Qwen2VLVideoProcessor",
        audio="WhisperFeatureExtractor",
    )


def glm(model: str, videos: str, processor: str, **text_more: Any) -> Family:
    """Nothing ends a turn but the beginning of the next, and the template starts with two tokens of
    its own.
    """

    def config(token: Token, size: int) -> dict[str, Any]:
        names = ids(
            token,
            image_token_id="<|image|>",
            video_token_id="<|video|>",
            image_start_token_id="<|begin_of_image|>",
            image_end_token_id="<|end_of_image|>",
            video_start_token_id="<|begin_of_video|>",
            video_end_token_id="<|end_of_video|>",
        )
        rotation = {
            "rope_type": "default",
            "rope_theta": 1e4,
            "mrope_section": [1, 1, 2],
            "partial_rotary_factor": 1.0,
        }
        words = text(
            size,
            rope_parameters=rotation,
            head_dim=8,
            pad_token_id=token("<|endoftext|>"),
            **text_more,
        )
        seen = qwen_vision(image_size=16, out_hidden_size=WIDTH, intermediate_size=2 * WIDTH)
        return {"text_config": words, "vision_config": seen, **names}

    return Family(
        processor=f"{processor}Processor",
        model=f"{model}Config",
        tokens=tokens(eos="<|endoftext|>", pad="<|endoftext|>"),
        others=(
            "[gMASK]",
            "<sop>",
            "<|user|>",
            "<|assistant|>",
            "<|begin_of_image|>",
            "<|end_of_image|>",
            "<|begin_of_video|>",
            "<|end_of_video|>",
            "<|image|>",
            "<|video|>",
        ),
        config=config,
        images=grid(f"{processor}ImageProcessor"),
        template=turns(
            "<|user|>\n",
            "<|assistant|>\n",
            "",
            "<|begin_of_image|><|image|><|end_of_image|>",
            "",
            "[gMASK]<sop>",
        ),
        end="<|endoftext|>",
        videos=videos,
    )


def gemma4(**more: Any) -> Family:
    def config(token: Token, size: int) -> dict[str, Any]:
        words = text(
            size,
            head_dim=8,
            global_head_dim=8,
            sliding_window=16,
            hidden_size_per_layer_input=4,
            vocab_size_per_layer_input=size,
            layer_types=["sliding_attention", "full_attention"],
            **more,
        )
        seen = vision(
            head_dim=8,
            num_key_value_heads=2,
            patch_size=4,
            pooling_kernel_size=2,
            position_embedding_size=64,
        )
        names = ids(
            token, image_token_id="<|image|>", boi_token_id="<|image>", eoi_token_id="<image|>"
        )
        names |= ids(
            token, audio_token_id="<|audio|>", boa_token_id="<|audio>", eoa_token_index="<audio|>"
        )
        return {
            "text_config": words,
            "vision_config": seen,
            **names,
            "video_token_id": token("<|video|>"),
        }

    return Family(
        processor="Gemma4Processor",
        model="Gemma4Config",
        tokens=tokens(
            bos="<bos>",
            eos="<eos>",
            pad="<pad>",
            image="<|image|>",
            boi="<|image>",
            eoi="<image|>",
            audio="<|audio|>",
            boa="<|audio>",
            eoa="<audio|>",
        ),
        others=("<|turn>", "<turn|>", "<|video|>"),
        config=config,
        images=image(
            "Gemma4ImageProcessor", patch_size=4, max_soft_tokens=70, pooling_kernel_size=2
        ),
        template=turns(
            "<|turn>user\n",
            "<|turn>model\n",
            "<turn|>\n",
            "\n\n<|image|>\n\n",
            "<turn|>\n",
            "{{ bos_token }}",
        ),
        end="<turn|>",
        videos="Gemma4VideoProcessor",
        audio="Gemma4AudioFeatureExtractor",
        bytes=False,
    )


def idefics(model: str, images: Any, videos: str) -> Family:
    tiles = tuple(f"<row_{i}_col_{j}>" for i in range(1, 7) for j in range(1, 7))
    return Family(
        processor=f"{model}Processor",
        model=f"{model}Config",
        tokens=tokens(bos="<|im_start|>", eos="<end_of_utterance>", pad="<|im_end|>"),
        others=("<image>", "<fake_token_around_image>", "<global-img>", *tiles),
        config=lambda token, size: {
            "text_config": text(size, model_type="llama", pad_token_id=token("<|im_end|>")),
            "vision_config": vision(image_size=16, patch_size=4),
            "image_token_id": token("<image>"),
            "scale_factor": 2,
        },
        images=lambda: images(size={"longest_edge": 32}, max_image_size={"longest_edge": 16}),
        template=(
            "<|im_start|>{% for m in messages %}{{ m['role'] | capitalize }}:{% if"
            " m['content'][0]['type'] != 'image' %} {% endif %}{% for part in m['content'] %}{% if"
            " part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor"
            " %}<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
        ),
        end="<end_of_utterance>",
        settings={"image_seq_len": 4},
        videos=videos,
    )


def pixtral(model: str, image: str, **more: Any) -> Family:
    """Mistral's: rows of patches with a token at the end of each; `image` is the name of the
    image token's id.
    """
    merged = 2 if model == "Mistral3" else 1
    return Family(
        processor="PixtralProcessor",
        model=f"{model}Config",
        tokens=tokens(bos="<s>", eos="</s>", pad="<pad>", unk="<unk>"),
        others=("[IMG]", "[IMG_BREAK]", "[IMG_END]", "[INST]", "[/INST]"),
        config=lambda token, size: {
            "text_config": text(size, model_type="mistral", head_dim=8, sliding_window=None),
            "vision_config": vision(
                model_type="pixtral", image_size=32, patch_size=8 // merged, head_dim=8
            ),
            image: token("[IMG]"),
            "vision_feature_layer": -1,
            **more,
        },
        images=lambda: PixtralImageProcessorPil(
            size={"longest_edge": 32}, patch_size={"height": 8, "width": 8}
        ),
        # Nothing stands between the question and the answer, and the template writes the start
        # token.
        template=(
            "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST]{% endif %}{%"
            " for part in m['content'] %}{% if part['type'] == 'image' %}[IMG]{% else %}{{"
            " part['text'] }}{% endif %}{% endfor %}{% if m['role'] == 'user' %}[/INST]{% else %}{{"
            " eos_token }}{% endif %}{% endfor %}"
        ),
        end="</s>",
        settings={"patch_size": 8 // merged, "spatial_merge_size": merged},
        packs=True,
    )
