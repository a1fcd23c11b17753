"""Runs and probe plans: which trainings feed the equations, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cotbal.mixture import Mixture

Portion = Literal["none", "mini", "large", "full"]
MINI = "mini"


@dataclass(frozen=True)
class Run:
    """Train on these portions with this weighting, evaluate on this split.

    Attributes:
        name: `mini`, `full:<unit>`, or the name of the weighting for a final run.
        portions: task -> portion; a task that is not named sees `none`.
        weighting: `equal`, or a method of `cotbal.weightings`.
        split: `validation` for a probe, `test` for a final run.
        seed: seed of the order of the data and of every random draw.
    """

    name: str
    portions: Mapping[str, Portion]
    weighting: str
    split: Literal["validation", "test"]
    seed: int


@dataclass(frozen=True)
class ProbePlan:
    """The runs whose scores feed the equations.

    Attributes:
        form: how contribution is measured; `standard` is Eq. 3 and 9.
        runs: every probe, the mini probe first.
    """

    form: str
    runs: tuple[Run, ...]

    @property
    def mini(self) -> Run:
        """The probe that saw only minis."""
        return self.named(MINI)

    def full(self, unit: str) -> Run:
        """The probe that saw the large portion of `unit`."""
        return self.named(full_run(unit))

    def named(self, name: str) -> Run:
        """The probe called `name`."""
        return next(run for run in self.runs if run.name == name)


def full_run(unit: str) -> str:
    """Name of the probe that sees the large portion of `unit` and the minis of all others."""
    return f"full:{unit}"


def plan_probes(mixture: Mixture, form: str = "standard", seed: int = 0) -> ProbePlan:
    """The T+1 probes of Section 3.2: one on all minis, and for each unit one on its large portion plus the other minis.

    Probes weigh all tokens equally (EW): the weights are what they are made to find.
    """
    assert form == "standard"
    runs = [_probe(mixture, MINI, None, seed)]
    runs += [_probe(mixture, full_run(unit), unit, seed) for unit in mixture.units]
    return ProbePlan(form, tuple(runs))


def _probe(mixture: Mixture, name: str, unit: str | None, seed: int) -> Run:
    portions: dict[str, Portion] = {task.name: "large" if task.unit == unit else "mini" for task in mixture.balanced}
    return Run(name, portions, "equal", "validation", seed)


def final_run(mixture: Mixture, weighting: str, seed: int = 0) -> Run:
    """The training that the weights are for: every task in full, scored on the test splits."""
    return Run(weighting, {task.name: "full" for task in mixture.tasks}, weighting, "test", seed)


def cost(run: Run, sizes: Mapping[str, Mapping[Portion, int]]) -> int:
    """Amount that `run` sees, summed over tasks; `sizes[task][portion]` is in any unit (records, tokens)."""
    return sum(sizes[task][portion] for task, portion in run.portions.items() if portion != "none")
