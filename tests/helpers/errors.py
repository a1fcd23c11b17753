"""Errors are tested by type and code, so that their words can be improved freely."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cotbal.errors import CotbalError


@contextmanager
def raises(
    kind: type[CotbalError], code: str, *names: object
) -> Iterator[pytest.ExceptionInfo[CotbalError]]:
    """Expect exactly this error.

    Args:
        code: of the error.
        names: what the message must name: a file, a record number, a task. Never whole phrases.
    """
    with pytest.raises(kind) as caught:
        yield caught
    assert caught.value.code == code
    for name in names:
        assert str(name) in str(caught.value)


def a_line_names(text: str, *facts: object) -> bool:
    """Whether one line of a printed text holds these facts in this order."""
    return any(names_all(line, *facts) for line in text.splitlines())


def names_all(text: str, *facts: object) -> bool:
    """Whether a warning or another printed text holds these facts in this order: files, numbers,
    names. Never whole phrases.
    """
    start = 0
    for fact in map(str, facts):
        start = text.find(fact, start)
        if start < 0:
            return False
        start += len(fact)
    return True
