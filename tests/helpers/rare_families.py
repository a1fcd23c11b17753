"""Families that few people fine-tune, or whose processors need torchvision: for
benchmarks/model_families.py.
"""

from __future__ import annotations

from dataclasses import replace

from helpers.family_builders import (
    CHAT,
    CLIP,
    EXPERTS,
    HYBRID,
    MROPE,
    SIGLIP,
    TILES,
    WIDTH,
    Family,
    chat,
    chatml,
    cropped,
    gemma4,
    glm,
    grid,
    ids,
    image,
    omni,
    plain,
    qwen_vision,
    square,
    text,
    tokens,
    turns,
    vision,
)
from helpers.further_families import FURTHER, LLAVA
from helpers.tiny_families import FAMILIES

USER = turns("USER: ", "ASSISTANT:", "{{ eos_token }}", "<image>", "\n", "{{ bos_token }}")
VQ = {
    "embed_dim": 8,
    "num_embeddings": 16,
    "latent_channels": 8,
    "resolution": 16,
    "base_channels": 32,
    "channel_multiplier": [1, 2],
    "num_res_blocks": 1,
    "codebook_size": 16,
}
SAM = {
    "hidden_size": WIDTH,
    "output_channels": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 64,
    "patch_size": 4,
    "mlp_dim": 32,
    "window_size": 2,
    "global_attn_indexes": [1],
}
DEEPSEEK = FURTHER["deepseek_vl"]
MLA = {
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 8,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "head_dim": 4,
    **EXPERTS,
}


