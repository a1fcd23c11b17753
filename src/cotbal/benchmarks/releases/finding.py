"""Files below a directory by pattern: linked directories are entered, and letter case may
differ."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable, Iterator, Sequence
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
        if paths := once(map(Path, _below(str(folder), parts, ()))):
            break
    return paths


def once(paths: Iterable[Path]) -> list[Path]:
    """The paths by name; of those that are one entry of one directory, behind links, the first."""
    ordered = sorted(paths, reverse=True)
    return sorted({(os.path.realpath(path.parent), path.name): path for path in ordered}.values())


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below `folder` that is not hidden, in no order; linked directories are entered."""
    return map(Path, _below(str(folder), (None, re.compile("")), ()))


def _below(folder: str, parts: Sequence[_Part], above: tuple[str, ...]) -> Iterator[str]:
    """Files that match the parts; a directory that is its own ancestor by a link is not entered."""
    part, *rest = parts
    above = (*above, os.path.realpath(folder))
    if part is None:
        yield from _below(folder, rest, above)
    try:
        entries = os.scandir(folder)
    except OSError:  # not there, or not ours to read: nothing is found below it
        return
    with entries:
        for entry in entries:
            if entry.name.startswith(".") or not (part is None or part.match(entry.name)):
                continue
            deeper = parts if part is None else rest
            if not deeper and entry.is_file():
                yield entry.path
            elif deeper and entry.is_dir() and os.path.realpath(entry.path) not in above:
                yield from _below(entry.path, deeper, above)


def directory(folder: Path, name: str) -> Path | None:
    """The directory of this name below `folder`; letter case does not count where none is exact."""
    for part in name.split("/"):
        names = sorted(os.listdir(folder)) if folder.is_dir() else ()
        alike = (each for each in names if each.lower() == part.lower())
        folder /= part if (folder / part).is_dir() else next(alike, part)
    return folder if folder.is_dir() else None
