"""Loading, freezing and adapters."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForImageTextToText,
    HunYuanVLConfig,
    Llama4Config,
    PI0Config,
    PreTrainedConfig,
    PreTrainedModel,
    T5Gemma2Config,
)

from cotbal.errors import CotbalError, MissingDependency
from cotbal.recipe.model_section import Lora, ModelSection
from cotbal.training import vlm
from helpers import tiny_families
from helpers.errors import a_line_names, raises
from helpers.further_families import FURTHER
from helpers.rare_families import RARE
from helpers.tiny_vlm import BASE, build


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("vlm"))


def trained(checkpoint: Path, **ways: object) -> dict[str, bool]:
    model, _ = vlm.load(str(checkpoint), "float32", False)
    prepared = vlm.prepare(model, ModelSection(checkpoint="x", **ways))
    frozen_parts: dict[str, bool] = {}
    of = vlm.parts(prepared)
    for name, parameter in prepared.named_parameters():
        frozen_parts[of[name]] = frozen_parts.get(of[name], False) or parameter.requires_grad
    return frozen_parts


def test_each_part_is_trained_as_the_recipe_says(checkpoint: Path) -> None:
    assert trained(checkpoint) == {"vision": False, "projector": True, "language": True}
    assert trained(checkpoint, vision="full", language="frozen") == {
        "vision": True,
        "projector": True,
        "language": False,
    }
    assert trained(checkpoint, vision="lora", language="lora", projector="frozen") == {
        "vision": True,
        "projector": False,
        "language": True,
    }


def test_lora_trains_adapters_of_its_part_alone(checkpoint: Path) -> None:
    model, _ = vlm.load(str(checkpoint), "float32", False)
    prepared = vlm.prepare(
        model, ModelSection(checkpoint="x", language="lora", lora=Lora(targets=("q_proj",)))
    )
    of = vlm.parts(prepared)
    names = [
        name
        for name, p in prepared.named_parameters()
        if p.requires_grad and of[name] == "language"
    ]
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


def test_models_that_cannot_be_trained_are_rejected(checkpoint: Path, tmp_path: Path) -> None:
    with raises(CotbalError, "invalid-checkpoint", tmp_path):
        vlm.load(str(tmp_path), "float32", False)
    model, _ = vlm.load(str(checkpoint), "float32", False)
    with raises(CotbalError, "all-frozen"):
        vlm.prepare(model, ModelSection(checkpoint="x", projector="frozen", language="frozen"))
    with raises(CotbalError, "unknown-lora-target", "model.lora.targets", "language"):
        vlm.prepare(
            model,
            ModelSection(checkpoint="x", language="lora", lora=Lora(targets=("no_such_layer",))),
        )


def test_gradient_checkpointing_gives_the_same_gradient(checkpoint: Path) -> None:
    gradients = []
    for switched_on in (False, True):
        model, _ = vlm.load(str(checkpoint), "float32", False)
        prepared = vlm.prepare(
            model, ModelSection(checkpoint="x", gradient_checkpointing=switched_on)
        ).train()
        ids = torch.arange(30, 40)[None]
        prepared(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        gradients.append(
            torch.cat([p.grad.flatten() for p in prepared.parameters() if p.grad is not None])
        )
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
        torch.nn.functional.batch_norm(
            pixels, norm.running_mean, norm.running_var, norm.weight, norm.bias, False
        ),
    )
    assert torch.equal(norm.running_mean, before)
    assert prepared.training
    assert any(module.training for name, module in model.named_modules() if "lora_dropout" in name)


def test_activations_are_checkpointed_in_a_frozen_part_that_gradients_pass_through(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in LLaVA's first stage, which trains the projector below a frozen language model."""
    model, _ = vlm.load(str(checkpoint), "float32", False)
    settings = ModelSection(checkpoint="x", language="frozen", gradient_checkpointing=True)
    prepared = vlm.prepare(model, settings).train()
    layers = [
        m
        for name, m in prepared.named_modules()
        if re.search(r"language_model\.layers\.\d+$", name)
    ]
    calls: list[int] = []
    for layer in layers:
        monkeypatch.setattr(
            layer,
            "_gradient_checkpointing_func",
            lambda forward, *a: calls.append(1) or forward(*a),
        )
    ids = torch.arange(30, 40)[None]
    prepared(input_ids=ids, use_cache=False)
    assert len(calls) == len(layers) == 2
    assert not any(inner.training for layer in layers for inner in layer.children())
    prepared.eval()
    assert not any(layer.training for layer in layers)


def quantized(**more: object) -> tuple[torch.nn.Module, object]:
    settings = ModelSection(
        checkpoint="x", dtype="float32", language="lora", quantization="nf4", **more
    )
    model, processor = vlm.load(str(BASE), "float32", False, settings)
    return vlm.prepare(model, settings), processor


