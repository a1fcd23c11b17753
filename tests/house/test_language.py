"""Words that a reader of technical English would have to translate.

In source, docs, examples, tests and benchmarks; in names as well, whose parts are words. A ceiling
above 0 is what is left today: it may be lowered and never raised.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from helpers.syntax import ROOT, nodes

PAGES = ("README.md", "CONTRIBUTING.md", "AGENTS.md", "CHANGELOG.md")
UNITS = "task|seed|run|method|token|step|probe|unit|record|device|rank|row|giver|receiver|node|GPU"
CEILINGS = {
    rf"\b[Oo]ne a (?:{UNITS})\b": 0,  # one per task
    rf"\b[Oo]ne \w+ a (?:{UNITS})\b": 0,
    r"\bforetell": 0,  # predict
    r"\bhears? of\b": 0,  # receives
    r"\b(?:carr(?:y|ies|ied) out|carry_out)\b": 0,  # run
    r"\bmoved? aside\b": 0,  # archived
    r"\bcannot be told\b": 0,  # does not differ significantly
    r"\bshared out\b": 0,  # sharded, divided
    r"\banew\b": 0,  # rerun, recompute
    r"\b[Tt]old\b": 0,  # reports, receives
    r"\b(?:[Gg]oes|[Gg]o) on\b": 0,  # resumes, continues
    r"\bstands? in\b": 0,  # is in
    r"\bonce more\b": 0,  # again
    r"\bwishes\b": 0,  # options
}
# The thing itself is a better name: `scores`, `status`, `index`, `row`, `own_score`.
NAMES = ("found", "told", "place", "each", "own")


def modules(folder: str) -> list[Path]:
    """The files of a folder without this one, which lists the words."""
    return [path for path in sorted((ROOT / folder).rglob("*.py")) if path != Path(__file__)]


@cache
def texts() -> list[str]:
    paths = [*sorted((ROOT / "docs").rglob("*.md")), *(ROOT / name for name in PAGES)]
    for folder in ("src", "examples", "tests", "benchmarks"):
        paths += modules(folder)
    written = [path.read_text(encoding="utf-8") for path in paths]
    return [text + text.replace("_", " ") for text in written]


@pytest.mark.parametrize("pattern", CEILINGS)
def test_words_of_the_private_dialect_become_fewer(pattern: str) -> None:
    count = sum(len(re.findall(pattern, text)) for text in texts())
    assert count <= CEILINGS[pattern]


def bound(path: Path) -> Iterator[tuple[int, str]]:
    """Every name that a file binds, with its line."""
    for node in nodes(path):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name


def vague(folder: str) -> list[str]:
    """Where a folder binds one of NAMES."""
    return [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in modules(folder)
        for line, name in bound(path)
        if name in NAMES
    ]


@pytest.mark.parametrize("folder", ["src", "tests", "benchmarks", "examples"])
def test_names_say_what_they_hold(folder: str) -> None:
    assert vague(folder) == []
