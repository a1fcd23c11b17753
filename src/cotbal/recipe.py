"""Recipe: everything that determines a result, and nothing that does not. Strict YAML in and out."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, model_validator

from cotbal.errors import RecipeError
from cotbal.mixture import Mixture, Task
from cotbal.strict_yaml import apply_override, read_yaml

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$"
Name = Annotated[str, Field(pattern=NAME)]


def _fraction(value: object) -> Fraction:
    """YAML reads `1/32` as text; a float such as 0.03125 is accepted too."""
    try:
        return Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        raise ValueError("expected a fraction such as 1/32, or a number") from None


Rate = Annotated[
    Fraction,
    BeforeValidator(_fraction),
    PlainSerializer(str, return_type=str),
    Field(gt=0, le=1),
]
Training = Literal["frozen", "full", "lora"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskSection(_Section):
    """One task as written in the recipe; paths are relative to the recipe file."""

    train: Path
    validation: Path | None = None
    test: Path | dict[Name, Path] | None = None
    metric: str = "exact_match"
    test_metrics: tuple[str, ...] | None = None
    instruction: str | None = None
    group: Name | None = None
    balanced: bool = True

    @model_validator(mode="after")
    def _needs_validation(self) -> TaskSection:
        if self.balanced and self.validation is None:
            raise ValueError("a balanced task needs a validation set; give one, or set balanced: false")
        return self

    @model_validator(mode="after")
    def _splits_have_names_of_their_own(self) -> TaskSection:
        # Answers and scores lie in files named after the split.
        taken = {"train", "validation"} & set(self.test if isinstance(self.test, dict) else ())
        if taken:
            raise ValueError(f"a test split cannot be called {' or '.join(sorted(taken))}; give it another name")
        return self


class Lora(_Section):
    """Low-rank adapters (Hu et al. 2021) on the parts of the model that the recipe trains with `lora`."""

    rank: int = Field(16, ge=1)
    alpha: float = Field(32, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: tuple[str, ...] | None = None  # names of linear layers; None means every linear layer of the part


class ModelSection(_Section):
    """The base checkpoint and which of its parts are trained."""

    checkpoint: str
    vision: Training = "frozen"
    projector: Training = "full"
    language: Training = "full"
    lora: Lora = Lora()
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    max_length: int = Field(2048, ge=8)  # tokens, pictures included
    remote_code: bool = False
    gradient_checkpointing: bool = False


class Optimization(_Section):
    """How every run is trained; the defaults are those of the paper (Academic Benchmark)."""

    epochs: float = Field(1, gt=0)
    batch_size: int = Field(128, ge=1)  # records an optimizer step, over all devices
    micro_batch_size: int = Field(16, ge=1)  # records a device and a forward pass
    learning_rate: float = Field(2e-5, gt=0)
    schedule: Literal["cosine", "linear", "constant", "constant_with_warmup"] = "cosine"
    warmup_ratio: float = Field(0.03, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    normalizer: Literal["weights", "tokens"] = "weights"
    checkpoint_steps: int = Field(500, ge=1)
    seed: int = 0

    @model_validator(mode="after")
    def _micro_batches_fit(self) -> Optimization:
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size must be a multiple of micro_batch_size; found {self.batch_size}, {self.micro_batch_size}"
            )
        return self


class Generation(_Section):
    """Greedy generation of the answers that are scored."""

    max_new_tokens: int = Field(64, ge=1)
    batch_size: int = Field(32, ge=1)


class Portions(_Section):
    """Share of a task's records in its portions; mini lies inside large, large inside full."""

    large: Rate = Fraction(1)
    mini: Rate = Fraction(1, 32)
    seed: int = 0

    @model_validator(mode="after")
    def _nested(self) -> Portions:
        if self.mini > self.large:
            raise ValueError(f"mini must not be larger than large; found {self.mini} and {self.large}")
        return self


class BalanceSection(_Section):
    """How scores become weights (Eq. 3-11)."""

    form: Literal["standard"] = "standard"
    temperature: Annotated[float, Field(gt=0)] | Literal["auto"] = 0.5
    weight_range: tuple[float, float] = (0.5, 2.0)  # used by temperature: auto
    bootstrap: int = Field(2000, ge=100)  # resamples of the validation sets
    seed: int = 0

    @model_validator(mode="after")
    def _range_holds_one(self) -> BalanceSection:
        low, high = self.weight_range
        if not 0 < low < 1 < high:
            raise ValueError(f"weight_range must hold the mean weight 1 inside it; found [{low}, {high}]")
        return self


