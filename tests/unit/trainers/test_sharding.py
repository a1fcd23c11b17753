"""What a configuration of accelerate may ask for, and what it may not."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import AutoModelForImageTextToText

from cotbal.errors import CotbalError
from cotbal.training.trainers.forward import without_dropout
from cotbal.training.trainers.sharding import layer_classes, settle_sharding, validate_environment
from cotbal.training.trainers.trained_weights import gather_trained, load_shards
from helpers.errors import raises


def test_unsupported_sharding_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "1")
    with raises(CotbalError, "unsupported-sharding", "fsdp_version: 2"):
        validate_environment()
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "0")
    with raises(CotbalError, "unsupported-sharding", "zero_stage: 1, 2 or 3"):
        validate_environment()


def test_the_recipe_says_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """And clipping and precision; `accelerate config` writes values of its own for all of them."""
    passed_over = {
        "GRADIENT_ACCUMULATION_STEPS": "auto",
        "GRADIENT_CLIPPING": "auto",
        "MIXED_PRECISION": "no",
    }
    for name, value in {
        "USE_DEEPSPEED": "true",
        "DEEPSPEED_ZERO_STAGE": "3",
        **dict.fromkeys(passed_over, "1"),
    }.items():
        monkeypatch.setenv(f"ACCELERATE_{name}", value)
    validate_environment()
    assert {name: os.environ[f"ACCELERATE_{name}"] for name in passed_over} == passed_over


def test_every_rank_loads_the_whole_model(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("USE_FSDP", "true"), ("USE_DEEPSPEED", "false")):
        monkeypatch.setenv(f"ACCELERATE_{name}", value)
    monkeypatch.setenv("FSDP_VERSION", "2")
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "true")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    validate_environment()
    assert os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] == "false"


def test_layers_are_those_that_the_model_has(checkpoint: Path) -> None:
    """The classes that docs/models.md names for LLaVA-1.5; CLIP's text model is not there."""
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    assert "CLIPTextEmbeddings" in model._no_split_modules
    assert layer_classes(model) == ["CLIPEncoderLayer", "CLIPVisionEmbeddings", "LlamaDecoderLayer"]


def test_a_checkpoint_without_shards_is_rejected(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    with raises(CotbalError, "incomplete-checkpoint", tmp_path, "trained_shards"):
        load_shards(model, torch.optim.SGD(model.parameters()), tmp_path)


def test_another_model_is_not_filled() -> None:
    with raises(CotbalError, "other-parameters", "bias"):
        gather_trained(nn.Linear(2, 2), nn.Linear(2, 2, bias=False))


def test_a_check_keeps_no_more_activations_than_the_training(checkpoint: Path) -> None:
    """Layers are run again in the backward pass of a check too, or it would not fit where the
    training does.
    """
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    model.activation_checkpointing_enable({"use_reentrant": False})
    model.train()
    with without_dropout(model):
        layers = {type(m).__name__: m.training for m in model.modules()}
    assert layers["LlamaDecoderLayer"]
    assert not layers["LlamaAttention"]
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("way", ["FSDP", "DEEPSPEED"])
def test_a_model_in_four_bits_is_not_sharded(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    for name, value in {f"ACCELERATE_USE_{way}": "true", "FSDP_VERSION": "2"}.items():
        monkeypatch.setenv(name, value)
    with raises(CotbalError, "unsupported-sharding", "model.quantization"):
        settle_sharding(SimpleNamespace(model=SimpleNamespace(is_quantized=True)), "bfloat16")
