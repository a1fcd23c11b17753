"""Files below a directory by pattern: linked directories are entered, and letter case may
differ."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

_Part = re.Pattern[str] | None  # None means any number of directories


def matching(folder: Path, pattern: str) -> list[Path]:
    """Every file below `folder` that matches, by name; once, where links lead to its directory
    twice.

    Where none matches as it is written, letter case does not count: `ChartQA/` is `chartqa/`.
    Hidden files and directories are passed over.

    Args:
        pattern: parts between slashes as in `fnmatch`; `**` is any number of directories.
    """
    return _matching(folder, pattern, re.NOFLAG) or _matching(folder, pattern, re.IGNORECASE)


def _matching(folder: Path, pattern: str, flag: re.RegexFlag) -> list[Path]:
    parts = [
        None if part == "**" else re.compile(fnmatch.translate(part), flag)
        for part in pattern.split("/")
    ]
    return once(map(Path, _below(str(folder), parts, ())))


def once(paths: Iterable[Path]) -> list[Path]:
    """The paths by name; of those that are one entry of one directory, behind links, the first."""
    ordered = sorted(paths, reverse=True)
    distinct = {}
    for path in ordered:
        distinct[os.path.realpath(path.parent), path.name] = path
    return sorted(distinct.values())


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below `folder` that is not hidden, in no order; linked directories are entered."""
    return map(Path, _below(str(folder), (None, re.compile("")), ()))


def _below(folder: str, parts: Sequence[_Part], above: tuple[str, ...]) -> Iterator[str]:
    """Files that match the parts; a directory that is its own ancestor by a link is not entered."""
    part, *rest = parts
    above = (*above, os.path.realpath(folder))
    if part is None:
        yield from _below(folder, rest, above)
    deeper = parts if part is None else rest
    for entry in _entries(folder):
        if part is not None and not part.match(entry.name):
            continue
        if not deeper:
            if entry.is_file():
                yield entry.path
        elif entry.is_dir() and os.path.realpath(entry.path) not in above:
            yield from _below(entry.path, deeper, above)


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    """What is in a folder and not hidden; nothing for one that is absent or not readable."""
    try:
        entries = os.scandir(folder)
    except OSError:
        return
    with entries:
        yield from (entry for entry in entries if not entry.name.startswith("."))


def directory(folder: Path, name: str) -> Path | None:
    """The directory of this name below `folder`; letter case does not count where none is exact."""
    for part in name.split("/"):
        exact = folder / part
        if folder.is_dir() and not exact.is_dir():
            alike = (name for name in sorted(os.listdir(folder)) if name.lower() == part.lower())
            exact = folder / next(alike, part)
        folder = exact
    return folder if folder.is_dir() else None
