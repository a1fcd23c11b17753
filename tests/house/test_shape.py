"""Gates on the shape of the code: complexity, nesting, parameters, density, size, entries."""

from __future__ import annotations

import ast
import tokenize
from collections.abc import Iterator
from pathlib import Path

from helpers.syntax import MODULES, PACKAGE, ROOT, Function, functions, nodes

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
BRANCHES = (ast.If, ast.IfExp, ast.For, ast.While, ast.ExceptHandler, ast.Assert, ast.match_case)

MOST_COMPLEX = 12
MOST_PARAMETERS = 6
MOST_NODES_PER_LINE = 9.25  # to be lowered; TorchJD has 6.95
MOST_ENTRIES = 16
MANY_PARAMETERS = ("cli",)  # a command has one parameter per option


def location(path: Path, node: ast.expr | Function) -> str:
    name = f" {node.name}" if isinstance(node, Function) else ""
    return f"{path.relative_to(PACKAGE)}:{node.lineno}{name}"


def own_nodes(function: Function) -> Iterator[ast.AST]:
    """The nodes of a function without those of functions and classes inside it."""
    waiting = list(ast.iter_child_nodes(function))
    while waiting:
        node = waiting.pop()
        if not isinstance(node, Function | ast.ClassDef):
            yield node
            waiting += ast.iter_child_nodes(node)


def complexity(function: Function) -> int:
    """McCabe's number, with boolean operators, conditional expressions and comprehensions."""
    count = 1
    for node in own_nodes(function):
        if isinstance(node, BRANCHES):
            count += 1
        elif isinstance(node, ast.BoolOp):
            count += len(node.values) - 1
        elif isinstance(node, ast.comprehension):
            count += 1 + len(node.ifs)
    return count


def parameters(function: Function) -> int:
    arguments = function.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def inside(node: ast.AST, kinds: tuple[type[ast.AST], ...]) -> bool:
    return any(isinstance(other, kinds) for other in ast.walk(node) if other is not node)


def test_functions_are_simple() -> None:
    measured = {location(path, node): complexity(node) for path, node in functions()}
    assert {name: count for name, count in measured.items() if count > MOST_COMPLEX} == {}


def test_functions_have_few_parameters() -> None:
    measured = {
        location(path, node): parameters(node)
        for path, node in functions()
        if not path.relative_to(PACKAGE).as_posix().startswith(MANY_PARAMETERS)
    }
    assert {name: count for name, count in measured.items() if count > MOST_PARAMETERS} == {}


def nested(kinds: tuple[type[ast.expr], ...]) -> list[str]:
    """Where an expression of these kinds is inside another."""
    return [
        location(path, node)
        for path in MODULES
        for node in nodes(path)
        if isinstance(node, kinds) and inside(node, kinds)
    ]


def test_no_conditional_expression_inside_another() -> None:
    assert nested((ast.IfExp,)) == []


def test_no_comprehension_inside_another() -> None:
    assert nested(COMPREHENSIONS) == []


def test_lines_are_not_packed() -> None:
    lines = sum(len(code_lines(path)) for path in MODULES)
    assert sum(len(nodes(path)) for path in MODULES) / lines <= MOST_NODES_PER_LINE


def test_the_rules_look_at_something() -> None:
    measured = [complexity(node) for _, node in functions()]
    assert len(measured) > 1000
    assert max(measured) > 5


def code_lines(path: Path) -> set[int]:
    """Lines that hold code: neither empty nor part of a comment or docstring."""
    lines: set[int] = set()
    with tokenize.open(path) as file:
        for token in tokenize.generate_tokens(file.readline):
            if token.type in (tokenize.NAME, tokenize.OP, tokenize.NUMBER):
                lines.add(token.start[0])
            elif token.type == tokenize.STRING and token.line.lstrip()[:3] not in ('"""', 'r""'):
                lines.update(range(token.start[0], token.end[0] + 1))
    return lines


def test_no_line_is_kept_from_the_formatter() -> None:
    mark = "fmt" + ":"
    paths = [
        path for folder in ("src", "tests", "benchmarks") for path in ROOT.glob(f"{folder}/**/*.py")
    ]
    kept = [path for path in paths if f"# {mark}" in path.read_text(encoding="utf-8")]
    assert kept == []


def test_the_top_has_few_entries() -> None:
    entries = [p.name for p in PACKAGE.iterdir() if not p.name.startswith(("_", "."))]
    assert len([name for name in entries if name != "py.typed"]) <= MOST_ENTRIES, entries
