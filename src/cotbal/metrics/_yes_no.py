"""Labels of yes-or-no questions: one reading for validation, scoring and constant answers.

Answers are read by each metric in its own way, as the programs that it reproduces do.
"""

from __future__ import annotations

from collections.abc import Sequence

LABELS = ("yes", "no")


def label(reference: str) -> str:
    """`yes` or `no`, whatever the case, blanks and full stops; empty for any other reference."""
    plain = reference.strip().rstrip(". ").lower()
    return plain if plain in LABELS else ""


def problem_of(references: Sequence[str]) -> str:
    """Why the references of a sample are invalid; empty if valid."""
    wrong = [reference for reference in references if not label(reference)]
    return f"expected yes or no; found {wrong[0]!r}" if wrong else ""
