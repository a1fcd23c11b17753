"""The outcome of balancing: weights, what they are computed from, their intervals, and flags."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from cotbal.balance.guards import Flag
from cotbal.balance.needs import Need
from cotbal.balance.probes import Form
from cotbal.scores.interval import Interval, Noise, with_bounds

NOT_MEASURABLE = "not measurable here: keep equal weights"


@dataclass(frozen=True)
class Deviation:
    """Standard deviation of a task's score between training seeds.

    Attributes:
        value: in the units of the score.
        freedom: degrees of freedom behind it.
    """

    value: float
    freedom: float


@dataclass(frozen=True)
class Balance:
    """The measures of the units, and the weights that follow.

    Arrays are indexed `[giver, receiver]` or `[unit]`; the last axis of an array of intervals is
    (low, high). NaN means "not identified"; `flags` say why. Intervals are None for a bare table of
    scores; `noise` says what they hold.

    Attributes:
        units: names, in the order of every array below.
        form: `standard` or `simple`.
        difficulty_form: `real` (Eq. 9), `precise` (17) or `simple` (16).
        temperature: tau of Eq. 5, 7, 10.
        seeds: number of training seeds behind every score.
        replicates: largest number of trainings of a run; with one seed, those of the mini.
        noise: what the intervals hold. Without `training`, another training seed may give a weight
            outside them.
        training_noise: task -> how far the score of one training scatters; empty where every run
            was trained once.
        identified: share of `receivers` (units whose gain is more than noise) and of `difficulties`
            that are numbers.
        measurable: False where these shares are too small to rest weights on: then all weights
            are 1.
        shrunk: whether contributions were pulled toward their mean (not part of the paper).
        contribution: `C[giver, receiver]`, Eq. 3 or 15.
        outward, inward: its means over the other units, Eq. 4 and 6.
        difficulty: Eq. 9, 16 or 17.
        parts: weights by `outward` (Eq. 5), `inward` (7), `inter` (8), `intra` (10) and `all` (11).
        intervals: of `contribution`, `outward`, `inward`, `difficulty`.
        part_intervals: of every entry of `parts`.
        samples: number of validation samples behind each task.
        needs: evidence that each weight needs for an interval without 1; empty where the noise of
            training is not known.
        flags: quantities that are not what they seem, with the rule that was applied.
        warnings: remarks on the whole computation.
    """

    units: tuple[str, ...]
    form: Form
    difficulty_form: str
    temperature: float
    seeds: int
    replicates: int
    shrunk: bool
    noise: tuple[Noise, ...]
    training_noise: Mapping[str, Deviation]
    identified: Mapping[str, float]
    measurable: bool
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
        return dict(zip(self.units, self.parts["all"].tolist(), strict=True))

    @property
    def has_intervals(self) -> bool:
        """False for a bare table of scores."""
        return self.intervals is not None

    def weight(self, unit: str) -> Interval:
        """The weight of `unit`."""
        index = self.units.index(unit)
        value = float(self.parts["all"][index])
        if self.part_intervals is None:
            return Interval(value, noise=self.noise)
        return _interval(value, self.part_intervals["all"][index], self.noise)

    def part(self, name: str) -> list[Interval]:
        """One of `parts`, by unit."""
        all_bounds = self.part_intervals or {}
        bounds = all_bounds.get(name)
        return with_bounds(self.parts[name], bounds, self.noise)

    def measure(self, name: str) -> list[Interval]:
        """`outward`, `inward` or `difficulty`, by unit."""
        values = vars(self)[name]
        all_bounds = self.intervals or {}
        bounds = all_bounds.get(name)
        return with_bounds(values, bounds, self.noise)

    def contributions(self) -> list[list[Interval]]:
        """`contribution`, by giver and receiver."""
        if self.intervals is None:
            return [with_bounds(row, None) for row in self.contribution]
        all_bounds = self.intervals["contribution"]
        rows = []
        for values, bounds in zip(self.contribution, all_bounds, strict=True):
            row = with_bounds(values, bounds, self.noise)
            rows.append(row)
        return rows

    def contribution_of(self, giver: int, receiver: int) -> Interval:
        """One entry of `contribution`."""
        value = float(self.contribution[giver, receiver])
        if self.intervals is None:
            return Interval(value)
        return _interval(value, self.intervals["contribution"][giver, receiver], self.noise)

    def verdict(self, unit: str) -> str:
        """The weight of `unit` against 1, in words."""
        if not self.measurable:
            return NOT_MEASURABLE
        weight = self.weight(unit)
        if not weight.has_bounds:
            return "no interval, because the table of scores holds no samples"
        return weight.verdict(1, "1")

    def sentence(self, unit: str) -> str:
        """The weight of `unit` and its verdict, in words."""
        return f"{unit}: {self.weight(unit)}, {self.verdict(unit)}"

    def to_json(self) -> dict[str, Any]:
        """Everything above as plain JSON; NaN becomes null."""
        weights = {unit: self.weight(unit) for unit in self.units}
        return {
            "units": list(self.units),
            "form": self.form,
            "difficulty_form": self.difficulty_form,
            "temperature": self.temperature,
            "seeds": self.seeds,
            "replicates": self.replicates,
            "shrunk": self.shrunk,
            "noise": list(self.noise),
            "training_noise": {
                task: vars(deviation) for task, deviation in self.training_noise.items()
            },
            "identified": dict(self.identified),
            "measurable": self.measurable,
            "weights": self.weights,
            "weight_intervals": {unit: w.to_json()["interval"] for unit, w in weights.items()},
            "sentences": [self.sentence(unit) for unit in self.units],
            "contribution": _nullable(self.contribution),
            "outward": _nullable(self.outward),
            "inward": _nullable(self.inward),
            "difficulty": _nullable(self.difficulty),
            "parts": _map(_nullable, self.parts),
            "intervals": _map(_nullable, self.intervals),
            "part_intervals": _map(_nullable, self.part_intervals),
            "samples": dict(self.samples),
            "needs": [vars(need) for need in self.needs],
            "flags": [vars(flag) for flag in self.flags],
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Balance:
        """The inverse of `to_json`."""
        return cls(
            units=tuple(content["units"]),
            form=content["form"],
            difficulty_form=content["difficulty_form"],
            temperature=content["temperature"],
            seeds=content["seeds"],
            replicates=content["replicates"],
            shrunk=content["shrunk"],
            noise=tuple(content["noise"]),
            training_noise={
                task: Deviation(**deviation)
                for task, deviation in content["training_noise"].items()
            },
            identified=content["identified"],
            measurable=content["measurable"],
            contribution=_array(content["contribution"]),
            outward=_array(content["outward"]),
            inward=_array(content["inward"]),
            difficulty=_array(content["difficulty"]),
            parts=_map(_array, content["parts"]) or {},
            intervals=_map(_array, content["intervals"]),
            part_intervals=_map(_array, content["part_intervals"]),
            samples=content["samples"],
            needs=tuple(Need(**need) for need in content["needs"]),
            flags=tuple(Flag(**flag) for flag in content["flags"]),
            warnings=tuple(content["warnings"]),
        )


def _map(convert: Callable[[Any], Any], named: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Convert every value of a mapping; None stays None."""
    if named is None:
        return None
    return {name: convert(values) for name, values in named.items()}


def _interval(value: float, bounds: np.ndarray, noise: tuple[Noise, ...]) -> Interval:
    low, high = bounds.tolist()
    return Interval(value, low, high, noise)


def _nullable(values: np.ndarray) -> Any:
    nullable = values.astype(object)
    nullable[np.isnan(values)] = None
    return nullable.tolist()


def _array(values: Any) -> np.ndarray:
    return np.array(values, dtype=float)  # null becomes NaN
