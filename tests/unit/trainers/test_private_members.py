"""Private members of the Trainer and the SFTTrainer that our trainers override or call.

They may change with any release. The table was checked against transformers 5.23.0 and TRL 1.16.0;
where another version has other parameters, this test names the member to look at.
"""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
from transformers import Trainer
from trl import SFTTrainer

import cotbal.training.trainers

# member -> parameters without `self`; None for an attribute.
TRAINER: dict[str, tuple[str, ...] | None] = {
    "_get_grad_norm": ("model", "grad_norm"),
    "_get_output_dir": ("trial",),
    "_load_best_model": (),
    "_load_from_checkpoint": ("resume_from_checkpoint", "model"),
    "_load_optimizer_and_scheduler": ("checkpoint",),
    "_prepare_for_training": ("max_steps", "train_dataloader", "resume_from_checkpoint"),
    "_prepare_inputs": ("inputs",),
    "_save_checkpoint": ("model", "trial"),
    "_save_optimizer_and_scheduler": ("output_dir",),
    "_signature_columns": None,
}
SFT_TRAINER: dict[str, tuple[str, ...]] = {
    "_prepare_dataset": (
        "dataset",
        "processing_class",
        "args",
        "packing",
        "formatting_func",
        "dataset_name",
    ),
}
SOURCES = sorted(Path(cotbal.training.trainers.__file__).parent.glob("*.py"))


def private_names() -> set[str]:
    """Every private member of a trainer that our trainers name."""
    names: set[str] = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                names.add(node.name)
            elif isinstance(node, ast.Attribute):
                names.add(node.attr)
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


def test_the_table_is_complete() -> None:
    known = {*dir(Trainer), *dir(SFTTrainer), "_signature_columns"}
    theirs = {name for name in private_names() & known if name != "_name"}  # of PushToHubMixin
    assert theirs == {*TRAINER, *SFT_TRAINER}


@pytest.mark.parametrize("member", [name for name, takes in TRAINER.items() if takes is not None])
def test_the_trainer_has_these_parameters(member: str) -> None:
    assert parameters(Trainer, member) == TRAINER[member]


@pytest.mark.parametrize("member", SFT_TRAINER)
def test_the_sft_trainer_has_these_parameters(member: str) -> None:
    assert parameters(SFTTrainer, member) == SFT_TRAINER[member]


def test_columns_are_cached_where_we_clear_them() -> None:
    assert "self._signature_columns = None" in inspect.getsource(Trainer.__init__)


def parameters(trainer: type, member: str) -> tuple[str, ...]:
    return tuple(inspect.signature(getattr(trainer, member)).parameters)[1:]
