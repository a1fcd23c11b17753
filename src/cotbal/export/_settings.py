"""The settings of a recipe as arguments that trainers based on Hugging Face's share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from cotbal.data.files import write_text
from cotbal.recipe.model_section import ModelSection
from cotbal.recipe.recipe import Recipe

NO_MODEL = "YOUR_MODEL"
PARTS = ("vision", "projector", "language")
MICRO_BATCH_MEAN = """\
- Its loss is the mean over the tokens of a micro-batch, then the mean over the micro-batches of a
  step: with small ones, tasks with short answers count for more than in cotbal.
"""
_REMARKS = """\
- The batch size is that of one device: on k devices, divide gradient_accumulation_steps by k.
- Images are named by absolute path and opened by the trainer. It may rotate them, and show
  transparency or gray images of more than 8 bits, in another way than cotbal.
"""


def model_of(recipe: Recipe) -> tuple[str, ModelSection]:
    """The base checkpoint and the model section; placeholders where the recipe has no model."""
    if recipe.file.model is None:
        return NO_MODEL, ModelSection(checkpoint=NO_MODEL)
    return recipe.checkpoint, recipe.file.model


def training_arguments(recipe: Recipe) -> dict[str, Any]:
    """`transformers.TrainingArguments`, without warm-up, whose field differs between versions."""
    s = recipe.file.optimization
    return {
        "num_train_epochs": s.epochs,
        "per_device_train_batch_size": s.micro_batch_size,
        "gradient_accumulation_steps": s.batch_size // s.micro_batch_size,
        "learning_rate": s.learning_rate,
        "lr_scheduler_type": s.schedule,
        "weight_decay": s.weight_decay,
        "max_grad_norm": s.max_grad_norm,
        "seed": s.seed,
    }


def tuned(section: ModelSection) -> str:
    """`lora` or `full`, by the language model: trainers have one setting for all parts."""
    return "lora" if section.language == "lora" else "full"


def parameter_dtype(section: ModelSection) -> str:
    """In which the trainer loads the parameters: float32 where they are trained in full, as in
    cotbal, since bfloat16 rounds small updates away. Trainers compute by autocast then.
    """
    return section.dtype if tuned(section) == "lora" else "float32"


def frozen(section: ModelSection) -> dict[str, bool]:
    """Part of the model -> whether it is frozen."""
    return {part: getattr(section, part) == "frozen" for part in PARTS}


def remarks(recipe: Recipe, freezes: bool) -> str:
    """What no trainer receives of the recipe's settings; a Markdown list.

    Args:
        freezes: whether the trainer's configuration freezes parts of the model.
    """
    checkpoint, section = model_of(recipe)
    text = _REMARKS
    if checkpoint == NO_MODEL:
        text += f"- The recipe names no model: put yours in place of {NO_MODEL}.\n"
    modes = {part: getattr(section, part) for part in PARTS}
    trained = {mode for mode in modes.values() if mode != "frozen"}
    if len(trained) > 1 or (not freezes and "frozen" in modes.values()):
        listed = ", ".join(f"{part} {mode}" for part, mode in modes.items())
        text += f"- How the recipe trains the parts of the model: {listed}.\n"
    return text + left_out(recipe)


def left_out(recipe: Recipe) -> str:
    """The tasks that are only evaluated, as an item of a Markdown list; empty without any."""
    names = ", ".join(task.name for task in recipe.mixture.only_evaluated)
    return f"- Without training data, so left out: {names}.\n" if names else ""


def write_yaml(path: Path, content: dict[str, Any]) -> None:
    """Write a configuration with its keys in this order."""
    write_text(path, yaml.safe_dump(content, sort_keys=False))
