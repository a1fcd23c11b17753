"""Records on disk: a split is written whole or not at all, and a task is done when its note lies
beside its splits.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from cotbal.benchmarks.releases.conversation import Writable
from cotbal.benchmarks.releases.gallery import Gallery
from cotbal.benchmarks.releases.sources import Choices
from cotbal.data.files import read_json, whole_file, write_json
from cotbal.errors import CotbalError, DataError


@dataclass(frozen=True)
class Expected:
    """What a split should hold by the paper or the release; None where neither says.

    Attributes:
        records, turns: conversations, and pairs of question and answer.
        rounded_to: `records` is known only to this multiple: 1000 for "83k".
    """

    records: int | None = None
    turns: int | None = None
    rounded_to: int = 1

    def differences(self, records: int, turns: int) -> dict[str, int]:
        """`records` or `turns` -> how many more than expected; empty when all fit."""
        differences = {}
        if self.records is not None and 2 * abs(records - self.records) > self.rounded_to:
            differences["records"] = records - self.records
        if self.turns is not None and turns != self.turns:
            differences["turns"] = turns - self.turns
        return differences


@dataclass(frozen=True)
class SplitSummary:
    """What was written of one split.

    Attributes:
        task, split, form: whose it is, and the form of the release that was read.
        file, size: name below the benchmark's directory, and bytes.
        records, turns: what was written.
        present, missing: numbers of distinct images.
        dropped: records that were left out because their image is missing.
        expected: what should be there.
        differences: `records` or `turns` -> how many more than expected; empty when all fit.
    """

    task: str
    split: str
    form: str
    file: str
    size: int
    records: int
    turns: int
    present: int
    missing: int
    dropped: int
    expected: Expected
    differences: dict[str, int]


class SplitWriter:
    """Writes the splits of one task below `out/data`."""

    def __init__(self, out: Path, task: str, gallery: Gallery, choices: Choices) -> None:
        self.out = out
        self.task = task
        self._gallery = gallery
        self._policy = choices.on_missing_image

    def write(
        self, split: str, form: str, conversations: Iterable[Writable], expected: Expected
    ) -> SplitSummary:
        """Write one split as JSONL.

        Raises:
            DataError: images are missing and the choice is `error`; or there is no record at all.
        """
        path = self.out / "data" / f"{self.task}_{split}.jsonl"
        counts = _Counts()
        with whole_file(path) as file:
            for conversation in self._counted(conversations, counts):
                file.write(json.dumps(conversation.record(self.task), ensure_ascii=False) + "\n")
            self._judge(split, counts)
        return SplitSummary(
            self.task,
            split,
            form,
            path.relative_to(self.out).as_posix(),
            path.stat().st_size,
            counts.records,
            counts.turns,
            len(counts.present),
            len(counts.missing),
            counts.dropped,
            expected,
            expected.differences(counts.records, counts.turns),
        )

    def _counted(self, conversations: Iterable[Writable], counts: _Counts) -> Iterator[Writable]:
        for conversation in conversations:
            absent = [name for name in conversation.images if not self._gallery.has(name)]
            for name in conversation.images:
                (counts.missing if name in absent else counts.present).add(hash(name))
            counts.example = counts.example or next(iter(absent), None)
            if absent and self._policy == "drop":
                counts.dropped += 1
                continue
            counts.records += 1
            counts.turns += conversation.pairs
            yield conversation

    def _judge(self, split: str, counts: _Counts) -> None:
        if counts.missing and self._policy == "error":
            raise DataError(
                f"{self.task} {split}: {len(counts.missing):,} of"
                f" {len(counts.missing) + len(counts.present):,} images are missing below"
                f" {self._gallery.root}, such as {counts.example}; put them there or name their"
                " directory with --images, or choose --on-missing-image drop or keep",
                "missing-image",
            )
        if not counts.records:
            raise DataError(
                f"{self.task} {split}: expected at least one record; found none"
                f" ({counts.dropped} dropped, since their images are missing)",
                "no-records",
            )


class _Counts:
    def __init__(self) -> None:
        self.records = self.turns = self.dropped = 0
        self.present: set[int] = set()
        self.missing: set[int] = set()
        self.example: str | None = None


def note_path(out: Path, task: str) -> Path:
    """File of the note that makes a task done."""
    return out / "data" / f"{task}.json"


def write_note(
    out: Path, task: str, choices: Choices, version: int | str, splits: Iterable[SplitSummary]
) -> None:
    """Write the note of a task whose splits are all there."""
    content = {
        "version": version,
        "choices": asdict(choices),
        "splits": [asdict(split) for split in splits],
    }
    write_json(note_path(out, task), content)


def done_splits(
    out: Path, task: str, choices: Choices, version: int | str
) -> list[SplitSummary] | None:
    """The splits of a task that is complete on disk; None if it must be made.

    Raises:
        DataError: it was made with other choices or by another version, or the note is broken;
            nothing is overwritten.
    """
    path = note_path(out, task)
    if not path.is_file():
        return None
    now = {"version": version, **json.loads(json.dumps(asdict(choices)))}
    try:
        note = read_json(path)
        then = {"version": note["version"], **note["choices"]}
        splits = [
            SplitSummary(**{**split, "expected": Expected(**split["expected"])})
            for split in note["splits"]
        ]
    except (CotbalError, KeyError, TypeError):
        raise DataError(
            f"{path}: expected the note of a prepared task; delete this file to prepare it again",
            "broken-file",
        ) from None
    changed = [
        f"{key}: {then.get(key)!r}, now {value!r}"
        for key, value in now.items()
        if then.get(key) != value
    ]
    if changed:
        raise DataError(
            f"{path}: {task} was prepared with {'; '.join(changed)}. Prepare into another"
            " directory, or delete this file to prepare the task again",
            "changed-settings",
        )
    whole = all(
        (out / s.file).is_file() and (out / s.file).stat().st_size == s.size for s in splits
    )
    return splits if whole else None


def remove_unfinished(out: Path, task: str) -> None:
    """Remove what a killed run left of the splits of a task."""
    for path in (out / "data").glob(f".{task}_*"):
        path.unlink()
