"""What a user can cause, said in one clear sentence: what was expected, what was found, what to do
next.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence


class CotbalError(Exception):
    """An error that the user can correct; the command line prints it without a traceback and exits
    with code 2.
    """


class RecipeError(CotbalError):
    """The recipe is not valid."""


class DataError(CotbalError):
    """Records or images are not what the recipe promises."""


class ScoresError(CotbalError):
    """A table of scores cannot be used."""


class RunError(CotbalError):
    """A run failed, or its directory does not fit the recipe."""


class RunsFailed(RunError):
    """Some runs failed and the others are kept, so that rerunning the command resumes."""


class MissingDependency(CotbalError):
    """An optional package is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f'{feature} needs packages that are not installed: pip install "cotbal[{extra}]"'
        )


def near(word: str, known: Sequence[str]) -> str:
    """What to add to a message about a word that is not known: the one that was probably meant, or
    nothing.
    """
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
