"""Which runs the equations read: the standard form (Eq. 3, 9), precise difficulty (Eq. 17), the
simple form (15, 16).

Eq. 15 is Eq. 3 with single-task models in the place of probes and the base checkpoint in the place
of the mini probe; Eq. 16 and 17 are Eq. 9 on models trained on one task alone. So the formulas
stand once, and a form names the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cotbal.recipe.runs import BASE, MINI, Difficulty, Form, full_run, solo_mini_run, solo_run


@dataclass(frozen=True)
class Rows:
    """The runs that feed the equations.

    Attributes:
        baseline: the run that a contribution is counted from.
        giver: unit -> the run that saw the large portion of this unit.
        own: unit -> the run whose score of the unit's own tasks stands for full data in the
            difficulty.
        small: unit -> the run that stands for the mini in the difficulty.
    """

    baseline: str
    giver: Callable[[str], str]
    own: Callable[[str], str]
    small: Callable[[str], str]

    def names(self, units: Sequence[str]) -> tuple[str, ...]:
        """Every run that is needed, each once, the baseline first."""
        readers = (self.giver, self.own, self.small)
        return tuple(
            dict.fromkeys((self.baseline, *(read(unit) for read in readers for unit in units)))
        )


def rows_of(form: Form, difficulty: Difficulty) -> Rows:
    """The runs that a form reads; in the simple form, difficulty is always that of single-task
    models (Eq. 16).
    """
    if form == "simple":
        return Rows(BASE, solo_run, solo_run, solo_mini_run)
    if difficulty == "precise":
        return Rows(MINI, full_run, solo_run, solo_mini_run)
    return Rows(MINI, full_run, full_run, lambda _: MINI)


def form_of(runs: Sequence[str]) -> Form:
    """The form that a table of scores was made for, by the names of its runs: `standard` if it has
    a row `mini`.
    """
    return "simple" if BASE in runs and MINI not in runs else "standard"
