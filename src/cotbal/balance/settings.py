"""How scores become weights: form, temperature, intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cotbal.balance.forms import Difficulty, Form
from cotbal.errors import CotbalError


@dataclass(frozen=True)
class Settings:
    """How scores become weights.

    Attributes:
        form: `standard` (Eq. 3) or `simple` (Eq. 15); None takes the one that the table of scores
            was made for.
        difficulty: `real` (Eq. 9) or `precise` (Eq. 17); the simple form has its own (Eq. 16).
        temperature: tau of Eq. 5, 7, 10, or `auto`: the smallest one that keeps every weight inside
            `weight_range`. It is found once, so the intervals are those of the weights at this
            temperature.
        weight_range: smallest and largest weight for `auto`.
        shrink: pull contributions toward their mean by their own noise (not part of the paper, see
            `shrinkage`).
        resamples: how many score matrices are drawn for the intervals.
        seed: of these draws.
    """

    form: Form | None = None
    difficulty: Difficulty = "real"
    temperature: int | float | Literal["auto"] = 0.5
    weight_range: tuple[float, float] = (0.5, 2.0)
    shrink: bool = False
    resamples: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        """Stop at a temperature by which nothing can be divided.

        Raises:
            CotbalError: it is neither a positive number nor `auto`.
        """
        if self.temperature != "auto" and not 0 < self.temperature < float("inf"):
            raise CotbalError(f"expected a positive temperature or auto; found {self.temperature}")
