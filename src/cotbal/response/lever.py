"""What differs between trials, and how outputs call it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Lever:
    """Weights of the loss, or sampling ratios.

    Attributes:
        name: as recipes, tables and files name it.
        one: one of its numbers, in words.
        several: the numbers, in words.
    """

    name: str
    one: str
    several: str


WEIGHTS = Lever("weights", "weight", "weights")
RATIOS = Lever("ratios", "ratio", "sampling ratios")
LEVERS = {lever.name: lever for lever in (WEIGHTS, RATIOS)}
