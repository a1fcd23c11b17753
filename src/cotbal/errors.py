"""Errors that a user can correct: what was expected, what was found, what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import ClassVar


class CotbalError(Exception):
    """An error that the user can correct; the command line prints it without a traceback and exits
    with code 2.

    Attributes:
        code: a stable name of what is wrong, such as `unknown-metric`. Messages may be reworded at
            any time, codes are part of the API (docs/errors.md).
    """

    default_code: ClassVar[str] = "invalid-input"

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code or self.default_code

    def __reduce__(self) -> tuple[type[CotbalError], tuple[str, str]]:
        return type(self), (str(self), self.code)  # pickled where a worker process raises it


class RecipeError(CotbalError):
    """The recipe is not valid."""

    default_code = "invalid-recipe"


class DataError(CotbalError):
    """Records or images are not what the recipe promises."""

    default_code = "invalid-data"


class ScoresError(CotbalError):
    """A table of scores cannot be used."""

    default_code = "invalid-scores"


class RunError(CotbalError):
    """A run failed, or its directory does not fit the recipe."""

    default_code = "run-error"


class RunsFailed(RunError):
    """Some runs failed and the others are kept, so that rerunning the command resumes."""

    default_code = "runs-failed"


class MissingDependency(CotbalError):
    """An optional package is not installed."""

    default_code = "missing-dependency"

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f'{feature} needs packages that are not installed: pip install "cotbal[{extra}]"'
        )
        self._names = (feature, extra)

    def __reduce__(self) -> tuple[type[CotbalError], tuple[str, str]]:
        return type(self), self._names


def near(word: str, known: Sequence[str]) -> str:
    """What to add to a message about a word that is not known: the one that was probably meant, or
    nothing.
    """
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
