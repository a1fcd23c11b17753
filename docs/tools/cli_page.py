"""The reference page of the command line, written from the Typer app: every command, every option.

python docs/tools/cli_page.py > cli.md
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from cotbal.cli.app import app

INTRODUCTION = """\
# Command line

This page is generated from the program. `cotbal COMMAND --help` shows the same text.
Exit codes: 0 for success, 1 where `cotbal verify` finds a difference, 2 for invalid input or failed
runs, 130 after Ctrl-C.
"""


def page() -> str:
    """The page in Markdown."""
    return "\n".join([INTRODUCTION, *(_section(*entry) for entry in _commands())])


def _commands() -> Iterator[tuple[str, Any]]:
    """Every command with its full name, subcommands included."""
    for name, command in typer.main.get_command(app).commands.items():
        if not hasattr(command, "commands"):
            yield f"cotbal {name}", command
            continue
        for inner, subcommand in command.commands.items():
            yield f"cotbal {name} {inner}", subcommand


def _section(name: str, command: Any) -> str:
    visible = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    arguments = [parameter for parameter in visible if parameter.param_type_name == "argument"]
    options = [parameter for parameter in visible if parameter.param_type_name == "option"]
    usage = " ".join([name, *map(_placeholder, arguments), *(["[OPTIONS]"] if options else [])])
    parts = [f"## {name}", command.help.strip(), f"```text\n{usage}\n```"]
    if arguments or options:
        rows = [_row(parameter) for parameter in (*arguments, *options)]
        parts.append(
            "\n".join(["| argument or option | meaning | default |", "|---|---|---|", *rows])
        )
    return "\n\n".join(parts) + "\n"


def _placeholder(argument: Any) -> str:
    name = argument.name.upper()
    name = name if argument.nargs == 1 else f"{name}..."
    return name if argument.required else f"[{name}]"


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        spelling = f"`{_placeholder(parameter)}`"
    else:
        spelling = ", ".join(
            f"`{option}`" for option in (*parameter.opts, *parameter.secondary_opts)
        )
    meaning = " ".join((getattr(parameter, "help", None) or "").split()).replace("|", "\\|")
    return f"| {spelling} | {meaning} | {_default(parameter)} |"


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    default = parameter.default
    if default is None or default is False or default in ((), []):
        return ""
    if default is True and parameter.param_type_name == "option":
        return f"`{parameter.opts[0]}`"
    values = default if isinstance(default, list | tuple) else [default]
    return ", ".join(f"`{getattr(value, 'value', value)}`" for value in values)


if __name__ == "__main__":
    print(page())
