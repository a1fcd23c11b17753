"""What `model.max_length` cuts off the records of a task."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cotbal.data.conversations import Problem
from cotbal.data.lengths import Length


@dataclass
class Truncation:
    """Tokens of the records of one training file.

    Attributes:
        records: that were measured.
        valid, kept: tokens that carry loss, and those of them before `max_length`.
        cut, emptied: records that lose some of their valid tokens, and all of them.
        longest: tokens of the longest record; 0 where none was measured as a whole.
        first: number of the first record that loses a valid token.
    """

    records: int = 0
    valid: int = 0
    kept: int = 0
    cut: int = 0
    emptied: int = 0
    longest: int = 0
    first: int = 0

    def add(self, number: int, length: Length) -> None:
        """Count one record."""
        self.records += 1
        self.valid += length.valid
        self.kept += length.kept
        self.longest = max(self.longest, length.tokens or 0)
        if length.kept < length.valid:
            self.first = self.first or number
            self.cut += 1
            self.emptied += not length.kept

    def warning(self, task: str, file: Path, limit: int) -> str | None:
        """What is lost, in one sentence; None where nothing is, or everything."""
        if not self.cut or not self.kept:
            return None
        lost = self.valid - self.kept
        whole = f", {self.emptied:,} of them all" if self.emptied else ""
        return (
            f"task {task}: model.max_length = {limit} cuts off {lost:,} of {self.valid:,} valid "
            f"tokens ({lost / self.valid:.1%}): {self.cut:,} of {self.records:,} records lose "
            f"some{whole}; the first is {file}, record {self.first}, the longest has "
            f"{self.longest:,} tokens"
        )

    def problem(self, task: str, file: Path, limit: int) -> Problem | None:
        """The error of a task that would train with no token at all."""
        if self.kept or not self.valid:
            return None
        return Problem(
            file,
            0,
            f"task {task}: model.max_length = {limit} cuts off every answer, so nothing would be "
            f"trained; raise it (the longest of {self.records:,} records has {self.longest:,} "
            "tokens)",
        )
