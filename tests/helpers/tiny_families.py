"""A checkpoint of some ten thousand random parameters for each family of vision-language models.

The configuration, model and processor classes are the family's own; sizes are cut until an image
costs a few tokens. Tokenizers are trained here, of the family's kind (bytes, or words with a mark
for the space), with its special tokens. Chat templates are written to have the traps of the
published ones: what stands around an image and a turn, who writes the start token, what the end of
a turn is called, whether there are generation marks.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForImageTextToText, PreTrainedTokenizerFast
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)
from transformers.models.paligemma.processing_paligemma import EXTRA_TOKENS
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from helpers.family_builders import (
    CHAT,
    HYBRID,
    SIGLIP,
    WIDTH,
    Family,
    chatml,
    idefics,
    pixtral,
    qwen,
    qwen_vision,
    text,
    tokens,
    vision,
)

TEXT = (
    "which color has the bar? a big red drum stands left of the tree, what is right? blue green"
    " yellow answer in one word. n e n e n e n e n e user assistant model system you are a helpful"
    " USER: ASSISTANT: User: Assistant: \n\n\n question "
)


FAMILIES: dict[str, Family] = {
    "llava": Family(
        processor="LlavaProcessor",
        model="LlavaConfig",
        # No padding token, and the space after `ASSISTANT:` belongs to the first token of the
        # answer.
        tokens=tokens(bos="<s>", eos="</s>"),
        others=("<image>",),
        config=lambda token, size: {
            "text_config": text(size, model_type="llama"),
            "vision_config": vision(model_type="clip_vision_model", image_size=16, patch_size=8),
            "image_token_index": token("<image>"),
            "image_seq_length": 4,
        },
        images=lambda: CLIPImageProcessorPil(
            size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
        ),
        template=(
            "{% for m in messages %}{{ m['role'] | upper }}: {% for part in m['content'] %}{% if"
            " part['type'] == 'image' %}<image>\n{% endif %}{% endfor %}{% for part in m['content']"
            " %}{% if part['type'] == 'text' %}{% if m['role'] == 'assistant' %}{% generation %}{{"
            " part['text'] }} {% endgeneration %}{% else %}{{ part['text'] }} {% endif %}{% endif"
            " %}{% endfor %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
        ),
        end="</s>",
        settings={
            "patch_size": 8,
            "vision_feature_select_strategy": "default",
            "num_additional_image_tokens": 1,
        },
        bytes=False,
        packs=True,
    ),
    "llava_onevision": Family(
        processor="LlavaOnevisionProcessor",
        model="LlavaOnevisionConfig",
        tokens=CHAT,
        others=("<|im_start|>", "<image>", "<video>"),
        config=lambda token, size: {
            "text_config": text(size, model_type="qwen2"),
            "vision_config": vision(**SIGLIP, image_size=16, patch_size=8),
            "image_token_index": token("<image>"),
            "video_token_index": token("<video>"),
            "image_grid_pinpoints": [[16, 16], [16, 32], [32, 16], [32, 32]],
        },
        images=lambda: LlavaOnevisionImageProcessorPil(
            size={"height": 16, "width": 16},
            image_grid_pinpoints=[[16, 16], [16, 32], [32, 16], [32, 32]],
        ),
        # A space after the role of a finished turn, a line break in the prompt: only the marks tell
        # what is learnt.
        template=(
            "{% for m in messages %}<|im_start|>{{ m['role'] }} {% for part in m['content'] %}{% if"
            " part['type'] == 'image' %}<image>{% endif %}{% endfor %}{% for part in m['content']"
            " %}{% if part['type'] == 'text' %}{% if m['role'] == 'assistant' %}{% generation"
            " %}\n{{ part['text'] }}{% endgeneration %}{% else %}\n{{ part['text'] }}{% endif %}{%"
            " endif %}{% endfor %}<|im_end|>{% endfor %}{% if add_generation_prompt"
            " %}<|im_start|>assistant\n{% endif %}"
        ),
        end="<|im_end|>",
        settings={"num_image_tokens": 4, "vision_feature_select_strategy": "full"},
        videos="LlavaOnevisionVideoProcessor",
    ),
    "qwen2_vl": qwen(
        "Qwen2VL",
        "Qwen2VLVideoProcessor",
        {**qwen_vision(embed_dim=WIDTH, mlp_ratio=2), "depth": 1},
    ),
    "qwen2_5_vl": qwen(
        "Qwen2_5_VL",
        "Qwen2VLVideoProcessor",
        qwen_vision(
            intermediate_size=2 * WIDTH,
            window_size=16,
            out_hidden_size=WIDTH,
            fullatt_block_indexes=[1],
        ),
    ),
    "qwen3_vl": qwen(
        "Qwen3VL",
        "Qwen3VLVideoProcessor",
        qwen_vision(
            intermediate_size=2 * WIDTH,
            out_hidden_size=WIDTH,
            num_position_embeddings=16,
            deepstack_visual_indexes=[0],
        ),
        head_dim=8,
    ),
    "qwen3_5": qwen(
        "Qwen3_5",
        "Qwen3VLVideoProcessor",
        qwen_vision(intermediate_size=2 * WIDTH, out_hidden_size=WIDTH, num_position_embeddings=16),
        "Qwen3VL",
        **HYBRID,
    ),
    "smolvlm": idefics("SmolVLM", SmolVLMImageProcessorPil, "SmolVLMVideoProcessor"),
    "idefics3": idefics("Idefics3", Idefics3ImageProcessorPil, ""),
    "internvl": Family(
        processor="InternVLProcessor",
        model="InternVLConfig",
        tokens=tokens(
            eos="<|im_end|>",
            pad="<|endoftext|>",
            start_image="<img>",
            end_image="</img>",
            context_image="<IMG_CONTEXT>",
            video="<video>",
        ),
        others=("<|im_start|>",),
        config=lambda token, size: {
            "text_config": text(size, model_type="qwen2"),
            "vision_config": vision(image_size=[16, 16], patch_size=[4, 4]),
            "image_token_id": token("<IMG_CONTEXT>"),
            "image_seq_length": 4,
        },
        images=lambda: GotOcr2ImageProcessorPil(
            size={"height": 16, "width": 16}, crop_to_patches=True, min_patches=1, max_patches=2
        ),
        template=chatml("<IMG_CONTEXT>\n"),
        end="<|im_end|>",
        settings={"image_seq_length": 4},
        videos="InternVLVideoProcessor",
        packs=True,
    ),
    "mistral3": pixtral("Mistral3", "image_token_index", spatial_merge_size=2),
    "pixtral": pixtral("Llava", "image_token_index", vision_feature_select_strategy="full"),
    "gemma3": Family(
        processor="Gemma3Processor",
        model="Gemma3Config",
        # The end of a turn is not the end token of the tokenizer.
        tokens=tokens(
            bos="<bos>",
            eos="<eos>",
            pad="<pad>",
            boi="<start_of_image>",
            eoi="<end_of_image>",
            image="<image_soft_token>",
        ),
        others=("<start_of_turn>", "<end_of_turn>"),
        config=lambda token, size: {
            "text_config": text(
                size,
                head_dim=8,
                query_pre_attn_scalar=8,
                sliding_window=16,
                layer_types=["sliding_attention", "full_attention"],
                eos_token_id=token("<eos>"),
                bos_token_id=token("<bos>"),
            ),
            "vision_config": vision(**SIGLIP, image_size=16, patch_size=4),
            "mm_tokens_per_image": 4,
            "boi_token_index": token("<start_of_image>"),
            "eoi_token_index": token("<end_of_image>"),
            "image_token_index": token("<image_soft_token>"),
        },
        images=lambda: Gemma3ImageProcessorPil(size={"height": 16, "width": 16}),
        template=(
            "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2"
            " == 0) %}{{ raise_exception('turns must alternate') }}{% endif %}<start_of_turn>{{"
            " 'model' if m['role'] == 'assistant' else m['role'] }}\n{% for part in m['content']"
            " %}{% if part['type'] == 'image' %}<start_of_image>{% else %}{{ part['text'] | trim"
            " }}{% endif %}{% endfor %}<end_of_turn>\n{% endfor %}{% if add_generation_prompt"
            " %}<start_of_turn>model\n{% endif %}"
        ),
        end="<end_of_turn>",
        settings={"image_seq_length": 4},
        bytes=False,
    ),
    "paligemma": Family(
        processor="PaliGemmaProcessor",
        model="PaliGemmaConfig",
        tokens=tokens(bos="<bos>", eos="<eos>", pad="<pad>", image="<image>"),
        others=tuple(EXTRA_TOKENS),
        config=lambda token, size: {
            "text_config": text(size, model_type="gemma", head_dim=8),
            "vision_config": vision(**SIGLIP, image_size=16, patch_size=8),
            "image_token_index": token("<image>"),
            "projection_dim": WIDTH,
            "hidden_size": WIDTH,
            "vocab_size": size,
        },
        images=lambda: _sized(SiglipImageProcessorPil(size={"height": 16, "width": 16})),
        template=None,
        end="<eos>",
        bytes=False,
    ),
}


def _sized(images: Any) -> Any:
    images.image_seq_length = 4
    return images


def tokenizer(family: Family) -> PreTrainedTokenizerFast:
    """Some three hundred tokens: all bytes or letters, a few words, and the special tokens."""
    special = [*family.tokens.values(), *family.others]
    letters = (
        pre_tokenizers.ByteLevel.alphabet()
        if family.bytes
        else sorted(set(TEXT) - {" "} | {"▁", "\n"})
    )
    core = Tokenizer(models.BPE(unk_token=None if family.bytes else "<unk>"))
    if family.bytes:
        core.pre_tokenizer, core.decoder = (
            pre_tokenizers.ByteLevel(add_prefix_space=False),
            decoders.ByteLevel(),
        )
    else:
        core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
        core.decoder = decoders.Metaspace(prepend_scheme="first")
        special = ["<unk>", *special]
    trainer = trainers.BpeTrainer(
        vocab_size=len(letters) + len(special) + 60,
        initial_alphabet=letters,
        special_tokens=special,
        show_progress=False,
    )
    core.train_from_iterator([TEXT] * 4, trainer)
    named = dict(family.tokens) | ({} if family.bytes else {"unk_token": "<unk>"})
    basic = {
        k: named.pop(k) for k in ("bos_token", "eos_token", "pad_token", "unk_token") if k in named
    }
    return PreTrainedTokenizerFast(tokenizer_object=core, **basic, extra_special_tokens=named)


def build(family: Family, directory: Path, seed: int = 0) -> Path:
    """Write a checkpoint directory of the family with random weights, the processor as published
    ones are.
    """
    words = tokenizer(family)
    config = getattr(transformers, family.model)(
        **family.config(words.convert_tokens_to_ids, len(words)), dtype="float32"
    )
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_config(config)
    for name, parameter in model.named_parameters():
        # Far from zero, so that what an image shows can be seen in the losses; Mllama's gates
        # begin closed.
        if parameter.dim() > 1 or name.endswith("_gate"):
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(directory)
    words.save_pretrained(directory)
    halves = {
        "image_processor": (
            family.images().to_dict() if callable(family.images) else dict(family.images)
        )
    }
    if family.videos:
        halves["video_processor"] = {"video_processor_type": family.videos, "fps": 2}
    if family.audio:
        halves["feature_extractor"] = {"feature_extractor_type": family.audio}
    settings = {"processor_class": family.processor, **halves, **family.settings}
    (directory / "processor_config.json").write_text(json.dumps(settings))
    if family.template is not None:
        (directory / "chat_template.jinja").write_text(family.template)
    return directory