RARE: dict[str, Family] = {
    "llama4": Family(
        processor="Llama4Processor",
        model="Llama4Config",
        tokens=tokens(bos="<|begin_of_text|>", eos="<|eot|>", pad="<|finetune_right_pad|>"),
        others=(
            "<|image|>",
            "<|image_start|>",
            "<|image_end|>",
            "<|patch|>",
            "<|tile_x_separator|>",
            "<|tile_y_separator|>",
            "<|header_start|>",
            "<|header_end|>",
        ),
        config=lambda token, size: {
            "text_config": text(
                size,
                head_dim=8,
                num_local_experts=4,
                num_experts_per_tok=1,
                intermediate_size_mlp=32,
                interleave_moe_layer_step=2,
                attention_chunk_size=64,
                no_rope_layer_interval=2,
            ),
            "vision_config": vision(
                image_size=16,
                patch_size=4,
                vision_output_dim=WIDTH,
                projector_input_dim=WIDTH,
                projector_output_dim=WIDTH,
                intermediate_size=4 * WIDTH,
            ),
            **ids(
                token,
                image_token_index="<|patch|>",
                boi_token_index="<|image_start|>",
                eoi_token_index="<|image_end|>",
            ),
        },
        images=square("Llama4ImageProcessor", max_patches=2),
        template=turns(
            "<|header_start|>user<|header_end|>\n",
            "<|header_start|>assistant<|header_end|>\n",
            "<|eot|>",
            "<|image|>",
            "<|eot|>",
            "{{ bos_token }}",
        ),
        end="<|eot|>",
        settings={"patch_size": 4},
    ),
    "lfm2_vl": Family(
        processor="Lfm2VlProcessor",
        model="Lfm2VlConfig",
        tokens=tokens(
            bos="<|startoftext|>",
            eos="<|im_end|>",
            pad="<|pad|>",
            image="<image>",
            image_start="<|image_start|>",
            image_end="<|image_end|>",
            image_thumbnail="<|img_thumbnail|>",
        ),
        others=(
            "<|im_start|>",
            *(f"<|img_row_{i}_col_{j}|>" for i in range(1, 4) for j in range(1, 4)),
        ),
        config=lambda token, size: {
            "text_config": text(
                size,
                model_type="lfm2",
                num_hidden_layers=3,
                layer_types=["conv", "full_attention", "full_attention"],
                block_multiple_of=8,
            ),
            "vision_config": vision(
                model_type="siglip2_vision_model",
                patch_size=4,
                num_patches=16,
                vision_use_head=False,
            ),
            "image_token_id": token("<image>"),
            "projector_hidden_size": WIDTH,
        },
        images=square(
            "Lfm2VlImageProcessor",
            encoder_patch_size=4,
            tile_size=16,
            max_tiles=4,
            min_image_tokens=2,
            max_image_tokens=4,
            max_num_patches=64,
        ),
        template="{{ bos_token }}" + chatml("<image>"),
        end="<|im_end|>",
    ),
    "cohere2_vision": replace(
        FURTHER["aya_vision"],
        processor="Cohere2VisionProcessor",
        model="Cohere2VisionConfig",
        tokens={
            **FURTHER["aya_vision"].tokens,
            **tokens(
                image="<|IMG_PATCH|>",
                boi="<|START_OF_IMG|>",
                eoi="<|END_OF_IMG|>",
                img_line_break="<|IMG_LINE_BREAK|>",
            ),
        },
        others=FURTHER["aya_vision"].others[5:],
        config=lambda token, size: {
            "text_config": text(
                size, model_type="cohere2", head_dim=8, layer_types=["full_attention"] * 2
            ),
            "vision_config": vision(**SIGLIP, image_size=16, patch_size=4),
            "image_token_id": token("<|IMG_PATCH|>"),
            "alignment_intermediate_size": 32,
        },
        images=square(
            "Cohere2VisionImageProcessor", max_patches=4, patch_size=2, downsample_factor=2
        ),
        template=FURTHER["aya_vision"].template.replace("<image>", "<|IMG_PATCH|>"),
        settings={},
    ),
    "kimi_k25": Family(
        processor="Kimi_K25Processor",
        model="Kimi_K25Config",
        tokens=tokens(
            bos="[BOS]", eos="<|im_end|>", pad="[PAD]", image="<|media_pad|>", video="<|video_pad|>"
        ),
        others=(
            "<|im_user|>",
            "<|im_assistant|>",
            "<|im_middle|>",
            "<|media_begin|>",
            "<|media_content|>",
            "<|media_end|>",
        ),
        config=lambda token, size: {
            "text_config": text(
                size, model_type="deepseek_v3", **{**MLA, "num_key_value_heads": 2}
            ),
            "vision_config": vision(patch_size=4, pos_emb_height=4, pos_emb_width=4),
            "projection_hidden_size": WIDTH,
            **ids(token, image_token_id="<|media_pad|>", video_token_id="<|video_pad|>"),
        },
        images=image(
            "Kimi_K25ImageProcessor",
            patch_size=4,
            max_patches=64,
            size={"max_height": 16, "max_width": 16},
        ),
        template=turns(
            "<|im_user|>user<|im_middle|>",
            "<|im_assistant|>assistant<|im_middle|>",
            "<|im_end|>",
            "<|media_begin|>image<|media_content|><|media_pad|><|media_end|>\n",
            "<|im_end|>",
        ),
        end="<|im_end|>",
        videos="Kimi_K25VideoProcessor",
    ),
    "molmo2": Family(
        processor="Molmo2Processor",
        model="Molmo2Config",
        others=(
            "<|im_start|>",
            "<|image|>",
            "<|video|>",
            "<im_patch>",
            "<im_col>",
            "<im_start>",
            "<low_res_im_start>",
            "<frame_start>",
            "<im_end>",
            "<frame_end>",
            "<im_low>",
        ),
        config=lambda token, size: {
            "text_config": text(size, head_dim=8, additional_vocab_size=8),
            "vision_config": vision(
                image_size=[16, 16],
                patch_size=4,
                num_position_embeddings=16,
                head_dim=8,
                num_key_value_heads=2,
            ),
            "adapter_config": {
                "vision_feature_layer": [-1, -2],
                "hidden_size": WIDTH,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "head_dim": 8,
                "intermediate_size": 32,
                "text_hidden_size": WIDTH,
            },
            **ids(
                token,
                image_start_token_id="<im_start>",
                low_res_image_start_token_id="<low_res_im_start>",
                image_end_token_id="<im_end>",
                image_patch_id="<im_patch>",
                frame_start_token_id="<frame_start>",
                frame_end_token_id="<frame_end>",
            ),
        },
        images=square(
            "Molmo2ImageProcessor",
            max_crops=2,
            overlap_margins=[1, 1],
            patch_size=4,
            pooling_size=[2, 2],
        ),
        videos="Molmo2VideoProcessor",
        **chat(template=chatml("<|image|>")),
    ),
    "minicpmv4_6": Family(
        processor="MiniCPMV4_6Processor",
        model="MiniCPMV4_6Config",
        tokens={
            **CHAT,
            **tokens(
                image="<|image_pad|>",
                video="<|video_pad|>",
                image_start="<image>",
                image_end="</image>",
                slice_start="<slice>",
                slice_end="</slice>",
                image_id_start="<image_id>",
                image_id_end="</image_id>",
            ),
        },
        others=("<|im_start|>",),
        config=lambda token, size: {
            "text_config": text(size, model_type="qwen3_5_text", **HYBRID),
            "vision_config": vision(image_size=32, patch_size=4, insert_layer_id=0),
            "insert_layer_id": 0,
            "patch_size": 4,
            "image_size": 32,
            **ids(token, image_token_id="<|image_pad|>", video_token_id="<|video_pad|>"),
        },
        images=image(
            "MiniCPMV4_6ImageProcessor", max_slice_nums=2, scale_resolution=16, patch_size=4
        ),
        template=chatml("<|image_pad|>\n"),
        end="<|im_end|>",
        videos="MiniCPMV4_6VideoProcessor",
    ),
    "gemma4_unified": replace(
        gemma4(),
        processor="Gemma4UnifiedProcessor",
        model="Gemma4UnifiedConfig",
        images=image(
            "Gemma4UnifiedImageProcessor", patch_size=4, max_soft_tokens=70, pooling_kernel_size=2
        ),
        videos="Gemma4UnifiedVideoProcessor",
        audio="Gemma4UnifiedAudioFeatureExtractor",
    ),
    "deepseek_vl_hybrid": replace(
        DEEPSEEK,
        processor="DeepseekVLHybridProcessor",
        model="DeepseekVLHybridConfig",
        config=lambda token, size: {
            **DEEPSEEK.config(token, size),
            "high_res_vision_config": {"model_type": "sam_vision_model", **SAM, "num_pos_feats": 8},
        },
        images=square(
            "DeepseekVLHybridImageProcessor", min_size=4, high_res_size={"height": 64, "width": 64}
        ),
    ),
    "janus": replace(
        DEEPSEEK,
        processor="JanusProcessor",
        model="JanusConfig",
        tokens={**DEEPSEEK.tokens, **tokens(boi="<begin_of_image>", eoi="<end_of_image>")},
        config=lambda token, size: {
            "text_config": text(size, model_type="llama"),
            "vision_config": vision(
                image_size=16, patch_size=8, projection_dim=WIDTH, mlp_ratio=2.0, num_image_tokens=4
            ),
            "vq_config": {
                **VQ,
                "num_patches": 2,
                "projection_dim": WIDTH,
                "image_token_embed_dim": WIDTH,
                "out_channels": 3,
            },
            "image_token_id": token("<image_placeholder>"),
        },
        images=square("JanusImageProcessor", min_size=4),
        packs=False,
    ),
    "chameleon": Family(
        processor="ChameleonProcessor",
        model="ChameleonConfig",
        tokens=tokens(
            bos="<s>", eos="</s>", pad="<pad>", image="<image>", boi="<racm3:break>", eoi="<eoss>"
        ),
        others=tuple(f"IMGIMG{letter}Z" for letter in "ABCDEFGHIJKLMNOP"),
        config=lambda token, size: {
            **text(size),
            "vq_config": VQ,
            "vocabulary_map": (
                {"<image>": token("<image>")}
                | {f"IMGIMG{a}Z": token(f"IMGIMG{a}Z") for a in "ABCDEFGHIJKLMNOP"}
            ),
        },
        images=cropped("ChameleonImageProcessor"),
        template=USER,
        end="</s>",
        settings={"image_seq_length": 64},
    ),
    "got_ocr2": Family(
        processor="GotOcr2Processor",
        model="GotOcr2Config",
        tokens=CHAT,
        others=("<|im_start|>", "<img>", "</img>", "<imgpad>"),
        config=lambda token, size: {
            "text_config": text(size, model_type="qwen2"),
            "vision_config": SAM,
            "image_token_index": token("<imgpad>"),
            "image_seq_length": 16,
        },
        images=square("GotOcr2ImageProcessor", 64),
        template=chatml("<img><imgpad></img>\n"),
        end="<|im_end|>",
    ),
    "video_llava": replace(
        LLAVA,
        processor="VideoLlavaProcessor",
        model="VideoLlavaConfig",
        others=("<image>", "<video>"),
        config=lambda token, size: {
            "text_config": text(size, model_type="llama"),
            "vision_config": vision(**CLIP, image_size=16, patch_size=8),
            **ids(token, image_token_index="<image>", video_token_index="<video>"),
            "image_seq_length": 4,
        },
        images=cropped("VideoLlavaImageProcessor"),
        videos="VideoLlavaVideoProcessor",
        packs=False,
    ),
    "llava_next_video": replace(
        FURTHER["llava_next"],
        processor="LlavaNextVideoProcessor",
        model="LlavaNextVideoConfig",
        others=("<image>", "<video>"),
        config=lambda token, size: {
            **FURTHER["llava_next"].config(token, size),
            **ids(token, image_token_index="<image>", video_token_index="<video>"),
        },
        videos="LlavaNextVideoVideoProcessor",
        packs=False,
    ),
    "lighton_ocr": Family(
        processor="LightOnOcrProcessor",
        model="LightOnOcrConfig",
        tokens={
            **CHAT,
            **tokens(
                image="<|image_pad|>", image_break="<|vision_pad|>", image_end="<|vision_end|>"
            ),
        },
        others=("<|im_start|>",),
        config=lambda token, size: {
            "text_config": text(size, model_type="qwen3", head_dim=8),
            "vision_config": vision(model_type="pixtral", image_size=32, patch_size=4, head_dim=8),
            "image_token_id": token("<|image_pad|>"),
        },
        images=image(
            "PixtralImageProcessor", size={"longest_edge": 32}, patch_size={"height": 8, "width": 8}
        ),
        template=chatml("<|image_pad|>"),
        end="<|im_end|>",
        settings={"patch_size": 4, "spatial_merge_size": 2},
    ),
    "qianfan_ocr": replace(
        FAMILIES["internvl"],
        processor="QianfanOCRProcessor",
        model="QianfanOCRConfig",
        others=("<|im_start|>", "<image>"),
        template=chatml("<image>\n"),
        videos="",
        packs=False,
    ),
    "video_llama_3": Family(
        processor="VideoLlama3Processor",
        model="VideoLlama3Config",
        others=("<|im_start|>", "<|image_pad|>", "<|video_pad|>"),
        config=lambda token, size: {
            "text_config": text(size, model_type="qwen2"),
            "vision_config": vision(patch_size=4),
            **ids(token, image_token_id="<|image_pad|>", video_token_id="<|video_pad|>"),
        },
        images=grid("VideoLlama3ImageProcessor"),
        videos="VideoLlama3VideoProcessor",
        **chat(template=chatml("<|image_pad|>\n")),
    ),
    "ernie4_5_vl_moe": replace(
        FURTHER["paddleocr_vl"],
        processor="Ernie4_5_VLMoeProcessor",
        model="Ernie4_5_VLMoeConfig",
        tokens={
            **FURTHER["paddleocr_vl"].tokens,
            **tokens(
                image_start="<|IMAGE_START|>",
                image_end="<|IMAGE_END|>",
                video="<|video@placeholder|>",
                video_start="<|VIDEO_START|>",
                video_end="<|VIDEO_END|>",
            ),
        },
        others=("<|begin_of_sentence|>",),
        config=lambda token, size: {
            "text_config": text(
                size,
                moe_intermediate_size=[16, 16],
                moe_k=2,
                moe_num_experts=4,
                moe_num_shared_experts=1,
                mlp_layer_types=["dense", "sparse"],
                rope_parameters={**MROPE, "mrope_section": [1, 1, 2]},
            ),
            "vision_config": qwen_vision(
                intermediate_size=32, spatial_merge_size=2, temporal_merge_size=2
            ),
            **ids(
                token,
                image_token_id="<|IMAGE_PLACEHOLDER|>",
                image_start_token_id="<|IMAGE_START|>",
                image_end_token_id="<|IMAGE_END|>",
                video_token_id="<|video@placeholder|>",
                video_start_token_id="<|VIDEO_START|>",
                video_end_token_id="<|VIDEO_END|>",
            ),
        },
        images=grid("Ernie4_5_VLMoeImageProcessor"),
        # Published checkpoints bring the font that writes times on frames of videos.
        settings={
            "video_processor": {
                "video_processor_type": "Ernie4_5_VLMoeVideoProcessor",
                "draw_on_frames": False,
            }
        },
    ),
    "qwen2_5_omni_thinker": omni(
        "Qwen2_5OmniThinker",
        "Qwen2_5Omni",
        qwen_vision(
            intermediate_size=32, window_size=16, out_hidden_size=WIDTH, fullatt_block_indexes=[1]
        ),
    ),
    "qwen3_omni_moe_thinker": omni(
        "Qwen3OmniMoeThinker",
        "Qwen3OmniMoe",
        qwen_vision(
            intermediate_size=32,
            out_hidden_size=WIDTH,
            num_position_embeddings=16,
            deepstack_visual_indexes=[0],
        ),
        head_dim=8,
        num_experts=4,
        **EXPERTS,
    ),
    "exaone4_5": replace(
        FAMILIES["qwen2_5_vl"],
        processor="Exaone4_5_Processor",
        model="Exaone4_5_Config",
        config=lambda token, size: {
            "text_config": text(
                size, model_type="exaone4", head_dim=8, layer_types=["full_attention"] * 2
            ),
            "vision_config": qwen_vision(
                intermediate_size=32,
                window_size=16,
                out_hidden_size=WIDTH,
                fullatt_block_indexes=[1],
                num_key_value_heads=1,
            ),
            **ids(token, image_token_id="<|image_pad|>", video_token_id="<|video_pad|>"),
        },
    ),
    "cosmos3_omni": replace(
        FAMILIES["qwen3_vl"],
        model="Cosmos3OmniConfig",
        config=lambda token, size: {
            **(base := FAMILIES["qwen3_vl"].config(token, size)),
            "text_config": {"model_type": "qwen3_vl_text", **base["text_config"]},
            "vision_config": {"model_type": "qwen3_vl_vision", **base["vision_config"]},
        },
    ),
    "glmga": replace(
        glm("Glm46V", "Glm46VVideoProcessor", "Glm46V"),
        images=grid("GlmgaImageProcessor"),
    ),
    "aria": Family(
        processor="AriaProcessor",
        model="AriaConfig",
        tokens=tokens(bos="<s>", eos="<|im_end|>", pad="<pad>", image="<|img|>"),
        others=("<|im_start|>", "<fim_prefix>", "<fim_suffix>"),
        config=lambda token, size: {
            "text_config": text(
                size,
                head_dim=8,
                intermediate_size=16,
                moe_num_experts=4,
                moe_topk=2,
                moe_num_shared_experts=1,
            ),
            "vision_config": vision(model_type="idefics3_vision", image_size=490, patch_size=98),
            "projector_patch_to_query_dict": {25: 4, 100: 4},
            "image_token_index": token("<|img|>"),
        },
        images=image("AriaImageProcessor", max_image_size=490, min_image_size=14),
        template=chatml("<fim_prefix><|img|><fim_suffix>"),
        end="<|im_end|>",
        settings={"size_conversion": {"490": 4, "980": 4}},
        bytes=False,
    ),
    "mistral_large4": replace(
        FAMILIES["mistral3"],
        model="MistralLarge4Config",
        config=lambda token, size: {
            **FAMILIES["mistral3"].config(token, size),
            # As many heads for keys as for queries: the latent that is cached makes them all.
            "text_config": text(
                size,
                **{**MLA, "num_key_value_heads": 2},
                index_head_dim=8,
                index_n_heads=2,
                index_topk=512,
            ),
        },
        packs=False,
    ),
    "granite4_vision": Family(
        processor="Granite4VisionProcessor",
        model="Granite4VisionConfig",
        tokens=tokens(bos="<|end_of_text|>", eos="<|end_of_text|>", pad="<|pad|>"),
        others=("<|start_of_role|>", "<|end_of_role|>", "<image>"),
        config=lambda token, size: {
            # As many layers as there are groups of image features beside the first.
            "text_config": text(size, num_hidden_layers=4, pad_token_id=token("<|pad|>")),
            # Heads of 64, which the configuration of the projector takes for granted.
            "vision_config": vision(**SIGLIP, image_size=16, patch_size=4, hidden_size=64),
            "qformer_config": {
                "model_type": "blip_2_qformer",
                "num_hidden_layers": 1,
                "intermediate_size": 32,
                "cross_attention_frequency": 1,
                "use_qformer_text_input": False,
            },
            "image_token_index": token("<image>"),
            "image_grid_pinpoints": TILES,
            "image_seq_length": 4,
            "vision_feature_select_strategy": "full",
            "downsample_rate": "1/2",
            "deepstack_layer_map": [[-2, 0]],
            "spatial_target_layers": [0, 1, 2, 3],
        },
        images=cropped("LlavaNextImageProcessor", image_grid_pinpoints=TILES),
        template=turns(
            "<|start_of_role|>user<|end_of_role|>",
            "<|start_of_role|>assistant<|end_of_role|>",
            "<|end_of_text|>\n",
            "<image>\n",
            "<|end_of_text|>\n",
        ),
        end="<|end_of_text|>",
        settings={
            "patch_size": 4,
            "vision_feature_select_strategy": "full",
            "downsample_rate": "1/2",
        },
    ),
    "granite_docling": Family(
        processor="GraniteDoclingProcessor",
        model="GraniteDoclingConfig",
        tokens=tokens(bos="<|end_of_text|>", eos="<|end_of_text|>", pad="<|pad|>"),
        others=(
            "<|start_of_role|>",
            "<|end_of_role|>",
            "<image>",
            "<fake_token_around_image>",
            "<global-img>",
            *(f"<row_{i}_col_{j}>" for i in range(1, 4) for j in range(1, 4)),
        ),
        config=lambda token, size: {
            "text_config": text(
                size,
                pad_token_id=token("<|pad|>"),
                **ids(token, bos_token_id="<|end_of_text|>", eos_token_id="<|end_of_text|>"),
                # Scales that are made for widths of a thousand.
                embedding_multiplier=1.0,
                logits_scaling=1.0,
                residual_multiplier=1.0,
                attention_multiplier=0.35,
            ),
            "vision_config": vision(
                image_size=16,
                patch_size=4,
                out_hidden_size=WIDTH,
                scale_factor=2,
                deepstack_visual_indexes=[0],
                use_fine_route=False,
            ),
            **ids(token, image_token_id="<image>", pad_token_id="<|pad|>"),
        },
        images=square("GraniteDoclingImageProcessor", max_patches=2),
        template=turns(
            "<|start_of_role|>user<|end_of_role|>",
            "<|start_of_role|>assistant<|end_of_role|>",
            "<|end_of_text|>\n",
            "<image>",
            "<|end_of_text|>\n",
        ),
        end="<|end_of_text|>",
        settings={"image_seq_len": 4},
    ),
    "hunyuan_vl": Family(
        processor="HunYuanVLProcessor",
        model="HunYuanVLConfig",
        tokens=tokens(
            bos="<s>",
            eos="<eos>",
            pad="<pad>",
            image="<image>",
            image_start="<im_start>",
            image_end="<im_end>",
        ),
        others=("<user>", "<assistant>", "<newline>"),
        config=lambda token, size: {
            "text_config": text(
                size,
                head_dim=16,
                pad_token_id=token("<pad>"),
                rope_parameters={
                    "rope_type": "default",
                    "rope_theta": 1e4,
                    "mrope_section": [2, 2, 2, 2],
                },
            ),
            "vision_config": vision(
                patch_size=4,
                out_hidden_size=WIDTH,
                text_hidden_size=WIDTH,
                max_image_size=64,
                min_image_size=8,
            ),
            **ids(token, image_token_id="<image>", im_start_id="<im_start>", im_end_id="<im_end>"),
            "im_newline_id": token("<newline>"),
        },
        images=grid("HunYuanVLImageProcessor"),
        template=turns(
            "", "", "<assistant>", "<im_start><image><im_end>", "<user>", "{{ bos_token }}"
        ),
        end="<assistant>",
    ),
    "vision-encoder-decoder": plain(
        "VisionEncoderDecoder",
        square("ViTImageProcessor"),
        lambda size: {
            "encoder": vision(model_type="vit", image_size=16, patch_size=8),
            "decoder": {
                "model_type": "trocr",
                "vocab_size": size,
                "d_model": WIDTH,
                "decoder_layers": 1,
                "decoder_attention_heads": 2,
                "decoder_ffn_dim": 32,
                "cross_attention_hidden_size": WIDTH,
                "is_decoder": True,
                "add_cross_attention": True,
            },
        },
    ),
    "gemma3n": replace(
        FAMILIES["gemma3"],
        processor="Gemma3nProcessor",
        model="Gemma3nConfig",
        tokens={
            **FAMILIES["gemma3"].tokens,
            **tokens(audio="<audio_soft_token>", boa="<start_of_audio>", eoa="<end_of_audio>"),
        },
        config=lambda token, size: {
            # timm's tower is the published one with a tenth of its channels; tokens of images and
            # sounds come last.
            "text_config": text(
                size,
                head_dim=8,
                sliding_window=16,
                layer_types=["sliding_attention", "full_attention"],
                num_kv_shared_layers=0,
                vocab_size_per_layer_input=size,
                hidden_size_per_layer_input=4,
                laurel_rank=4,
                altup_num_inputs=2,
                **ids(token, eos_token_id="<eos>", bos_token_id="<bos>", pad_token_id="<pad>"),
            ),
            "vision_config": {
                "model_args": {"channel_multiplier": 0.1, "msfa_output_resolution": 2},
                "vocab_size": 8,
                "vocab_offset": size,
            },
            "audio_config": {
                "vocab_size": 8,
                "vocab_offset": size + 8,
                "hidden_size": WIDTH,
                "conf_num_attention_heads": 2,
                "conf_num_hidden_layers": 1,
                "sscp_conv_channel_size": [8, 8],
                "input_feat_size": 16,
            },
            "vision_soft_tokens_per_image": 4,
            **ids(
                token,
                boi_token_id="<start_of_image>",
                eoi_token_id="<end_of_image>",
                image_token_id="<image_soft_token>",
                boa_token_id="<start_of_audio>",
                eoa_token_id="<end_of_audio>",
                audio_token_id="<audio_soft_token>",
            ),
        },
        images=square("SiglipImageProcessor", 64),
        template=FAMILIES["gemma3"].template.replace("<start_of_image>", "<image_soft_token>"),
        audio="Gemma3nAudioFeatureExtractor",
    ),
    "shieldgemma2": replace(FAMILIES["gemma3"], processor="ShieldGemma2Processor"),
    "blip": plain(
        "Blip",
        square("BlipImageProcessor"),
        lambda size: {
            "text_config": text(size, encoder_hidden_size=WIDTH, projection_dim=8),
            "vision_config": vision(image_size=16, patch_size=8, projection_dim=8),
            "projection_dim": 8,
        },
    ),
    "blip-2": plain(
        "Blip2",
        square("BlipImageProcessor"),
        lambda size: {
            "text_config": text(size, model_type="opt", ffn_dim=32, word_embed_proj_dim=WIDTH),
            "vision_config": vision(image_size=16, patch_size=8),
            "qformer_config": vision(vocab_size=size, encoder_hidden_size=WIDTH),
            "num_query_tokens": 4,
        },
        {"num_query_tokens": 4},
    ),
    "git": plain(
        "Git",
        square("CLIPImageProcessor", crop_size={"height": 16, "width": 16}),
        lambda size: {
            **text(size),
            "vision_config": vision(image_size=16, patch_size=8),
        },
    ),
    "kosmos-2": plain(
        "Kosmos2",
        square("CLIPImageProcessor", crop_size={"height": 16, "width": 16}),
        lambda size: {
            "text_config": {
                "vocab_size": size,
                "embed_dim": WIDTH,
                "layers": 1,
                "ffn_dim": 32,
                "attention_heads": 2,
            },
            "vision_config": vision(image_size=16, patch_size=8),
            "latent_query_num": 4,
        },
    ),
    "idefics": plain(
        "Idefics",
        image("IdeficsImageProcessor", image_size=16),
        lambda size: {
            **text(size),
            "vision_config": {
                "embed_dim": WIDTH,
                "image_size": 16,
                "patch_size": 8,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 32,
            },
            "perceiver_config": {"use_resampler": False},
            "cross_layer_interval": 1,
            "additional_vocab_size": 0,
        },
    ),
}
