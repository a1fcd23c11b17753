"""Recipe: everything that determines a result, and nothing that does not. Strict YAML in and
out."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from cotbal import sections
from cotbal.errors import RecipeError, near
from cotbal.mixture import Mixture, Task
from cotbal.sections import ModelSection, RecipeFile, ResourcesSection, TaskSection
from cotbal.strict_yaml import apply_override, dump_yaml, read_yaml


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
            raise RecipeError(
                f"{self.path}: expected a section `model` with a checkpoint to train; found none"
            )
        return self.file.model

    @property
    def checkpoint(self) -> str:
        """The base checkpoint: a directory if there is one beside the recipe, otherwise the name of
        a hub model.
        """
        return self._located(self.model.checkpoint)

    def _located(self, checkpoint: str) -> str:
        local = (self.path.parent / checkpoint).resolve()
        return str(local) if local.exists() else checkpoint

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
    def seeds(self) -> tuple[int, ...]:
        """Training seeds of the probes."""
        return self.file.balance.seeds or (self.file.optimization.seed,)

    @property
    def resources(self) -> ResourcesSection:
        """What a run needs of the place that carries it out, with an absolute path."""
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
        content = self.file.model_dump(
            mode="json", exclude={"images": True, "resources": True, "probes": {"resources"}}
        )
        for task in self.mixture.tasks:
            content["tasks"][task.name] |= {
                "train": None,
                "validation": task.validation is not None,
            }
            content["tasks"][task.name] |= {
                "test": list(task.test),
                "test_metrics": list(task.test_metrics),
            }
        if self.file.model is not None:
            content["model"]["checkpoint"] = Path(self.checkpoint).name
        text = json.dumps(content, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_yaml(self) -> str:
        """The resolved recipe: every field, defaults included, paths absolute."""
        content = self.file.model_dump(mode="json")
        content["images"] = str(self.images)
        content["resources"] = self.resources.model_dump(mode="json")
        for task in self.mixture.tasks:
            entry = content["tasks"][task.name]
            entry["train"] = str(task.train)
            entry["validation"] = str(task.validation) if task.validation else None
            entry["test"] = {split: str(path) for split, path in task.test.items()}
            entry["test_metrics"] = list(task.test_metrics)
        if self.file.model is not None:
            content["model"]["checkpoint"] = self.checkpoint
        if self.file.probes is not None and "checkpoint" in self.file.probes.model:
            content["probes"]["model"]["checkpoint"] = self._located(
                self.file.probes.model["checkpoint"]
            )
        if self.file.probes is not None and self.file.probes.resources.get("accelerate_config"):
            content["probes"]["resources"]["accelerate_config"] = str(
                self.for_probes.resources.accelerate_config
            )
        return dump_yaml(content)


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
        raise RecipeError(
            f"{path}: expected at least one balanced task; every task says balanced: false"
        )
    return Recipe(path.resolve(), file.name, Mixture(tasks), root / (file.images or "."), file)


# Kinds of faults, by how pydantic begins their names, and what a person would say was expected.
_EXPECTED = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "string": "a text",
    "path": "a path",
    "tuple": "a list such as [a, b]",
    "dict": "keys with values",
    "model": "a section: keys with values",
    "too_short": "at least one entry",
}
_SAID = {"extra_forbidden": "unknown key", "missing": "this key is required"}
_MEMBER = re.compile(r"\[.*\]|constrained-(float|str)|.*-or-.*\[.*|(dict|literal)\[.*")


def _explain(error: ValidationError) -> str:
    """Every fault once, one a line; where values of several kinds may stand, the kinds are joined
    by `or`.
    """
    told: dict[tuple[str, ...], list[Any]] = {}
    for fault in error.errors():
        told.setdefault(_place(fault), []).append(fault)
    # Of a place and one inside it the inner one is at fault: the mapping itself was the right thing
    # to write there.
    outer = {
        place
        for place in told
        for other in told
        if len(place) < len(other) and other[: len(place)] == place
    }
    lines = []
    for place in [place for place in told if place not in outer]:
        texts = list(dict.fromkeys(map(_message, told[place])))
        joined = ", or ".join([texts[0], *(text.removeprefix("expected ") for text in texts[1:])])
        lines.append(f"  {'.'.join(place) or 'recipe'}: {joined}{_found(told[place][-1])}")
    return "\n".join(lines)


def _place(fault: Any) -> tuple[str, ...]:
    """Keys down to the fault, without the members of a union that pydantic names among them."""
    kind, parts = fault["type"].partition("_")[0], [str(part) for part in fault["loc"]]
    if parts and parts[-1] == kind and kind in ("int", "float"):
        parts.pop()
    return tuple(part for part in parts if not _MEMBER.fullmatch(part))


def _found(fault: Any) -> str:
    """What stood there, and the word that was probably meant."""
    if fault["type"] == "extra_forbidden":
        return near(str(fault["loc"][-1]), _all_fields())
    if fault["type"] in _SAID or isinstance(fault["input"], dict):
        return ""
    choices = (
        re.findall("'(.*?)'", fault["ctx"]["expected"]) if fault["type"] == "literal_error" else []
    )
    return f"; found {fault['input']!r}{near(str(fault['input']), choices)}"


def _message(fault: Any) -> str:
    kind, text = fault["type"], fault["msg"]
    if kind in _SAID:
        return _SAID[kind]
    if kind == "string_pattern_mismatch" and fault["ctx"]["pattern"] == sections.NAME:
        return "expected letters from A to Z, digits, `_`, `-` and `.`, the first a letter or digit"
    if kind == "literal_error":
        return f"expected {fault['ctx']['expected']}"
    if text.startswith(("Input should be greater", "Input should be less")):
        return f"expected a number {text.removeprefix('Input should be ')}"
    if kind == "string_pattern_mismatch":
        return f"expected a text that matches {fault['ctx']['pattern']}"
    plain = next((word for start, word in _EXPECTED.items() if kind.startswith(start)), None)
    return f"expected {plain}" if plain else text.removeprefix("Value error, ")


def _all_fields() -> list[str]:
    known = [
        each
        for each in vars(sections).values()
        if isinstance(each, type) and issubclass(each, BaseModel)
    ]
    return [name for section in known for name in section.model_fields]


def _task(name: str, section: TaskSection, root: Path) -> Task:
    tests = (
        {}
        if section.test is None
        else section.test
        if isinstance(section.test, dict)
        else {"test": section.test}
    )
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
