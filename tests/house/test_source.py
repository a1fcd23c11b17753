"""Rules for the source that a program can check; `make lint` checks the direction of imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from helpers.syntax import MODULES, ROOT, Function, functions, tree

LONGEST_FILE, LONGEST_FUNCTION = 400, 45


def statements(body: list[ast.stmt]) -> list[ast.stmt]:
    """A body without its docstring."""
    first = body[0] if body else None
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return body[1:] if is_docstring else body


def location(path: Path, node: ast.stmt | Function | ast.ClassDef, name: str) -> str:
    return f"{path.relative_to(ROOT)}:{node.lineno}: {name}"


def test_a_file_has_at_most_400_lines() -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {path: count for path, count in lines.items() if count > LONGEST_FILE} == {}


def test_a_function_has_at_most_45_lines() -> None:
    """Without its signature and docstring, which nobody should keep short to pass a test."""
    long = [(path, node) for path, node in functions() if length(node) > LONGEST_FUNCTION]
    assert [location(path, node, f"{node.name}, {length(node)} lines") for path, node in long] == []


def length(function: Function) -> int:
    """Lines of the body. The signature is left out: a verb has one parameter per flag."""
    body = statements(function.body)
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0  # type: ignore[operator]


def test_annotations_are_not_evaluated() -> None:
    """The first statement of a module is `from __future__ import annotations`."""
    bodies = {path: statements(tree(path).body) for path in MODULES}
    evaluated = [path for path, body in bodies.items() if body and not is_future(body[0])]
    assert evaluated == []


def is_future(first: ast.stmt) -> bool:
    return ast.unparse(first) == "from __future__ import annotations"


def test_whatever_is_public_has_a_docstring() -> None:
    bare = [
        location(path, node, node.name)
        for path in MODULES
        for node in public(tree(path).body)
        if ast.get_docstring(node) is None
    ]
    assert bare == []


def test_a_module_says_what_it_is_for() -> None:
    modules = [path for path in MODULES if statements(tree(path).body)]
    assert [path for path in modules if not ast.get_docstring(tree(path))] == []


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


def test_nothing_is_left_to_do() -> None:
    """No marks of unfinished work."""
    marks = ("TO" + "DO", "FIX" + "ME", "XX" + "X", "breakpoint" + "(")
    texts = {path: path.read_text(encoding="utf-8") for path in MODULES}
    unfinished = [(path, mark) for path, text in texts.items() for mark in marks if mark in text]
    assert unfinished == []


def test_a_file_is_named_after_what_it_holds() -> None:
    names = ("utils.py", "helpers.py", "misc.py", "common.py")
    assert [path for path in MODULES if path.name in names] == []


def test_the_rules_look_at_something() -> None:
    assert len(MODULES) > 40
    lengths = [length(node) for _, node in functions()]
    assert len(lengths) > 200
    assert max(lengths) > 15
