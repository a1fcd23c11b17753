"""docs/errors.md lists the codes that the source raises, each once, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "errors.md"
CODE = re.compile(r"^[a-z]+(-[a-z]+)+$")


def errors(tree: ast.AST) -> Iterator[ast.Call]:
    """Constructions of errors and problems: names that end so."""
    for node in ast.walk(tree):
        name = (
            node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
        )
        if re.fullmatch(r"\w+(Error|Problem|Failed|Reached|Images|Answer|Limit)|Problem", name):
            yield node


def literal_codes(path: Path) -> Iterator[str]:
    """Codes that a file writes: in errors, as defaults of classes, in pairs of message and code."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for call in errors(tree):
        given = [*call.args[1:], *(k.value for k in call.keywords if k.arg == "code")]
        yield from (
            value.value
            for value in given
            if isinstance(value, ast.Constant) and isinstance(value.value, str)
            if CODE.match(value.value)
        )
    for node in ast.walk(tree):
        target = node.target if isinstance(node, ast.AnnAssign) else None
        targets = node.targets if isinstance(node, ast.Assign) else [target]
        named = {t.id for t in targets if isinstance(t, ast.Name)} if any(targets) else set()
        if named & {"default_code", "code"} and isinstance(node.value, ast.Constant):
            yield str(node.value.value)


def test_the_page_lists_every_code_once() -> None:
    source = {code for path in (ROOT / "src").rglob("*.py") for code in literal_codes(path)}
    listed = re.findall(r"^\| `([a-z-]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert source - set(listed) == set(), "raised, but not on the page"
    texts = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    assert [code for code in listed if f'"{code}"' not in texts] == [], "listed, but not raised"
