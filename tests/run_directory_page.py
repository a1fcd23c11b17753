"""The examples of docs/run_directory.md, held against files that commands wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGE = (Path(__file__).parents[1] / "docs" / "run_directory.md").read_text(encoding="utf-8")
NAMES = {"ocr", "vqa", "exact_match", "category"}  # of tasks, metrics and fields; a user has others


def tree() -> str:
    """What the page says of the files of a run directory."""
    found = re.search(r"^    runs/pocket/\n((?:      .*\n)+)", PAGE, re.MULTILINE)
    assert found is not None
    return found[1]


def example(file: str) -> Any:
    """The first indented block after the line that begins with the name of this file."""
    _, line, rest = PAGE.partition(f"\n`{file}`")
    assert line, f"no example of {file}"
    found = re.search(r"((?:^    .*\n)+)", rest, re.MULTILINE)
    assert found is not None
    return json.loads(found[1])


def differences(shown: Any, written: Any, place: str = "") -> Iterator[str]:
    """Where what the page shows has other keys or kinds of values than what was written."""
    if isinstance(shown, dict) and isinstance(written, dict):
        if shown.keys() <= NAMES:
            for name, value in written.items():
                yield from differences(next(iter(shown.values())), value, f"{place}.{name}")
            return
        for key in sorted(shown.keys() ^ written.keys()):
            yield f"{place}.{key}: only {'on the page' if key in shown else 'in the file'}"
        for key in shown.keys() & written.keys():
            yield from differences(shown[key], written[key], f"{place}.{key}")
    elif isinstance(shown, list) and isinstance(written, list):
        for value in written:
            yield from differences(shown[0], value, f"{place}[]")
    elif written is not None and kind(shown) is not kind(written):
        yield f"{place}: {shown!r} on the page, {written!r} in the file"


def kind(value: Any) -> type:
    """Kind of a JSON value; all numbers are of one kind."""
    return float if type(value) is int else type(value)
