"""Command lines of documents and scripts, parsed as the program parses them, without running
anything.
"""

from __future__ import annotations

import re
import shlex
from typing import Any

import typer

from cotbal.cli.app import app


def shown(text: str) -> list[str]:
    """The indented `cotbal ...` lines of a page in Markdown, continued lines joined, remarks left
    out.
    """
    found = re.findall(r"^    (cotbal (?:.*\\\n)*.*)$", text, re.MULTILINE)
    return [" ".join(re.sub(r"\s+#.*", "", command).split("\\\n")) for command in found]


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
