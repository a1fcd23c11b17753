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
