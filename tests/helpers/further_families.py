"""More families, each as a tiny checkpoint; see `tiny_families`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from helpers.tiny_families import (
    CHATML,
    FAMILIES,
    LINEAR,
    SIGLIP,
    WIDTH,
    Family,
    _qwen,
    _qwen_vision,
    text,
    vision,
)

Token = Callable[[str], int]
TILES = [[16, 16], [16, 32], [32, 16], [32, 32]]


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


LLAVA = FAMILIES["llava"]
CLIP = {"model_type": "clip_vision_model"}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}


def ids(token: Token, **names: str) -> dict[str, int]:
    return {name: token(value) for name, value in names.items()}


def turns(
    user: str,
    assistant: str,
    end: str,
    image: str,
    ask: str,
    start: str = "",
    prompt: str | None = None,
) -> str:
    """A template of the plain kind: what stands before a user's turn, around images, before and
    behind an answer.

    Args:
        ask: what stands behind a question.
        prompt: what asks for an answer, if it is not what stands before one.
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


def _glm(model: str, videos: str, processor: str, **text_more: Any) -> Family:
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
        seen = _qwen_vision(image_size=16, out_hidden_size=WIDTH, intermediate_size=2 * WIDTH)
        return {"text_config": words, "vision_config": seen, **names}

    return Family(
        processor=f"{processor}Processor",
        model=f"{model}Config",
        tokens={"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"},
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


def _gemma4(**more: Any) -> Family:
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
        tokens={
            "bos_token": "<bos>",
            "eos_token": "<eos>",
            "pad_token": "<pad>",
            "image_token": "<|image|>",
            "boi_token": "<|image>",
            "eoi_token": "<image|>",
            "audio_token": "<|audio|>",
            "boa_token": "<|audio>",
            "eoa_token": "<audio|>",
        },
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


INST = turns("[INST] ", " ", "{{ eos_token }}", "<image>\n", " [/INST]", "{{ bos_token }}", "")
FURTHER: dict[str, Family] = {
    "llava_next": Family(
        processor="LlavaNextProcessor",
        model="LlavaNextConfig",
        tokens={"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"},
        others=("<image>",),
        config=lambda token, size: {
            "text_config": {"model_type": "mistral", **text(size, head_dim=8, sliding_window=None)},
            "vision_config": {**CLIP, **vision(image_size=16, patch_size=8)},
            "image_token_index": token("<image>"),
            "image_grid_pinpoints": TILES,
            "image_seq_length": 4,
        },
        images=image(
            "LlavaNextImageProcessor",
            size={"shortest_edge": 16},
            crop_size={"height": 16, "width": 16},
            image_grid_pinpoints=TILES,
        ),
        template=INST,
        end="</s>",
        settings={
            "patch_size": 8,
            "vision_feature_select_strategy": "default",
            "num_additional_image_tokens": 1,
        },
        bytes=False,
        packs=True,
    ),
    "vipllava": replace(
        LLAVA,
        model="VipLlavaConfig",
        config=lambda token, size: {
            "text_config": {"model_type": "llama", **text(size)},
            "vision_config": {**CLIP, **vision(image_size=16, patch_size=8)},
            "image_token_index": token("<image>"),
            "image_seq_length": 4,
            "vision_feature_layers": [-1, -2],
            "vision_feature_layer": [-1, -2],
        },
    ),
    "gemma4": _gemma4(),
    "gemma4 (experts)": _gemma4(
        enable_moe_block=True, num_experts=4, top_k_experts=2, moe_intermediate_size=16
    ),
    "glm4v": _glm("Glm4v", "Glm4vVideoProcessor", "Glm4v"),
    "glm4v_moe": _glm(
        "Glm4vMoe",
        "Glm4vVideoProcessor",
        "Glm4v",
        n_routed_experts=4,
        first_k_dense_replace=1,
        **EXPERTS,
    ),
    "glm46v": _glm("Glm46V", "Glm46VVideoProcessor", "Glm46V"),
    "glm_ocr": _glm("GlmOcr", "Glm46VVideoProcessor", "Glm46V"),
    "qwen3_vl_moe": _qwen(
        "Qwen3VLMoe",
        "Qwen3VLVideoProcessor",
        _qwen_vision(
            intermediate_size=2 * WIDTH,
            out_hidden_size=WIDTH,
            num_position_embeddings=16,
            deepstack_visual_indexes=[0],
        ),
        "Qwen3VL",
        head_dim=8,
        num_experts=4,
        num_local_experts=4,
        **EXPERTS,
    ),
    "qwen3_5_moe": _qwen(
        "Qwen3_5Moe",
        "Qwen3VLVideoProcessor",
        _qwen_vision(
            intermediate_size=2 * WIDTH, out_hidden_size=WIDTH, num_position_embeddings=16
        ),
        "Qwen3VL",
        head_dim=8,
        rope_parameters={
            "rope_theta": 1e4,
            "mrope_section": [1, 1, 2],
            "partial_rotary_factor": 1.0,
        },
        layer_types=["linear_attention", "full_attention"],
        num_experts=4,
        shared_expert_intermediate_size=16,
        **{f"linear_{one}": size for one, size in LINEAR.items()},
        **EXPERTS,
    ),
    "idefics2": Family(
        processor="Idefics2Processor",
        model="Idefics2Config",
        tokens={"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<unk>"},
        others=("<image>", "<fake_token_around_image>", "<end_of_utterance>"),
        config=lambda token, size: {
            "text_config": {"model_type": "mistral", **text(size, head_dim=8, sliding_window=None)},
            "vision_config": vision(image_size=16, patch_size=4),
            "perceiver_config": {
                "hidden_size": WIDTH,
                "resampler_n_latents": 4,
                "resampler_depth": 1,
                "resampler_n_heads": 2,
                "resampler_head_dim": 8,
                "num_key_value_heads": 1,
            },
            "image_token_id": token("<image>"),
        },
        images=image("Idefics2ImageProcessor", size={"longest_edge": 16, "shortest_edge": 8}),
        template=FAMILIES["idefics3"].template.replace("<|im_start|>", ""),
        end="<end_of_utterance>",
        settings={"image_seq_len": 4},
        bytes=False,
    ),
    "mllama": Family(
        processor="MllamaProcessor",
        model="MllamaConfig",
        tokens={
            "bos_token": "<|begin_of_text|>",
            "eos_token": "<|eot_id|>",
            "pad_token": "<|finetune_right_pad_id|>",
        },
        others=("<|start_header_id|>", "<|end_header_id|>", "<|python_tag|>", "<|image|>"),
        config=lambda token, size: {
            "text_config": text(
                size, cross_attention_layers=[1], pad_token_id=token("<|finetune_right_pad_id|>")
            ),
            "vision_config": {
                "hidden_size": WIDTH,
                "intermediate_size": 2 * WIDTH,
                "attention_heads": 2,
                "num_hidden_layers": 2,
                "num_global_layers": 1,
                "vision_output_dim": 2 * WIDTH,
                "intermediate_layers_indices": [0],
                "image_size": 16,
                "patch_size": 4,
                "max_num_tiles": 4,
            },
            "image_token_index": token("<|image|>"),
        },
        images=square("MllamaImageProcessor", max_image_tiles=4),
        template=turns(
            "<|start_header_id|>user<|end_header_id|>\n",
            "<|start_header_id|>assistant<|end_header_id|>\n",
            "<|eot_id|>",
            "<|image|>",
            "<|eot_id|>",
            "{{ bos_token }}",
        ),
        end="<|eot_id|>",
        mixes=False,
    ),
    "aya_vision": Family(
        processor="AyaVisionProcessor",
        model="AyaVisionConfig",
        tokens={
            "bos_token": "<BOS_TOKEN>",
            "eos_token": "<|END_OF_TURN_TOKEN|>",
            "pad_token": "<PAD>",
        },
        others=(
            "<image>",
            "<|START_OF_IMG|>",
            "<|END_OF_IMG|>",
            "<|IMG_PATCH|>",
            "<|IMG_LINE_BREAK|>",
            "TILE_GLOBAL",
            *(f"TILE_{i}" for i in range(1, 13)),
            "<|START_OF_TURN_TOKEN|>",
            "<|USER_TOKEN|>",
            "<|CHATBOT_TOKEN|>",
            "<|START_RESPONSE|>",
            "<|END_RESPONSE|>",
        ),
        config=lambda token, size: {
            "text_config": {
                "model_type": "cohere2",
                **text(size, head_dim=8, layer_types=["full_attention"] * 2),
            },
            "vision_config": {**SIGLIP, **vision(image_size=16, patch_size=4)},
            "image_token_index": token("<|IMG_PATCH|>"),
            "downsample_factor": 2,
        },
        images=square("GotOcr2ImageProcessor", crop_to_patches=True, min_patches=1, max_patches=4),
        template=turns(
            "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>",
            "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_RESPONSE|>",
            "<|END_RESPONSE|><|END_OF_TURN_TOKEN|>",
            "<image>",
            "<|END_OF_TURN_TOKEN|>",
            "{{ bos_token }}",
        ),
        end="<|END_RESPONSE|>",
        settings={"patch_size": 4, "img_size": 16, "downsample_factor": 2},
        packs=True,
    ),
    "ovis2": Family(
        processor="Ovis2Processor",
        model="Ovis2Config",
        tokens={"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
        others=(
            "<|im_start|>",
            "<image>",
            "<IMG_ATOM>",
            "<IMG_START>",
            "<IMG_GRID>",
            "<IMG_COL>",
            "<IMG_ROW>",
            "<IMG_END>",
        ),
        config=lambda token, size: {
            "text_config": {"model_type": "qwen2", **text(size)},
            "vision_config": vision(image_size=16, patch_size=4, hidden_stride=2, vocab_size=32),
            "image_token_id": token("<IMG_ATOM>"),
            "visual_indicator_token_ids": [
                token(f"<IMG_{one}>") for one in ("START", "GRID", "COL", "ROW", "END")
            ],
            "vocab_size": size,
            "hidden_size": WIDTH,
        },
        images=square("Ovis2ImageProcessor", crop_to_patches=True, max_patches=2),
        template=CHATML.replace("IMAGE", "<image>\n"),
        end="<|im_end|>",
        settings={"image_seq_length": 4},
        packs=True,
    ),
    "deepseek_vl": Family(
        processor="DeepseekVLProcessor",
        model="DeepseekVLConfig",
        tokens={
            "bos_token": "<｜begin▁of▁sentence｜>",
            "eos_token": "<｜end▁of▁sentence｜>",
            "pad_token": "<｜▁pad▁｜>",
            "image_token": "<image_placeholder>",
        },
        config=lambda token, size: {
            "text_config": {"model_type": "llama", **text(size)},
            "vision_config": {**SIGLIP, **vision(image_size=16, patch_size=8)},
            "image_token_id": token("<image_placeholder>"),
        },
        images=square("DeepseekVLImageProcessor", min_size=4),
        template=turns(
            "User: ",
            "Assistant:",
            "{{ eos_token }}",
            "<image_placeholder>",
            "\n\n",
            "{{ bos_token }}",
        ),
        end="<｜end▁of▁sentence｜>",
        settings={"num_image_tokens": 4},
        packs=True,
    ),
    "paddleocr_vl": Family(
        processor="PaddleOCRVLProcessor",
        model="PaddleOCRVLConfig",
        tokens={
            "bos_token": "<s>",
            "eos_token": "</s>",
            "pad_token": "<pad>",
            "image_token": "<|IMAGE_PLACEHOLDER|>",
        },
        others=("<|begin_of_sentence|>", "<|IMAGE_START|>", "<|IMAGE_END|>", "<|video_pad|>"),
        config=lambda token, size: {
            "text_config": text(
                size,
                head_dim=8,
                rope_parameters={
                    "rope_type": "default",
                    "rope_theta": 1e4,
                    "mrope_section": [1, 1, 2],
                },
            ),
            "vision_config": vision(image_size=16, patch_size=4),
            **ids(token, image_token_id="<|IMAGE_PLACEHOLDER|>", video_token_id="<|video_pad|>"),
            **ids(
                token, vision_start_token_id="<|IMAGE_START|>", vision_end_token_id="<|IMAGE_END|>"
            ),
        },
        images=grid("PaddleOCRVLImageProcessor"),
        template=turns(
            "User: ",
            "Assistant:\n",
            "{{ eos_token }}",
            "<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>",
            "\n",
            "<|begin_of_sentence|>",
        ),
        end="</s>",
        bytes=False,
    ),
}
