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
        raise RecipeError(f"{path}: expected a recipe, found no such file; `cotbal init` writes a starter")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise RecipeError(
            f"{path}: expected a mapping of sections (name, tasks, model, ...); found {type(content).__name__}"
        )
    return content


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML lets a repeated key win silently; a task that is lost so would never be missed, so refuse it."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} cannot be a key", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def apply_override(content: dict[str, Any], override: str) -> None:
    """Change `content` as a text `key.subkey=value` says, the value in YAML.

    Raises:
        RecipeError: not of that form, or the key leads into something that is no section.
    """
    key, sign, text = override.partition("=")
    if not sign or not key:
        raise RecipeError(f"override: expected key=value such as optimization.epochs=2; found {override!r}")
    *sections, field = key.split(".")
    for section in sections:
        nested = content.setdefault(section, {})
        if not isinstance(nested, dict):
            raise RecipeError(f"override {override!r}: {section!r} is not a section of the recipe")
        content = nested
    try:
        content[field] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"override {override!r}: not readable as YAML: {' '.join(str(error).split())}") from None
