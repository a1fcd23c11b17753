"""YAML read strictly: the types of YAML 1.2, no repeated keys, and errors in one sentence.

PyYAML reads YAML 1.1, where `12:00:00` is 43200, `no` is false and `0777` is 511. The core schema
of YAML 1.2.2 (section 10.3.2) has none of these: what is not null, a boolean or a number is text.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any, Literal

import yaml

from cotbal.errors import RecipeError

_MERGE = "tag:yaml.org,2002:merge"
_DEEPEST = 50  # levels; PyYAML composes by recursion
_MOST_REPEATED = 100_000  # values that all aliases together may stand for
_BEYOND_INTEGERS = 2**63
_CORE_SCHEMA = [
    (f"tag:yaml.org,2002:{kind}", re.compile(rf"(?:{pattern})\Z"))
    for kind, pattern in (
        ("null", r"~|null|Null|NULL|"),
        ("bool", r"true|True|TRUE|false|False|FALSE"),
        ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"),
        ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"),
        ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"),
        ("merge", r"<<"),
    )
]


def load_yaml(text: str, version: Literal["1.1", "1.2"] = "1.2") -> Any:
    """The value of a YAML text in which every key is given once.

    Args:
        version: whose rules say what a plain scalar is; 1.1 for files of programs that read it so.

    Raises:
        yaml.YAMLError: not YAML, a repeated key, or a tag of a Python object.
        ValueError: a number that does not fit its explicit tag.
    """
    return yaml.load(text, Loader=_CoreLoader if version == "1.2" else _UniqueKeyLoader)


def dump_yaml(content: Any) -> str:
    """`content` as YAML that readers of YAML 1.1 and of YAML 1.2 read alike."""
    text: str = yaml.dump(content, Dumper=_QuotingDumper, sort_keys=False, allow_unicode=True)
    return text


def read_yaml(path: Path, version: Literal["1.1", "1.2"] = "1.2") -> dict[str, Any]:
    """The mapping in a YAML file, in which every key is given once; see `load_yaml`.

    Raises:
        RecipeError: no such file, not YAML, or no mapping.
    """
    if not path.is_file():
        kind = "a directory" if path.is_dir() else "no such file"
        raise RecipeError(
            f"{path}: expected a recipe; found {kind}; `cotbal init` writes a starter",
            "missing-file",
        )
    try:
        content = load_yaml(path.read_text(encoding="utf-8"), version)
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(
            f"{_where(path, error)}: not readable as YAML: {_reason(error):.300}", "broken-file"
        ) from None
    if not isinstance(content, dict):
        kind = "an empty file" if content is None else type(content).__name__
        raise RecipeError(
            f"{path}: expected a mapping of sections (name, tasks, model, ...); found {kind}",
            "wrong-type",
        )
    return content


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML 1.1 with limits, so that a small file cannot take much time or memory.

    A repeated key is an error, since the later one would replace the earlier one silently. A merge
    (`<<: *defaults`) may repeat keys.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._repeated = 0
        self._sizes: dict[yaml.Node | None, int] = {}  # values in a whole node, aliases resolved
        self._merged: set[yaml.Node] = set()

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node; count levels, and the values that aliases repeat."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        is_alias = isinstance(event, yaml.AliasEvent)
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _error(f"more than {_DEEPEST} levels of nesting", event.start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if is_alias and node not in self._sizes:
            raise _error("an alias inside the value that it repeats", event.start_mark)
        if node not in self._sizes:
            self._sizes[node] = 1 + sum(self._sizes[child] for child in _children(node))
        if is_alias:
            self._repeated += self._sizes[node]
        if self._repeated > _MOST_REPEATED:
            limit = f"aliases that repeat more than {_MOST_REPEATED:,} values"
            raise _error(limit, event.start_mark)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node. PyYAML raises errors of many kinds on a value that does not fit its
        tag."""
        try:
            value = super().construct_object(node, deep)
        except (LookupError, AttributeError, ValueError, TypeError, OverflowError):
            kind = node.tag.rpartition(":")[2]
            problem = f"expected a value of the type {kind}; found {str(node.value)[:40]!r}"
            raise _error(problem, node.start_mark) from None
        if isinstance(value, int) and abs(value) >= _BEYOND_INTEGERS:
            raise _error("an integer of more than 64 bits", node.start_mark)
        return value

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Resolve merges; what is merged need not have been constructed before."""
        if node not in self._merged:
            self._merged.add(node)
            self._require_distinct_keys(node)
        super().flatten_mapping(node)

    def _require_distinct_keys(self, node: yaml.MappingNode) -> None:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            merges = key_node.tag == _MERGE
            key = "<<" if merges else self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise _error(f"{key!r} cannot be a key", key_node.start_mark)
            if key in seen:
                raise _error(f"key {key!r} is repeated", key_node.start_mark)
            seen.add(key)


def _error(problem: str, mark: yaml.Mark) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, mark)


def _children(node: yaml.Node | None) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


class _CoreLoader(_UniqueKeyLoader):
    """The core schema of YAML 1.2, and merges."""


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text: str = loader.construct_scalar(node)
    return int(text, 0 if text.startswith(("0o", "0x")) else 10)


_CoreLoader.yaml_implicit_resolvers = {None: _CORE_SCHEMA}
_CoreLoader.add_constructor("tag:yaml.org,2002:int", _construct_int)


class _QuotingDumper(yaml.SafeDumper):
    """Quotes what either version would read as something else than text."""


_QuotingDumper.yaml_implicit_resolvers = {
    **yaml.SafeDumper.yaml_implicit_resolvers,
    None: _CORE_SCHEMA,
}


def _where(path: Path, error: Exception) -> str:
    """The file, and the line where the error is."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return str(path)
    line, column = mark.line + 1, mark.column + 1
    return f"{path}, line {line}, column {column}"


def _reason(error: Exception) -> str:
    """The problem in one line, without PyYAML's excerpt of the file."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())
    problem = str(error.problem)
    if error.context and error.context_mark is not None:
        problem = f"{error.context} (which began in line {error.context_mark.line + 1}), {problem}"
    if "'\\t'" in problem:
        return f"{problem}: indent with spaces, not tabs"
    return (
        f"{problem}: is a line indented otherwise than its neighbours?"
        if "block end" in problem
        else problem
    )


def apply_override(content: dict[str, Any], override: str) -> None:
    """Set one value of `content`.

    Args:
        override: `key.subkey=value`, the value in YAML.

    Raises:
        RecipeError: the text has another form, or the key leads into something that is no section.
    """
    key, sign, text = override.partition("=")
    if not sign or not key:
        raise RecipeError(
            f"override: expected key=value such as optimization.epochs=2; found {override!r:.200}",
            "invalid-option",
        )
    *sections, field = key.split(".")
    for section in sections:
        nested = content.setdefault(section, {})
        if not isinstance(nested, dict):
            raise RecipeError(
                f"override {override!r:.200}: {section!r} is not a section of the recipe",
                "invalid-option",
            )
        content = nested
    try:
        content[field] = load_yaml(text)
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(
            f"override {override!r:.200}: not readable as YAML: {_reason(error):.300}",
            "invalid-option",
        ) from None
