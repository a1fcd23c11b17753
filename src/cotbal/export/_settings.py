"""The settings of a recipe in the words that the trainers of Hugging Face and those built on them
share.
"""

from __future__ import annotations

from typing import Any

from cotbal.recipe.recipe import Recipe
from cotbal.recipe.schema import ModelSection

NO_MODEL = "YOUR_MODEL"


def model_of(recipe: Recipe) -> tuple[str, ModelSection]:
    """The base checkpoint and the model section; a placeholder and defaults where the recipe trains
    nothing itself.
    """
    section = recipe.file.model
    return (
        (NO_MODEL, ModelSection(checkpoint=NO_MODEL))
        if section is None
        else (recipe.checkpoint, section)
    )


def training_arguments(recipe: Recipe) -> dict[str, Any]:
    """Fields of `transformers.TrainingArguments`, but for warm-up, whose field differs between
    versions.
    """
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
    """`lora` where the language model is trained so, otherwise `full`; trainers have one answer for
    all parts.
    """
    return "lora" if section.language == "lora" else "full"


def frozen(section: ModelSection) -> dict[str, bool]:
    """Part of the model -> whether it stays as it is."""
    return {
        part: getattr(section, part) == "frozen" for part in ("vision", "projector", "language")
    }


def remarks(recipe: Recipe, freezes: bool) -> list[str]:
    """What no trainer receives of the recipe's settings, one sentence each.

    Args:
        freezes: whether the trainer's configuration says which parts stay as they are.
    """
    checkpoint, section = model_of(recipe)
    found = [
        (
            "The batch size is that of one device: on k devices, divide gradient_accumulation_steps"
            " by k."
        ),
        (
            "Images are named by absolute path and opened by the trainer, which may turn them, and"
            " show transparency or gray images of more than 8 bits, otherwise than cotbal does."
        ),
    ]
    if checkpoint == NO_MODEL:
        found.append(f"The recipe names no model: put yours in place of {NO_MODEL}.")
    ways = {part: getattr(section, part) for part in ("vision", "projector", "language")}
    if len({way for way in ways.values() if way != "frozen"}) > 1 or (
        not freezes and "frozen" in ways.values()
    ):
        found.append(
            "How the parts are trained: "
            + ", ".join(f"{part} {way}" for part, way in ways.items())
            + " in the recipe."
        )
    return found
