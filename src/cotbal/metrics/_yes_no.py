"""Labels of yes-or-no questions: one reading for validation, scoring and constant answers.

Answers are read by each metric in its own way, as the programs that it reproduces do.
"""

from __future__ import annotations

from cotbal.metrics._samples import Accepted

LABELS = ("yes", "no")


def label(reference: str) -> str:
    """`yes` or `no`, whatever the case, blanks and full stops; empty for any other reference."""
    plain = reference.strip().rstrip(". ").lower()
    return plain if plain in LABELS else ""


def problem_of(references: Accepted) -> str:
    """Why the references of a sample are invalid; empty if valid."""
    for reference in references:
        if not label(reference):
            return f"expected yes or no; found {reference!r}"
    return ""
