"""The outcome of balancing: weights, what they are made of, how sure we are, and what was
flagged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from cotbal.balance.guards import Flag
from cotbal.balance.needs import Need
from cotbal.recipe.runs import Form


@dataclass(frozen=True)
class Balance:
    """What the probes say, and the weights that follow.

    Arrays are indexed `[giver, receiver]` or `[unit]`; the last axis of an interval is (low, high).
    NaN means "not identified"; `flags` say why. Intervals are None for a bare table of scores.

    Attributes:
        units: names, in the order of every array below.
        form: `standard` or `simple`; `difficulty_form`: `real` (Eq. 9), `precise` (17) or `simple`
            (16).
        temperature: tau of Eq. 5, 7, 10.
        seeds: number of training seeds behind the scores.
        shrunk: whether contributions were pulled toward their mean (not part of the paper).
        contribution: `C[giver, receiver]`, Eq. 3 or 15.
        outward, inward: its means over the other units, Eq. 4 and 6.
        difficulty: Eq. 9, 16 or 17.
        parts: weights by `outward` (Eq. 5), `inward` (7), `inter` (8), `intra` (10) and `all` (11).
        intervals: of `contribution`, `outward`, `inward`, `difficulty`.
        part_intervals: of every entry of `parts`.
        samples: number of validation samples behind each task.
        needs: how much more evidence would tell each weight from 1; empty for a bare table of
            scores.
        flags: quantities that are not what they seem, with the rule that was applied.
        warnings: remarks on the whole computation.
    """

    units: tuple[str, ...]
    form: Form
    difficulty_form: str
    temperature: float
    seeds: int
    shrunk: bool
    contribution: Float[np.ndarray, "giver receiver"]
    outward: Float[np.ndarray, " unit"]
    inward: Float[np.ndarray, " unit"]
    difficulty: Float[np.ndarray, " unit"]
    parts: Mapping[str, Float[np.ndarray, " unit"]]
    intervals: Mapping[str, np.ndarray] | None
    part_intervals: Mapping[str, np.ndarray] | None
    samples: Mapping[str, int]
    needs: tuple[Need, ...]
    flags: tuple[Flag, ...]
    warnings: tuple[str, ...]

    @property
    def weights(self) -> dict[str, float]:
        """Unit -> weight (Eq. 11), mean 1."""
        return {
            unit: float(weight) for unit, weight in zip(self.units, self.parts["all"], strict=True)
        }

    def weight_interval(self, unit: str) -> tuple[float, float] | None:
        """95 % interval of the weight of `unit`, or None for a bare table of scores."""
        if self.part_intervals is None:
            return None
        low, high = self.part_intervals["all"][self.units.index(unit)]
        return float(low), float(high)

    def distinguishable(self, unit: str) -> bool | None:
        """Whether the interval of the weight leaves out 1; None without an interval."""
        bounds = self.weight_interval(unit)
        return None if bounds is None else not bounds[0] <= 1 <= bounds[1]

    def sentence(self, unit: str) -> str:
        """One plain sentence about the weight of `unit`."""
        weight, bounds = self.weights[unit], self.weight_interval(unit)
        if bounds is None:
            return f"{unit}: {weight:.3f}; no interval, because the table holds no samples"
        verdict = (
            "distinguishable from 1" if self.distinguishable(unit) else "not distinguishable from 1"
        )
        return f"{unit}: {weight:.3f} [{bounds[0]:.3f}, {bounds[1]:.3f}], {verdict}"

    def to_json(self) -> dict[str, Any]:
        """Everything above as plain JSON; NaN becomes null."""
        return {
            "units": list(self.units),
            "form": self.form,
            "difficulty_form": self.difficulty_form,
            "temperature": self.temperature,
            "seeds": self.seeds,
            "shrunk": self.shrunk,
            "weights": self.weights,
            "weight_intervals": {unit: self.weight_interval(unit) for unit in self.units},
            "sentences": [self.sentence(unit) for unit in self.units],
            "contribution": _plain(self.contribution),
            "outward": _plain(self.outward),
            "inward": _plain(self.inward),
            "difficulty": _plain(self.difficulty),
            "parts": _plain_all(self.parts),
            "intervals": _plain_all(self.intervals),
            "part_intervals": _plain_all(self.part_intervals),
            "samples": dict(self.samples),
            "needs": [vars(need) for need in self.needs],
            "flags": [vars(flag) for flag in self.flags],
            "warnings": list(self.warnings),
        }


def _plain_all(arrays: Mapping[str, np.ndarray] | None) -> dict[str, Any] | None:
    return None if arrays is None else {name: _plain(values) for name, values in arrays.items()}


def _plain(values: np.ndarray) -> Any:
    plain = values.astype(object)
    plain[np.isnan(values)] = None
    return plain.tolist()
