"""Loading, freezing and adapters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cotbal import vlm
from cotbal.errors import CotbalError
from cotbal.sections import Lora, ModelSection
from tiny_vlm import build


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("vlm"))


def trained(checkpoint: Path, **ways: object) -> dict[str, bool]:
    model, _ = vlm.load(str(checkpoint), "float32", False)
    prepared = vlm.prepare(model, ModelSection(checkpoint="x", **ways))
    found: dict[str, bool] = {}
    for name, parameter in prepared.named_parameters():
        found[vlm.part_of(name)] = found.get(vlm.part_of(name), False) or parameter.requires_grad
    return found


def test_each_part_is_trained_as_the_recipe_says(checkpoint: Path) -> None:
    assert trained(checkpoint) == {"vision": False, "projector": True, "language": True}
    assert trained(checkpoint, vision="full", language="frozen") == {
        "vision": True,
        "projector": True,
        "language": False,
    }
    assert trained(checkpoint, vision="lora", language="lora", projector="frozen") == {
        "vision": True, "projector": False, "language": True,
    }  # fmt: skip


def test_lora_trains_adapters_of_its_part_alone(checkpoint: Path) -> None:
    model, _ = vlm.load(str(checkpoint), "float32", False)
    prepared = vlm.prepare(model, ModelSection(checkpoint="x", language="lora", lora=Lora(targets=("q_proj",))))
    names = [name for name, p in prepared.named_parameters() if p.requires_grad and vlm.part_of(name) == "language"]
    assert names
    assert all("lora_" in name and "q_proj" in name for name in names)


def test_merged_adapters_give_the_same_logits(checkpoint: Path, tmp_path: Path) -> None:
    model, processor = vlm.load(str(checkpoint), "float32", False)
    prepared = vlm.prepare(model, ModelSection(checkpoint="x", language="lora"))
    for name, parameter in prepared.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    ids = torch.arange(30, 40)[None]
    with torch.no_grad():
        before = prepared(input_ids=ids).logits
        untouched = vlm.load(str(checkpoint), "float32", False)[0](input_ids=ids).logits
    vlm.save_merged(prepared, processor, tmp_path / "merged", "float32")
    reloaded, _ = vlm.load(str(tmp_path / "merged"), "float32", False)
    with torch.no_grad():
        assert torch.allclose(reloaded(input_ids=ids).logits, before, atol=1e-4)
    assert not torch.allclose(before, untouched, atol=1e-2)


def test_trained_parameters_are_float32_even_in_a_bfloat16_model(checkpoint: Path) -> None:
    model, _ = vlm.load(str(checkpoint), "bfloat16", False)
    prepared = vlm.prepare(model, ModelSection(checkpoint="x"))
    dtypes = {p.requires_grad: p.dtype for p in prepared.parameters()}
    assert dtypes == {True: torch.float32, False: torch.bfloat16}


def test_faults_have_one_clear_sentence(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(CotbalError, match="checkpoint"):
        vlm.load(str(tmp_path), "float32", False)
    model, _ = vlm.load(str(checkpoint), "float32", False)
    with pytest.raises(CotbalError, match="frozen"):
        vlm.prepare(model, ModelSection(checkpoint="x", projector="frozen", language="frozen"))
    with pytest.raises(CotbalError, match="targets"):
        vlm.prepare(model, ModelSection(checkpoint="x", language="lora", lora=Lora(targets=("no_such_layer",))))


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("model.vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight", "vision"),
        ("model.multi_modal_projector.linear_1.weight", "projector"),
        ("model.language_model.layers.0.mlp.up_proj.weight", "language"),
        ("model.visual.blocks.0.attn.qkv.weight", "vision"),
        ("model.visual.merger.mlp.0.weight", "projector"),
        ("model.connector.modality_projection.proj.weight", "projector"),
        ("base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_A.default.weight", "language"),
        ("lm_head.weight", "language"),
    ],
)
def test_parts_by_name(name: str, part: str) -> None:
    assert vlm.part_of(name) == part


def test_gradient_checkpointing_gives_the_same_gradient(checkpoint: Path) -> None:
    gradients = []
    for switched_on in (False, True):
        model, _ = vlm.load(str(checkpoint), "float32", False)
        prepared = vlm.prepare(model, ModelSection(checkpoint="x", gradient_checkpointing=switched_on)).train()
        ids = torch.arange(30, 40)[None]
        prepared(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in prepared.parameters() if p.grad is not None]))
        assert model.is_activation_checkpointing == switched_on
    assert torch.allclose(*gradients, atol=1e-6)


def test_a_frozen_part_is_a_fixed_function_in_training_mode(checkpoint: Path) -> None:
    """Also where it normalizes by batch statistics, as convolutional towers do."""
    model, _ = vlm.load(str(checkpoint), "float32", False)
    model.model.vision_tower.add_module("norm", torch.nn.BatchNorm1d(3))
    prepared = vlm.prepare(model, ModelSection(checkpoint="x", language="lora"))
    prepared.train()
    norm, pixels = model.model.vision_tower.norm, torch.randn(8, 3)
    before = norm.running_mean.clone()
    assert torch.equal(
        norm(pixels),
        torch.nn.functional.batch_norm(pixels, norm.running_mean, norm.running_var, norm.weight, norm.bias, False),
    )
    assert torch.equal(norm.running_mean, before)
    assert prepared.training
    assert any(module.training for name, module in model.named_modules() if "lora_dropout" in name)
