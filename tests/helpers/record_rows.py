"""Raw rows and files for the tests of records."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def llava(
    identity: str | None = "a",
    question: str = "<image>\nWhat?",
    answer: Any = "a frog",
    **more: Any,
) -> Any:
    row: dict[str, Any] = {"image": "a.png", "conversations": talk(question, answer), **more}
    return row if identity is None else {"id": identity, **row}


def talk(*texts: Any) -> list[dict[str, Any]]:
    return [
        {"from": ("human", "gpt")[index % 2], "value": text} for index, text in enumerate(texts)
    ]


def write(path: Path, rows: Iterable[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(list(rows), indent=1))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def image(path: Path, colour: str = "red", size: tuple[int, int] = (64, 64)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path