class RecipeFile(_Section):
    """The YAML file, field by field."""

    name: Name
    images: Path | None = None
    on_missing_image: Literal["error", "drop"] = "error"
    tasks: dict[Name, TaskSection] = Field(min_length=1)
    model: ModelSection | None = None
    optimization: Optimization = Optimization()
    generation: Generation = Generation()
    portions: Portions = Portions()
    balance: BalanceSection = BalanceSection()

    @model_validator(mode="after")
    def _groups_have_names_of_their_own(self) -> RecipeFile:
        for name, task in self.tasks.items():
            other = self.tasks.get(task.group or "")
            if other is not None and other.group != task.group:
                raise ValueError(f"tasks.{name}.group: {task.group!r} is a task outside that group; give another name")
        return self


@dataclass(frozen=True)
class Recipe:
    """A checked recipe with absolute paths.

    Attributes:
        path: the file it was read from.
        name: name of the job; the default run directory is `runs/<name>`.
        mixture: the tasks.
        images: root of relative picture paths.
        file: the sections as written (model, optimization, generation, portions, balance).
    """

    path: Path
    name: str
    mixture: Mixture
    images: Path
    file: RecipeFile

    @property
    def model(self) -> ModelSection:
        """The model section.

        Raises:
            RecipeError: the recipe has none; it can plan and check, but not train.
        """
        if self.file.model is None:
            raise RecipeError(f"{self.path}: expected a section `model` with a checkpoint to train; found none")
        return self.file.model

    @property
    def checkpoint(self) -> str:
        """The base checkpoint: a directory if there is one beside the recipe, otherwise the name of a hub model."""
        local = (self.path.parent / self.model.checkpoint).resolve()
        return str(local) if local.exists() else self.model.checkpoint

    @property
    def fingerprint(self) -> str:
        """Hash of the settings (not of the data, nor of where it lies), for a reader to tell two recipes apart."""
        content = self.file.model_dump(mode="json", exclude={"images"})
        for task in self.mixture.tasks:
            content["tasks"][task.name] |= {"train": None, "validation": task.validation is not None}
            content["tasks"][task.name] |= {"test": list(task.test), "test_metrics": list(task.test_metrics)}
        if self.file.model is not None:
            content["model"]["checkpoint"] = Path(self.checkpoint).name
        text = json.dumps(content, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_yaml(self) -> str:
        """The resolved recipe: every field, defaults included, paths absolute."""
        content = self.file.model_dump(mode="json")
        content["images"] = str(self.images)
        for task in self.mixture.tasks:
            entry = content["tasks"][task.name]
            entry["train"] = str(task.train)
            entry["validation"] = str(task.validation) if task.validation else None
            entry["test"] = {split: str(path) for split, path in task.test.items()}
            entry["test_metrics"] = list(task.test_metrics)
        if self.file.model is not None:
            content["model"]["checkpoint"] = self.checkpoint
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read, check and resolve a recipe; `overrides` are `key.subkey=value` texts, values in YAML.

    Raises:
        RecipeError: every fault of the file, one a line.
    """
    content = read_yaml(path)
    for override in overrides:
        apply_override(content, override)
    try:
        file = RecipeFile.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"{path}: the recipe is not valid:\n{_explain(error)}") from None
    root = path.resolve().parent
    tasks = tuple(_task(name, section, root) for name, section in file.tasks.items())
    if not any(task.balanced for task in tasks):
        raise RecipeError(f"{path}: expected at least one balanced task; every task says balanced: false")
    return Recipe(path.resolve(), file.name, Mixture(tasks), root / (file.images or "."), file)


def _explain(error: ValidationError) -> str:
    return "\n".join(f"  {_place(fault)}: {_message(fault)}" for fault in error.errors())


def _place(fault: Any) -> str:
    return ".".join(str(part) for part in fault["loc"]) or "recipe"


def _message(fault: Any) -> str:
    if fault["type"] == "extra_forbidden":
        field = str(fault["loc"][-1])
        close = difflib.get_close_matches(field, _all_fields(), n=1)
        return "unknown key" + (f"; did you mean {close[0]!r}?" if close else "")
    if fault["type"] == "missing":
        return "this key is required"
    found = "" if isinstance(fault["input"], dict) else f"; found {fault['input']!r}"
    return fault["msg"].removeprefix("Value error, ") + found


def _all_fields() -> list[str]:
    sections: list[type[BaseModel]] = [
        RecipeFile, TaskSection, ModelSection, Lora, Optimization, Generation, Portions, BalanceSection
    ]  # fmt: skip
    return [name for section in sections for name in section.model_fields]


def _task(name: str, section: TaskSection, root: Path) -> Task:
    tests = {} if section.test is None else section.test if isinstance(section.test, dict) else {"test": section.test}
    return Task(
        name=name,
        train=root / section.train,
        validation=root / section.validation if section.validation else None,
        test={split: root / path for split, path in tests.items()},
        metric=section.metric,
        test_metrics=section.test_metrics or (section.metric,),
        instruction=section.instruction,
        group=section.group,
        balanced=section.balanced,
    )
