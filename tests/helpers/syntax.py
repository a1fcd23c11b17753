"""Syntax trees of source files. A process reads a file once for all rules of `tests/house`."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "cotbal"
MODULES = sorted(PACKAGE.rglob("*.py"))
Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Every node of a file."""
    return tuple(ast.walk(tree(path)))


@cache
def functions() -> tuple[tuple[Path, Function], ...]:
    """Every function and method of the package, with its file."""
    return tuple(
        (path, node) for path in MODULES for node in nodes(path) if isinstance(node, Function)
    )
