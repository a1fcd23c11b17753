"""The base checkpoint of `stamps`: stock classes that hold the published weights exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.utils.chat_template_utils import render_jinja_template

from cotbal.benchmarks.stamps.align import centre_in, keep, restore
from cotbal.benchmarks.stamps.base import CHAT_TEMPLATE, lite_vision, vision_name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gates_of_the_vision_model_change_nothing(dtype: torch.dtype) -> None:
    for block in lite_vision().to(dtype).encoder.blocks[:6]:
        channels = block.squeeze_excite.dim
        features = torch.randn(2, channels, 3, 3, dtype=dtype) * 6
        assert torch.equal(block.squeeze_excite(features), features)


def test_published_names_cover_everything_but_the_gates() -> None:
    ours = {name for name in lite_vision().state_dict() if ".squeeze_excite." not in name}
    parts = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    theirs = ["_conv_stem.weight", "_conv_head.weight"]
    theirs += [f"{norm}.{part}" for norm in ("_bn0", "_bn1") for part in parts]
    for block in range(16):
        convolutions = ["_depthwise_conv", "_project_conv"] + ["_expand_conv"] * (block > 0)
        norms = ["_bn1", "_bn2"] + ["_bn0"] * (block > 0)
        theirs += [f"_blocks.{block}.{name}.weight" for name in convolutions]
        theirs += [f"_blocks.{block}.{norm}.{part}" for norm in norms for part in parts]
    assert {vision_name(name) for name in theirs} == ours


CONVERSATION = [
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]},
    {"role": "assistant", "content": [{"type": "text", "text": "a crow"}]},
    {"role": "user", "content": "Sure?"},
    {"role": "assistant", "content": "yes"},
]
WRITTEN = (
    "<|im_start|>user\n<image>\nWhat is it?<|im_end|>\n<|im_start|>assistant\na crow<|im_end|>\n"
    "<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n"
)


def test_chat_template_marks_what_the_assistant_says() -> None:
    texts, spans = render_jinja_template(
        [CONVERSATION], chat_template=CHAT_TEMPLATE, return_assistant_tokens_mask=True
    )
    assert texts == [WRITTEN]
    assert [WRITTEN[start:end] for start, end in spans[0]] == ["a crow<|im_end|>", "yes<|im_end|>"]


def test_chat_template_opens_the_answer() -> None:
    texts, _ = render_jinja_template(
        [CONVERSATION[:1]], chat_template=CHAT_TEMPLATE, add_generation_prompt=True
    )
    assert texts == ["<|im_start|>user\n<image>\nWhat is it?<|im_end|>\n<|im_start|>assistant\n"]


def tiny_parts() -> dict[str, Any]:
    projector = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(projector.parameters(), lr=0.1)
    return {"projector": projector, "optimizer": optimizer}


def test_an_interrupted_alignment_resumes(tmp_path: Path) -> None:
    state = tmp_path / "alignment.pt"
    before, after = tiny_parts(), tiny_parts()
    assert restore(after, state, steps=10) == 0
    before["projector"](torch.ones(1, 2)).sum().backward()
    before["optimizer"].step()
    keep(before, state, steps=10, done=4)
    assert restore(after, state, steps=10) == 4
    assert torch.equal(before["projector"].weight, after["projector"].weight)
    assert after["optimizer"].state_dict()["state"][0]["step"] == 1
    assert restore(after, state, steps=20) == 0


def test_image_tokens_inside_a_box() -> None:
    # six tokens per row: their centres lie at 8, 25, 42, 58, 75 and 92 hundredths
    inside = [token for token in range(36) if centre_in(token, (20, 0, 60, 30))]
    assert inside == [1, 2, 3, 7, 8, 9]
