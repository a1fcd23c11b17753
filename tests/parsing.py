"""Commands and snippets of documents, and command lines parsed as the program parses them, without
running anything.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import typer

from cotbal.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "AGENTS.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]


def name_of(page: Path) -> str:
    """Path of a page inside the repository."""
    return page.relative_to(ROOT).as_posix()


def text_of(page: str) -> str:
    """Text of a file of the repository."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a Markdown page in a language, without their indentation."""
    fence = re.compile(rf"^( *)```{language}[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
    return [
        re.sub(rf"^{indent}", "", body, flags=re.MULTILINE) for indent, body in fence.findall(text)
    ]


def shown(text: str) -> list[str]:
    """The `cotbal ...` lines of a page's bash blocks, continued lines joined, remarks left out."""
    commands = []
    for block in blocks(text, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("cotbal "):
                commands.append(re.sub(r"\s+#.*", "", line))
    return commands


def parsed(command: str) -> tuple[str, dict[str, Any]]:
    """Verb and parameters of a command; the usage error of the command line where it does not
    parse.
    """
    program, *words = shlex.split(command)
    assert program == "cotbal"
    node: Any = typer.main.get_command(app)
    context = node.make_context("cotbal", words)
    verbs = []
    while hasattr(node, "commands"):
        name, node, words = node.resolve_command(context, [*context._protected_args, *context.args])
        verbs.append(name)
        context = node.make_context(name, list(words), parent=context)
    return " ".join(verbs), context.params
