"""Recipe: everything that determines a result, and nothing that does not. Strict YAML in and
out."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from cotbal.errors import RecipeError
from cotbal.recipe.explain import explain
from cotbal.recipe.mixture import TRAIN, Mixture, Task
from cotbal.recipe.model_section import ModelSection
from cotbal.recipe.runs import Run, is_replicated, plan_probes
from cotbal.recipe.schema import RecipeFile, ResourcesSection, TaskSection
from cotbal.recipe.strict_yaml import apply_override, dump_yaml, read_yaml


@dataclass(frozen=True)
class Recipe:
    """A checked recipe with absolute paths.

    Attributes:
        path: the file it was read from.
        name: name of the job; the default run directory is `runs/<name>`.
        mixture: the tasks.
        images: root of relative image paths.
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
            raise RecipeError(
                f"{self.path}: expected a section `model` with a checkpoint to train; found none",
                "missing-model",
            )
        return self.file.model

    @property
    def checkpoint(self) -> str:
        """The base checkpoint: a directory if there is one beside the recipe, otherwise the name of
        a hub model.
        """
        local = self.path.parent / self.model.checkpoint
        return str(local.resolve()) if os.path.exists(local) else self.model.checkpoint

    @property
    def for_probes(self) -> Recipe:
        """The recipe that probes are trained by: this one, but for what the section `probes`
        changes.
        """
        return replace(self, file=self.file.with_probes())

    @property
    def probes_differ(self) -> bool:
        """Whether probes are trained otherwise than final models; what they run on does not
        matter."""
        probes = self.file.probes
        return probes is not None and bool(probes.model or probes.optimization)

    @property
    def probes_have_a_model(self) -> bool:
        """Whether the model of the probes has another checkpoint or other settings."""
        return self.file.probes is not None and bool(self.file.probes.model)

    @property
    def confined(self) -> bool:
        """Whether images must be below `images`, wherever links lead."""
        return self.file.outside_images == "error"

    @property
    def seeds(self) -> tuple[int, ...]:
        """Training seeds of the probes."""
        return self.file.balance.seeds or (self.file.optimization.seed,)

    @property
    def replicates(self) -> int:
        """Trainings of the cheapest probe; 1 with several seeds."""
        return 1 if len(self.seeds) > 1 else self.file.balance.replicates

    @property
    def trainings(self) -> int:
        """How often the cheapest probe is trained."""
        return max(len(self.seeds), self.replicates)

    @property
    def probe_runs(self) -> tuple[Run, ...]:
        """The runs whose scores feed the equations."""
        section = self.file.balance
        return plan_probes(
            self.mixture, section.form, section.difficulty, self.seeds, self.replicates
        )

    def replicate_of(self, run: Run) -> int | None:
        """1 for a probe of a training seed of the recipe, 2 and more for its replicates; None for
        runs of other seeds.
        """
        if run.seed in self.seeds:
            return 1
        number = run.seed - self.seeds[0] + 1
        is_replicate = is_replicated(run.name, self.file.balance.form)
        return number if is_replicate and 1 < number <= self.replicates else None

    @property
    def resources(self) -> ResourcesSection:
        """What a run needs of the machines that it runs on, with an absolute path."""
        section = self.file.resources
        if section.accelerate_config is None:
            return section
        return section.model_copy(
            update={"accelerate_config": (self.path.parent / section.accelerate_config).resolve()}
        )

    @property
    def fingerprint(self) -> str:
        """Hash of the settings (not of the data, nor of where it lies), for a reader to tell two
        recipes apart.
        """
        files = {"train", "validation", "test"}
        settings = self.file.model_dump(
            mode="json",
            exclude={
                "images": True,
                "digest_images": True,
                "outside_images": True,
                "resources": True,
                "response": True,  # changes no probe and no final run
                "probes": {"resources"},
                "tasks": {"__all__": files},
            },
        )
        if self.file.model is not None:
            settings["model"]["checkpoint"] = Path(self.checkpoint).name
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

    def to_yaml(self) -> str:
        """The resolved recipe: every field, defaults included, paths absolute."""
        content = self.file.model_dump(mode="json")
        content["images"] = str(self.images)
        content["resources"] = self.resources.model_dump(mode="json")
        for task in self.mixture.tasks:
            entry = content["tasks"][task.name]
            for split in (TRAIN, "validation"):
                entry[split] = str(task.files[split]) if split in task.files else None
            entry["test"] = {split: str(path) for split, path in task.test.items()}
        if self.file.model is not None:
            content["model"]["checkpoint"] = self.checkpoint
        if self.file.probes is not None:
            of_probes = content["probes"]
            if "checkpoint" in of_probes["model"]:
                of_probes["model"]["checkpoint"] = self.for_probes.checkpoint
            if of_probes["resources"].get("accelerate_config"):
                of_probes["resources"]["accelerate_config"] = str(
                    self.for_probes.resources.accelerate_config
                )
        return dump_yaml(content)


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read, check and resolve a recipe; `overrides` are `key.subkey=value` texts, values in YAML.

    Raises:
        RecipeError: every error of the file, one per line.
    """
    content = read_yaml(path)
    for override in overrides:
        apply_override(content, override)
    try:
        file = RecipeFile.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"{path}: invalid recipe:\n{explain(error)}") from None
    root = path.resolve().parent
    tasks = tuple(_task(name, section, root) for name, section in file.tasks.items())
    if not any(task.balanced for task in tasks):
        raise RecipeError(
            f"{path}: expected at least one balanced task; every task has balanced: false or no"
            " training set",
            "no-balanced-task",
        )
    images = root / (file.images or ".")
    return Recipe(path.resolve(), file.name, Mixture(tasks), images, file)


def _task(name: str, section: TaskSection, root: Path) -> Task:
    tests = section.test or {}
    if not isinstance(tests, dict):
        tests = {"test": tests}
    return Task(
        name=name,
        train=None if section.train is None else root / section.train,
        validation=None if section.validation is None else root / section.validation,
        test={split: root / path for split, path in tests.items()},
        metric=section.metric,
        test_metrics=section.test_metrics or (section.metric,),
        instruction=section.instruction,
        group=section.group,
        balanced=section.balanced,
        choose=section.choose,
    )