def test_qlora_holds_the_layers_under_adapters_in_four_bits() -> None:
    prepared, _ = quantized(lora=Lora(targets=("q_proj", "v_proj")))
    of = vlm.parts(prepared)
    four_bits = {
        name for name, p in prepared.named_parameters() if type(p).__name__ == "Params4bit"
    }
    assert four_bits
    assert all(
        of[name] == "language" and re.search(r"[qv]_proj\.base_layer\.weight$", name)
        for name in four_bits
    )
    assert {p.dtype for p in prepared.parameters() if p.requires_grad} == {torch.float32}
    ids = torch.arange(30, 40)[None]
    prepared(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    moved = {
        of[name]
        for name, p in prepared.named_parameters()
        if p.grad is not None and p.grad.norm() > 0
    }
    assert moved == {"language"}, "the text shows no image, so the projector has no gradient"


@pytest.mark.parametrize(
    ("asked", "tolerance"), [(False, 1e-4), (True, 0.2)], ids=["trained", "asked in between"]
)
def test_a_merged_qlora_is_an_ordinary_checkpoint(
    tmp_path: Path, asked: bool, tolerance: float
) -> None:
    """Adapters are on top of what the four bits stand for, unrounded: the logits are those of the
    training.

    On some CPUs bitsandbytes stores the weights in another order once the model was asked, with
    rounded constants.
    """
    prepared, processor = quantized()
    torch.manual_seed(0)
    for name, parameter in prepared.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    ids = torch.arange(30, 40)[None]
    with torch.no_grad():
        before = prepared.train()(input_ids=ids).logits
        if asked:
            prepared.eval()(input_ids=ids)
        untouched = vlm.load(str(BASE), "float32", False)[0](input_ids=ids).logits
    vlm.save_merged(prepared, processor, tmp_path / "merged", "float32")
    reloaded, _ = vlm.load(str(tmp_path / "merged"), "float32", False)
    assert not hasattr(reloaded.config, "quantization_config")
    with torch.no_grad():
        assert torch.allclose(reloaded(input_ids=ids).logits, before, atol=tolerance)
    assert not torch.allclose(before, untouched, atol=0.5)


def test_models_that_do_not_write_answers_behind_questions_are_rejected(tmp_path: Path) -> None:
    for name, config in (("t5", T5Gemma2Config()), ("pi0", PI0Config())):
        config.save_pretrained(tmp_path / name)
    with raises(CotbalError, "unsupported-model", tmp_path / "t5", "t5gemma2", "encoder-decoder"):
        vlm.load(str(tmp_path / "t5"), "float32", False)
    with raises(CotbalError, "unsupported-model", "PI0ForConditionalGeneration", "labels"):
        vlm.load(str(tmp_path / "pi0"), "float32", False)


def test_fused_experts_get_no_adapters_and_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, _ = vlm.load(
        str(tiny_families.build(FURTHER["qwen3_vl_moe"], tmp_path)), "float32", False
    )
    asked = Lora(targets=("q_proj", "gate_up_proj"))
    with raises(CotbalError, "unsupported-lora-target", "gate_up_proj", "experts"):
        vlm.prepare(model, ModelSection(checkpoint="x", language="lora", lora=asked))
    prepared = vlm.prepare(model, ModelSection(checkpoint="x", language="lora"))
    assert a_line_names(caplog.text, "LoRA", "4 parameters", "experts")
    assert not any(p.requires_grad for name, p in prepared.named_parameters() if "experts" in name)


def without_processor(name: str, kind: type[PreTrainedConfig]) -> PreTrainedModel:
    """A tiny model of a family whose processor needs torchvision."""
    words = tiny_families.tokenizer(RARE[name])
    return AutoModelForImageTextToText.from_config(
        kind(**RARE[name].config(words.convert_tokens_to_ids, len(words)), dtype="float32")
    )


def test_a_projector_inside_the_encoder_of_images_is_found() -> None:
    of = vlm.parts(without_processor("hunyuan_vl", HunYuanVLConfig))
    assert {name for name in of if of[name] == "projector"} == {
        name for name in of if ".patch_merger." in name
    }
    assert set(of.values()) == {"vision", "projector", "language"}


def test_routers_that_are_linear_by_class_alone_get_no_adapters(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The router of Llama 4 answers two things: an adapter on it ends in the first forward pass."""
    model = without_processor("llama4", Llama4Config)
    asked = Lora(targets=("q_proj", "router"))
    with raises(CotbalError, "unsupported-lora-target", "router"):
        vlm.prepare(model, ModelSection(checkpoint="x", language="lora", lora=asked))
    prepared = vlm.prepare(
        model, ModelSection(checkpoint="x", language="lora", gradient_checkpointing=True)
    ).train()
    assert a_line_names(caplog.text, "LoRA", "1 layers")
    # Though a layer is called down_proj too.
    assert a_line_names(caplog.text, "LoRA", "2 parameters", "experts")
    ids = torch.tensor([[5, 6, 7]])
    prepared(input_ids=ids, labels=ids).loss.backward()
    learnt = [
        name for name, p in prepared.named_parameters() if p.grad is not None and p.grad.norm() > 0
    ]
    assert any("shared_expert" in name for name in learnt)
    assert not any("router" in name for name in learnt)


def test_of_bitsandbytes_one_line_alone_is_hidden(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    logger.warning(
        "Failed to load CPU gemm_4bit_forward from kernels-community: %s.",
        "no module named kernels",
    )
    logger.warning("something else")
    assert [record.getMessage() for record in caplog.records] == ["something else"]


def test_quantization_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with raises(MissingDependency, "missing-dependency", "cotbal[qlora]"):
        quantized()
