"""Reading a recipe's YAML strictly: nothing is lost in silence, and a fault is one sentence."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from cotbal.errors import RecipeError


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, in which every key stands once.

    Raises:
        RecipeError: no such file, not YAML, or no mapping.
    """
    if not path.is_file():
        found = "a directory" if path.is_dir() else "no such file"
        raise RecipeError(
            f"{path}: expected a recipe, found {found}; `cotbal init` writes a starter"
        )
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"{_place(path, error)}: not readable as YAML: {_reason(error)}"
        ) from None
    if not isinstance(content, dict):
        found = "an empty file" if content is None else type(content).__name__
        raise RecipeError(
            f"{path}: expected a mapping of sections (name, tasks, model, ...); found {found}"
        )
    return content


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML lets a repeated key win silently; a task that is lost so would never be missed, so
    refuse it.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key!r} cannot be a key", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _place(path: Path, error: Exception) -> str:
    """The file, and the line where the fault is."""
    mark = getattr(error, "problem_mark", None)
    return str(path) if mark is None else f"{path}, line {mark.line + 1}, column {mark.column + 1}"


def _reason(error: Exception) -> str:
    """What YAML says, in one line and without its drawing of the place."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())
    told = str(error.problem)
    if error.context and error.context_mark is not None:
        told = f"{error.context} (which began in line {error.context_mark.line + 1}), {told}"
    if "'\\t'" in told:
        return f"{told}: indent with spaces, not tabs"
    return (
        f"{told}: is a line indented otherwise than its neighbours?"
        if "block end" in told
        else told
    )


def apply_override(content: dict[str, Any], override: str) -> None:
    """Change `content` as a text `key.subkey=value` says, the value in YAML.

    Raises:
        RecipeError: not of that form, or the key leads into something that is no section.
    """
    key, sign, text = override.partition("=")
    if not sign or not key:
        raise RecipeError(
            f"override: expected key=value such as optimization.epochs=2; found {override!r}"
        )
    *sections, field = key.split(".")
    for section in sections:
        nested = content.setdefault(section, {})
        if not isinstance(nested, dict):
            raise RecipeError(f"override {override!r}: {section!r} is not a section of the recipe")
        content = nested
    try:
        content[field] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(
            f"override {override!r}: not readable as YAML: {_reason(error)}"
        ) from None
