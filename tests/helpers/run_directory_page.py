"""The examples of docs/run_directory.md, held against files that commands wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from helpers.parsing import blocks, text_of

PAGE = text_of("docs/run_directory.md")
# Of tasks, metrics, fields, files and generation settings; a user has others.
NAMES = {
    "ocr",
    "vqa",
    "exact_match",
    "category",
    "model.safetensors",
    "repetition_penalty",
    "do_sample",
}


def tree() -> str:
    """What the page says of the files of a run directory."""
    match = re.search(r"^runs/pocket/\n((?:  .*\n)+)", PAGE, re.MULTILINE)
    assert match is not None
    return match[1]


def example(file: str) -> Any:
    """The JSON block of the section of this file."""
    _, heading, rest = PAGE.partition(f"\n### `{file}`\n")
    assert heading, f"no section of {file}"
    (block,) = blocks(rest.partition("\n### ")[0], "json")
    return json.loads(block)


def differences(shown: Any, written: Any, where: str = "") -> Iterator[str]:
    """Where what the page shows has other keys or kinds of values than what was written."""
    if isinstance(shown, dict) and isinstance(written, dict):
        if shown.keys() <= NAMES:
            for name, value in written.items():
                yield from differences(next(iter(shown.values())), value, f"{where}.{name}")
            return
        for key in sorted(shown.keys() ^ written.keys()):
            yield f"{where}.{key}: only {'on the page' if key in shown else 'in the file'}"
        for key in shown.keys() & written.keys():
            yield from differences(shown[key], written[key], f"{where}.{key}")
    elif isinstance(shown, list) and isinstance(written, list):
        for value in written:
            yield from differences(shown[0], value, f"{where}[]")
    elif written is not None and kind(shown) is not kind(written):
        yield f"{where}: {shown!r} on the page, {written!r} in the file"


def kind(value: Any) -> type:
    """Kind of a JSON value; all numbers are of one kind."""
    return float if type(value) is int else type(value)
