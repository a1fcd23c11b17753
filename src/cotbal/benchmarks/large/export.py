"""Rows of M3IT in the four columns that its loader gives, exported once (the loader draws
instructions at random).

Where M3IT has no test split, validation is drawn into two halves by the seed; the smaller one, if
they differ, is test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from cotbal.benchmarks.large.embedded import write_image
from cotbal.benchmarks.large.sets import DataSet
from cotbal.benchmarks.releases.conversation import Asked, Conversation
from cotbal.benchmarks.releases.rows import Row, json_lines, parquet_columns, parquet_count
from cotbal.benchmarks.releases.rules import drawn, without_marker
from cotbal.benchmarks.releases.sources import Files, Job, Read, Source
from cotbal.errors import DataError

COLUMNS = ("instruction", "inputs", "image_base64_str", "outputs")
_GET = (
    "export it once with `datasets<4`, see docs/benchmarks.md (M3IT); or one JSON object per line"
    " with its columns. YanqiDai/VisATB is not supported for this benchmark: its records name"
    " their group, not their data set"
)
_REPHRASED = {"answer", "meta"}

Rows = Callable[[Files, Job], Iterator[Row]]
Count = Callable[[Files], int]


def export_sources(data: DataSet, split: str) -> tuple[Source, ...]:
    """The two forms of an export: parquet, or JSON lines."""
    stem = f"m3it/{data.config}/{'validation' if split == 'test' and data.halved else split}"
    parquet = reader(data, split, _parquet, _count_parquet)
    lines = reader(data, split, _lines, _count_lines)
    return (
        Source("parquet", {"rows": f"{stem}*.parquet"}, _GET, parquet),
        Source("jsonl", {"rows": f"{stem}*.jsonl"}, _GET, lines),
    )


def reader(data: DataSet, split: str, rows: Rows, count: Count) -> Read:
    """The conversations of a split, from rows of the four columns.

    Args:
        count: number of rows, for a split that is a half of them.
    """
    return partial(_read, data, split, rows, count)


def _read(
    data: DataSet, split: str, rows: Rows, count: Count, files: Files, job: Job
) -> Iterator[Conversation]:
    chosen: Iterator[tuple[int, Row]] = enumerate(rows(files, job))
    if data.halved and split != "train":
        test = frozenset(_half(data, count(files), job.choices.seed))
        kept = split == "test"
        chosen = ((number, row) for number, row in chosen if (str(number) in test) == kept)
    conversations = _conversations(data, split, chosen, job)
    gathered = data.config == "coco" and split != "train" and not job.choices.single_reference
    return _gathered(conversations) if gathered else conversations


def _half(data: DataSet, total: int, seed: int) -> list[str]:
    return drawn(map(str, range(total)), total // 2, seed, f"halves of {data.config}")


def _conversations(
    data: DataSet, split: str, rows: Iterable[tuple[int, Row]], job: Job
) -> Iterator[Conversation]:
    for number, row in rows:
        question = row.text("instruction").strip()
        inputs = row.text("inputs").strip()
        if inputs:
            question = f"{question}\n{inputs}"
        question = without_marker(question)
        answer = row.text("outputs").strip()
        image = write_image(row, "image_base64_str", f"m3it/{data.config}", job.gallery)
        if image is not None and question and answer:
            name = f"{data.config}_{split}_{number}"
            yield Conversation(name, image, (Asked(question, answer),))


def _gathered(conversations: Iterable[Conversation]) -> Iterator[Conversation]:
    """One sample per image, with the answers of all its rows, repeated ones too: CIDEr is a mean
    over them.

    The question is that of the first row.
    """
    groups: dict[str | None, list[Conversation]] = {}
    for conversation in conversations:
        groups.setdefault(conversation.image, []).append(conversation)
    for group in groups.values():
        answers = tuple(str(conversation.turns[0].answer) for conversation in group)
        question = group[0].turns[0].question
        yield replace(group[0], turns=(Asked(question, answers),))


def _parquet(files: Files, job: Job) -> Iterator[Row]:
    for path in files["rows"]:
        _reject_rephrased(parquet_columns(path), f"{path}, columns")
    return job.table_rows(files["rows"], COLUMNS)


def _count_parquet(files: Files) -> int:
    return sum(map(parquet_count, files["rows"]))


def _lines(files: Files, job: Job) -> Iterator[Row]:
    for path in files["rows"]:
        for where, raw in json_lines(path, job.progress):
            _reject_rephrased(raw if isinstance(raw, dict) else (), where)
            yield job.known(raw, where, COLUMNS)


def _reject_rephrased(keys: Iterable[str], where: str) -> None:
    if set(keys) >= _REPHRASED:
        raise DataError(
            f"{where}: found `answer` and `meta`, a row of M3IT as rephrased in October 2023, whose"
            " answers are others; export an older revision",
            "other-version",
        )


def _count_lines(files: Files) -> int:
    return sum(map(count_lines, files["rows"]))


def count_lines(path: Path) -> int:
    """Lines of a file that are not empty."""
    with path.open("rb") as lines:
        return sum(bool(line.strip()) for line in lines)
