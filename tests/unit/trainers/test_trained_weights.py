"""A resumed training continues from the trained weights, whatever names and parts the Trainer
itself keeps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForImageTextToText

from cotbal.errors import CotbalError
from cotbal.training.trainers.trained_weights import FILE, load_trained, save_trained
from helpers.errors import raises
from helpers.trainer_cases import flat, rows, trainer_of

SETTINGS = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "learning_rate": 0.5}


def full(checkpoint: Path) -> Any:
    return AutoModelForImageTextToText.from_pretrained(checkpoint)


def half_frozen(checkpoint: Path) -> Any:
    model = full(checkpoint)
    model.model.vision_tower.requires_grad_(False)
    return model


def adapters_and_projector(checkpoint: Path) -> Any:
    """LoRA on the language model; the norms beside it are trained in full, as a projector would
    be."""
    torch.manual_seed(0)
    model = get_peft_model(full(checkpoint), LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad or "layernorm" in name)
    return model


@pytest.mark.parametrize("build", [full, half_frozen, adapters_and_projector])
def test_resuming_continues_from_the_trained_weights(
    checkpoint: Path, tmp_path: Path, build: Any
) -> None:
    straight = trainer_of(build(checkpoint), tmp_path, 4, 4, **SETTINGS)
    straight.train()
    resumed = trainer_of(build(checkpoint), tmp_path, 4, 4, **SETTINGS)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    base = build(checkpoint).state_dict()
    for key, tensor in straight.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[key]), key
    moved = {
        "change": {key: tensor - base[key] for key, tensor in straight.model.state_dict().items()}
    }
    assert flat(moved).norm() > 0.1


def test_the_best_model_is_loaded_at_the_end(checkpoint: Path, tmp_path: Path) -> None:
    """With a step size that makes every step after the first one worse."""
    settings = {
        "eval_strategy": "steps",
        "eval_steps": 1,
        "load_best_model_at_end": True,
        "eval_dataset": rows(),
    }
    settings |= {"save_steps": 1, "learning_rate": 20.0}
    trainer = trainer_of(full(checkpoint), tmp_path, 4, 4, **{**SETTINGS, **settings})
    trainer.train()
    assert trainer.state.best_global_step < trainer.state.global_step
    best = full(checkpoint)
    load_trained(best, Path(trainer.state.best_model_checkpoint))
    for key, tensor in best.state_dict().items():
        assert torch.equal(tensor, trainer.model.state_dict()[key]), key


def test_a_checkpoint_without_the_file_is_rejected(checkpoint: Path, tmp_path: Path) -> None:
    trainer_of(full(checkpoint), tmp_path, 4, 4, **SETTINGS).train()
    (tmp_path / "checkpoint-2" / FILE).unlink()
    with raises(CotbalError, "incomplete-checkpoint", "checkpoint-2", FILE):
        trainer_of(full(checkpoint), tmp_path, 4, 4, **SETTINGS).train(
            resume_from_checkpoint=str(tmp_path / "checkpoint-2")
        )


def test_a_checkpoint_of_other_parts_is_rejected(checkpoint: Path, tmp_path: Path) -> None:
    save_trained(half_frozen(checkpoint), tmp_path)
    with raises(CotbalError, "other-parameters", tmp_path, "model.vision_tower"):
        load_trained(full(checkpoint), tmp_path)


def test_a_model_that_is_only_to_be_kept_has_no_file(checkpoint: Path, tmp_path: Path) -> None:
    trainer_of(full(checkpoint), tmp_path, 4, 4, **SETTINGS, save_only_model=True).train()
    assert not (tmp_path / "checkpoint-2" / FILE).exists()
