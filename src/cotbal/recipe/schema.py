"""The sections of a recipe file, field by field, with their defaults."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from cotbal.balance.probes import Form
from cotbal.balance.settings import LARGEST_SEED, Section, Seed, Settings, not_boolean
from cotbal.recipe.mixture import Choose
from cotbal.recipe.model_section import Flag, ModelSection, without_none

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$"
Name = Annotated[str, Field(pattern=NAME)]


_TOO_LONG = re.compile(r".{100}|[eE][-+]?\d{4}", re.DOTALL)


def read_fraction(value: object) -> Fraction:
    """YAML reads `1/32` as text; a float such as 0.03125 is accepted too.

    Raises:
        ValueError: no fraction, or one of very many digits, which `1e-9999999` has too.
    """
    text = str(value)
    try:
        return Fraction("" if _TOO_LONG.search(text) else text)
    except (ValueError, ZeroDivisionError):
        raise ValueError("expected a fraction such as 1/32, or a number") from None


Rate = Annotated[
    Fraction,
    BeforeValidator(read_fraction),
    PlainSerializer(str, return_type=str),
    Field(gt=0, le=1),
]


Exponent = Annotated[float, Field(ge=0, le=1)]
Ratio = Annotated[float, BeforeValidator(not_boolean), Field(gt=0)]


def _different(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError("expected different numbers, at least one")
    return seeds


Seeds = Annotated[tuple[Seed, ...], AfterValidator(_different)]
Number = Annotated[int | float, BeforeValidator(not_boolean)]
Directive = Annotated[str, Field(pattern=r"^--[^\n]+$")]


class TaskSection(Section):
    """One task as written in the recipe; paths are relative to the recipe file.

    Without `train` the task is only evaluated, and `balanced` is false.
    """

    train: Path | None = None
    validation: Path | None = None
    test: Path | dict[Name, Path] | None = None
    metric: str = "exact_match"
    test_metrics: tuple[str, ...] | None = None
    instruction: str | None = None
    group: Name | None = None
    balanced: Flag = True
    choose: Choose | None = None  # the most likely option of a record, by sum or mean over tokens

    @model_serializer(mode="wrap")
    def _without_what_is_off(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Recipes from before there was `choose` keep their fingerprint.
        return without_none("choose", serialize(self))

    @model_validator(mode="before")
    @classmethod
    def _is_not_balanced_without_training_data(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and fields.get("train") is None:
            return {"balanced": False, **fields}
        return fields

    @model_validator(mode="after")
    def _can_be_evaluated_without_training_data(self) -> TaskSection:
        if self.train is not None:
            return self
        if self.validation is None and not self.test:
            raise ValueError(
                "a task needs a training set; give one, or a validation or test set to evaluate"
                " the task only"
            )
        for field, is_set in {"balanced": self.balanced, "group": self.group}.items():
            if is_set:
                raise ValueError(
                    f"a task without a training set is only evaluated and has no weight; leave out"
                    f" {field}, or give a training set"
                )
        return self

    @model_validator(mode="after")
    def _needs_validation(self) -> TaskSection:
        if self.balanced and self.validation is None:
            raise ValueError(
                "a balanced task needs a validation set; give one, or set balanced: false"
            )
        return self

    @model_validator(mode="after")
    def _splits_have_names_of_their_own(self) -> TaskSection:
        # Answers and scores lie in files named after the split.
        taken = {"train", "validation"} & set(self.test if isinstance(self.test, dict) else ())
        if taken:
            raise ValueError(
                f"a test split cannot be called {' or '.join(sorted(taken))}; give it another name"
            )
        return self


class Optimization(Section):
    """How every run is trained; the defaults are those of the paper (Academic Benchmark)."""

    epochs: float = Field(1, gt=0)
    batch_size: int = Field(128, ge=1)  # records an optimizer step, over all devices
    micro_batch_size: int = Field(16, ge=1)  # records per device and a forward pass
    packing: Flag = False  # several records per row of at most max_length tokens, no padding
    group_by_length: Flag = True  # within an optimizer step: less padding, the same update
    learning_rate: float = Field(2e-5, gt=0)
    schedule: Literal["cosine", "linear", "constant", "constant_with_warmup"] = "cosine"
    warmup_ratio: float = Field(0.03, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    normalizer: Literal["weights", "tokens", "per_device"] = "weights"
    checkpoint_steps: int = Field(500, ge=1)
    seed: Seed = 0
    # Exponent of temperature sampling, 1: every record once; or a ratio by task or group, else 1.
    sampling: Exponent | dict[Name, Ratio] = 1.0
    # How often an epoch may show a record, where tasks are sampled by ratios.
    max_passes: float = Field(4, ge=1)

    @model_validator(mode="after")
    def _micro_batches_fit(self) -> Optimization:
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size must be a multiple of micro_batch_size; found {self.batch_size},"
                f" {self.micro_batch_size}"
            )
        return self


class Generation(Section):
    """Greedy generation of the answers that are scored."""

    max_new_tokens: int = Field(64, ge=1)
    batch_size: int = Field(32, ge=1)


class Portions(Section):
    """Share of a task's records in its portions; mini lies inside large and is less of it, large
    inside full.
    """

    large: Rate = Fraction(1)
    mini: Rate = Fraction(1, 32)
    seed: Seed = 0

    @model_validator(mode="after")
    def _nested(self) -> Portions:
        # If they were equal, every probe would be the same training.
        if self.mini >= self.large:
            raise ValueError(f"mini must be smaller than large; found {self.mini} and {self.large}")
        return self


class BalanceSection(Settings):
    """How scores become weights (Eq. 3-11, 15-17), and the training seeds of the probes."""

    form: Form = "standard"
    seeds: Seeds | None = None  # training seeds of the probes; None: that of optimization
    # Trainings of the cheapest probe with different seeds: they show the noise of training. 1: off.
    # Not used with several seeds, which show it themselves.
    replicates: int = Field(3, ge=1)


class ResponseSection(Section):
    """The trials of `cotbal response`: which weights are tried, and on how much of the data."""

    runs: int | None = Field(None, ge=4, multiple_of=2)  # None: as many as separate all effects
    step: float = Field(0.75, gt=0, le=3)  # doublings of a weight, up and down
    seeds: Seeds | None = None  # training seeds of the trials; None: that of optimization, the next
    # Of every task's training records; None: all trials together cost 2.5 final runs.
    fraction: Rate | None = None
    lever: Literal["weights", "ratios"] = "weights"


class ResourcesSection(Section):
    """What one run needs of the machines that it runs on. It changes no result, so no run is
    identified by it.
    """

    gpus: int = Field(1, ge=0)  # of a run, over all its nodes; 0: CPUs alone
    nodes: int = Field(1, ge=1)
    ranks: int | None = Field(None, ge=1)  # processes of a run without GPUs
    cpus: int | None = Field(None, ge=1)  # cores on every node of the run
    # On every node of the run, such as 64G.
    memory: str | None = Field(None, pattern=r"^[1-9]\d*[KMGT]?$")
    # Limit of a run's time; a run that reaches it resumes from its checkpoint.
    hours: float | None = Field(None, gt=0)
    partition: str | None = Field(None, min_length=1)
    directives: tuple[Directive, ...] = ()  # more for sbatch, such as --account=lab
    setup: tuple[str, ...] = ()  # shell commands before the run, such as `module load cuda`
    # Start the ranks with `accelerate launch` and this file, not with torchrun.
    accelerate_config: Path | None = None
    # Processes per rank that open images; 4 on a GPU, else none.
    dataloader_workers: int | None = Field(None, ge=0)
    # Memory of a process for what a frozen vision tower computes of every image, and the size of
    # the files in which runs share it; auto: 1G.
    image_features: str = Field("auto", pattern=r"^(auto|off|[1-9]\d*[KMGT])$")
    # In a row without progress, after a run was killed or its node was lost.
    retries: int = Field(3, ge=0)

    @model_validator(mode="after")
    def _jobs_can_be_found_again(self) -> ResourcesSection:
        """Options, written out or short, after which the queue no longer shows one job of our
        name."""
        for option in self.directives:
            name = option[2:].partition("=")[0]
            if any(
                whole.startswith(name)
                for whole in ("array", "clusters", "job-name", "test-only", "wait")
            ):
                raise ValueError(
                    f"{option} is not for directives: every run is one job, found by its name in"
                    " the queue of this cluster (another cluster: the variable SLURM_CLUSTERS)"
                )
        return self

    @model_validator(mode="after")
    def _nodes_are_alike(self) -> ResourcesSection:
        if self.gpus and self.ranks not in (None, self.gpus):
            raise ValueError(
                f"there is one process per GPU; leave out ranks, or set gpus: 0; found {self.ranks}"
                " ranks"
            )
        for name, count in (("gpus", self.gpus), ("ranks", self.processes)):
            if count % self.nodes:
                raise ValueError(
                    f"{name} must be a multiple of nodes; found {count} on {self.nodes} nodes"
                )
        return self

    @property
    def processes(self) -> int:
        """Processes of a run: one per GPU, or as many as `ranks` says."""
        return self.gpus or self.ranks or self.nodes

    @property
    def feature_bytes(self) -> int:
        """`image_features` in bytes; 0 if it is off."""
        size = {"auto": "1G", "off": "0G"}.get(self.image_features, self.image_features)
        return int(size[:-1]) * 1024 ** ("KMGT".index(size[-1]) + 1)


class ProbesSection(Section):
    """Fields of other sections that probes have otherwise than final runs: cheaper probes, on fewer
    GPUs.
    """

    model: dict[str, Any] = Field({})
    optimization: dict[str, Any] = Field({})
    resources: dict[str, Any] = Field({})


class RecipeFile(Section):
    """The YAML file, field by field."""

    name: Name
    images: Path | None = None
    on_missing_image: Literal["error", "drop"] = "error"
    digest_images: bool = False  # recognise replaced images by all of their bytes
    # Images whose files, links resolved, are not below `images`.
    outside_images: Literal["error", "allow"] = "error"
    tasks: dict[Name, TaskSection] = Field(min_length=1)
    model: ModelSection | None = None
    optimization: Optimization = Optimization()
    generation: Generation = Generation()
    portions: Portions = Portions()
    balance: BalanceSection = BalanceSection()
    response: ResponseSection = ResponseSection()
    probes: ProbesSection | None = None
    resources: ResourcesSection = ResourcesSection()
    weightings: dict[str, dict[str, Number]] = Field({})  # options, such as dwa: {window: 25}

    @model_validator(mode="after")
    def _probes_can_be_made(self) -> RecipeFile:
        if self.probes is not None:
            self.with_probes()
        return self

    @model_validator(mode="after")
    def _derived_seeds_fit(self) -> RecipeFile:
        first = (self.balance.seeds or (self.optimization.seed,))[0]
        further = max(1, self.balance.replicates - 1)  # of replicates, and of the trials
        if first + further > LARGEST_SEED:
            raise ValueError(
                f"seeds of replicates and trials follow the first, {first}, and must not exceed"
                f" {LARGEST_SEED}; give a smaller one"
            )
        return self

    def with_probes(self) -> RecipeFile:
        """The file as the probes see it."""
        if self.probes is None:
            return self
        if self.probes.model and self.model is None:
            raise ValueError("probes.model changes a model, but there is no section model")
        changed = {"model": self.model and _changed("model", self.model, self.probes.model)}
        changed["optimization"] = _changed(
            "optimization", self.optimization, self.probes.optimization
        )
        changed["resources"] = _changed("resources", self.resources, self.probes.resources)
        return self.model_copy(update={**changed, "probes": None})

    @model_validator(mode="after")
    def _groups_have_names_of_their_own(self) -> RecipeFile:
        for name, task in self.tasks.items():
            other = self.tasks.get(task.group or "")
            if other is not None and other.group != task.group:
                raise ValueError(
                    f"tasks.{name}.group: {task.group!r} is a task outside that group; give another"
                    " name"
                )
        return self


def _changed(name: str, section: Section, changes: dict[str, Any]) -> Any:
    try:
        return type(section).model_validate({**section.model_dump(), **changes})
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()
        ]
        raise ValueError(f"probes.{name}.{'; '.join(problems)}") from None
