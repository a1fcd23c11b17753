"""Annotations name what exists, also where mypy, which checks the package alone, does not look."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from helpers.syntax import ROOT, nodes

SOURCE = ROOT / "src"
FOLDERS = ("tests", "benchmarks", "examples")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


Nodes = tuple[ast.AST, ...]


@cache
def names_of(module: str) -> frozenset[str]:
    """What a module of the package defines or imports; empty when there is no such module."""
    path = SOURCE.joinpath(*module.split("."))
    package, file = path / "__init__.py", path.with_suffix(".py")
    if package.exists():
        return frozenset(bound(nodes(package))) | {entry.stem for entry in path.iterdir()}
    return frozenset(bound(nodes(file))) if file.exists() else frozenset()


def bound(of_file: Nodes) -> Iterator[str]:
    """Every name that a file binds somewhere."""
    for node in of_file:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def modules_in(of_file: Nodes) -> dict[str, str]:
    """Name in a file -> the module of the package that it stands for."""
    imports = [node for node in of_file if isinstance(node, ast.ImportFrom)]
    pairs = [(alias, node.module) for node in imports for alias in node.names]
    full = {alias.asname or alias.name: f"{module}.{alias.name}" for alias, module in pairs}
    return {name: module for name, module in full.items() if names_of(module)}


def annotations(of_file: Nodes) -> Iterator[ast.expr]:
    for node in of_file:
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            yield node.annotation
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns is not None:
            yield node.returns


def unknown(path: Path) -> Iterator[str]:
    of_file = nodes(path)
    known, modules = {*bound(of_file), *dir(builtins)}, modules_in(of_file)
    for node in (part for annotation in annotations(of_file) for part in ast.walk(annotation)):
        if isinstance(node, ast.Name) and node.id not in known:
            yield f"{path.name}:{node.lineno}: {node.id}"
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = modules.get(node.value.id)
            if module and node.attr not in names_of(module):
                yield f"{path.name}:{node.lineno}: {ast.unparse(node)}"


def test_annotations_name_what_exists() -> None:
    assert len(FILES) > 150
    assert [line for path in FILES for line in unknown(path)] == []


@pytest.mark.parametrize(
    ("annotation", "lines"),
    [
        ("pipeline.Nothing", ["a.py:4: pipeline.Nothing"]),
        ("Nothing", ["a.py:4: Nothing"]),
        ("list[pipeline.Prepared]", []),
        ("dict[str, list[int]]", []),
    ],
)
def test_what_does_not_exist_is_noticed(tmp_path: Path, annotation: str, lines: list[str]) -> None:
    code = f"from cotbal.jobs import pipeline\n\n\ndef made() -> {annotation}: ...\n"
    (tmp_path / "a.py").write_text(code)
    assert list(unknown(tmp_path / "a.py")) == lines
