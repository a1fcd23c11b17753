"""Files below a directory by pattern: linked directories are entered, and letter case may
differ."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

_Part = re.Pattern[str] | None  # None stands for any number of directories


def matching(folder: Path, pattern: str) -> list[Path]:
    """Every file below `folder` that matches, by name; once, where links lead to its directory
    twice.

    Where none matches as it is written, letter case does not count: `ChartQA/` is `chartqa/`.
    Hidden files and directories are passed over.

    Args:
        pattern: parts between slashes as in `fnmatch`; `**` is any number of directories.
    """
    for flag in (re.NOFLAG, re.IGNORECASE):
        parts = [
            None if part == "**" else re.compile(fnmatch.translate(part), flag)
            for part in pattern.split("/")
        ]
        if paths := sorted(map(Path, _below(str(folder), parts, ()))):
            break
    unique = {(os.path.realpath(path.parent), path.name): path for path in reversed(paths)}
    return sorted(unique.values())


def _below(folder: str, parts: Sequence[_Part], above: tuple[str, ...]) -> Iterator[str]:
    """Files that match the parts; a directory that is its own ancestor by a link is not entered."""
    part, *rest = parts
    above = (*above, os.path.realpath(folder))
    if part is None:
        yield from _below(folder, rest, above)
    for entry in os.scandir(folder):
        wanted = not entry.name.startswith(".") and (part is None or part.match(entry.name))
        if not wanted:
            continue
        if part is not None and not rest and entry.is_file():
            yield entry.path
        elif (
            (part is None or rest) and entry.is_dir() and os.path.realpath(entry.path) not in above
        ):
            yield from _below(entry.path, parts if part is None else rest, above)
