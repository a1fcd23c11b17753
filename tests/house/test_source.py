"""The rules of the house that a program can check: imports, lengths, docstrings."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "cotbal"
MODULES = sorted(SOURCE.rglob("*.py"))
LONGEST_FILE, LONGEST_FUNCTION = 400, 45
Function = ast.FunctionDef | ast.AsyncFunctionDef

by_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def statements(body: list[ast.stmt]) -> list[ast.stmt]:
    """A body without its docstring."""
    first = body[0] if body else None
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return body[1:] if is_docstring else body


def place(path: Path, node: ast.stmt | Function | ast.ClassDef, name: str) -> str:
    return f"{path.relative_to(ROOT)}:{node.lineno}: {name}"


def test_imports_go_one_way() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [command, "--no-logo", "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@by_module
def test_a_file_has_at_most_400_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


@by_module
def test_a_function_has_at_most_45_lines(path: Path) -> None:
    """Without its signature and docstring, which nobody should keep short to pass a test."""
    long = [
        f"{place(path, node, node.name)} has {length(node)} lines"
        for node in ast.walk(tree(path))
        if isinstance(node, Function) and length(node) > LONGEST_FUNCTION
    ]
    assert long == []


def length(function: Function) -> int:
    """Lines of the body. The signature is left out: a verb has one parameter per flag."""
    body = statements(function.body)
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0  # type: ignore[operator]


@by_module
def test_annotations_are_not_evaluated(path: Path) -> None:
    body = statements(tree(path).body)
    if not body:
        return
    first = body[0]
    assert isinstance(first, ast.ImportFrom), (
        "the first statement is `from __future__ import annotations`"
    )
    assert first.module == "__future__"
    assert [name.name for name in first.names] == ["annotations"]


@by_module
def test_whatever_is_public_has_a_docstring(path: Path) -> None:
    nodes = [node for node in public(tree(path).body) if ast.get_docstring(node) is None]
    assert [place(path, node, node.name) for node in nodes] == []
    if statements(tree(path).body):
        assert ast.get_docstring(tree(path)), "a module says what it is for"


def public(body: list[ast.stmt], inside_class: bool = False) -> Iterator[Function | ast.ClassDef]:
    """Functions, classes and methods whose name begins with a letter, as deep as classes go."""
    for node in body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            if not (inside_class and is_overload(node)):
                yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, inside_class=True)


def is_overload(node: Function | ast.ClassDef) -> bool:
    return any(isinstance(mark, ast.Name) and mark.id == "overload" for mark in node.decorator_list)


@by_module
def test_nothing_is_left_to_do(path: Path) -> None:
    """No marks of unfinished work, and no printing outside the command line."""
    text = path.read_text(encoding="utf-8")
    for mark in ("TO" + "DO", "FIX" + "ME", "XX" + "X", "breakpoint" + "("):
        assert mark not in text
    names = ("utils.py", "helpers.py", "misc.py", "common.py")
    assert path.name not in names, "a file says what it holds"


def test_the_rules_look_at_something() -> None:
    assert len(MODULES) > 40
    functions = [
        node for path in MODULES for node in ast.walk(tree(path)) if isinstance(node, Function)
    ]
    assert len(functions) > 200
    assert max(map(length, functions)) > 15
