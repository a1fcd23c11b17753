"""Answers of an evaluation that is not finished, so that a restarted run does not repeat them."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from cotbal.data.files import digest_of, read_sealed_rows, write_sealed_rows
from cotbal.errors import RunError

SECONDS = 60.0  # between two files

Key = tuple[str, int]  # name of a set of records, and number of a record in it


class KeptAnswers:
    """Files in a directory, each whole or absent; every rank writes its own.

    Attributes:
        attempt: the names of files of this process begin with it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.attempt = uuid.uuid4().hex
        self._new: dict[Key, str] = {}
        self._written = time.monotonic()

    def read(self, but: str | None = None) -> dict[Key, str]:
        """All answers on disk; a damaged file is removed.

        Args:
            but: an attempt whose answers are left out.
        """
        answers: dict[Key, str] = {}
        for path in sorted(self.directory.glob("*.jsonl")):
            if but is not None and path.name.startswith(but):
                continue
            answers |= read_answers(path) or {}
        return answers

    def add(self, answers: Mapping[Key, str]) -> None:
        """Take these answers; now and then, write those that are not on disk."""
        self._new |= answers
        if time.monotonic() - self._written >= SECONDS:
            self.write()

    def write(self) -> None:
        """Write the answers that are not on disk."""
        if self._new:
            rows = [[*key, text] for key, text in self._new.items()]
            write_sealed_rows(self.directory / f"{self.attempt}-{uuid.uuid4().hex}.jsonl", rows)
        self._new, self._written = {}, time.monotonic()

    def remove(self) -> None:
        """Remove all files, because the answers are complete elsewhere."""
        shutil.rmtree(self.directory, ignore_errors=True)


def read_answers(path: Path) -> dict[Key, str] | None:
    """The answers of a file; None for a damaged one, which is removed."""
    try:
        rows = read_sealed_rows(path)
    except RunError as error:
        print(f"{error}. Its questions are answered again")
        path.unlink()
        digest_of(path).unlink(missing_ok=True)
        return None
    return {(name, number): text for name, number, text in rows}
