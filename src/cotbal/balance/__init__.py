"""Section 3 of the paper: from the scores of the probes to one weight a unit, with intervals and a guard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from cotbal.balance.guards import (
    SPOILS_CONTRIBUTION,
    SPOILS_DIFFICULTY,
    Flag,
    gather_evidence,
    identified,
    judge,
)
from cotbal.balance.result import Balance
from cotbal.balance.standard import Estimate, Identified, estimate
from cotbal.balance.uncertainty import interval, resample_scores
from cotbal.balance.weights import Parts, smallest_temperature, weight_parts
from cotbal.errors import ScoresError
from cotbal.runs import MINI, full_run
from cotbal.scores import Samples, ScoreMatrix

__all__ = ["Balance", "Flag", "balance"]


def balance(
    matrix: ScoreMatrix,
    units: Mapping[str, str] | None = None,
    temperature: float | Literal["auto"] = 0.5,
    weight_range: tuple[float, float] = (0.5, 2.0),
    resamples: int = 2000,
    seed: int = 0,
) -> Balance:
    """Weights of the units from the scores of the probes (standard form, Eq. 3-11).

    Args:
        matrix: rows `mini` and `full:<unit>` for every unit; other rows are ignored.
        units: task -> unit; by default every task is its own unit.
        temperature: tau of Eq. 5, 7, 10, or `auto`: the smallest one that keeps every weight inside `weight_range`.
            It is found once, so the intervals are those of the weights at this temperature.
        resamples: bootstrap resamples, used when the matrix holds samples.
        seed: of the resamples.

    Raises:
        ScoresError: a row is missing.
    """
    unit_of_task = {task: (units or {}).get(task, task) for task in matrix.tasks}
    names = tuple(dict.fromkeys(unit_of_task.values()))
    probes = _probes(matrix, names)
    unit_of = np.array([names.index(unit_of_task[task]) for task in matrix.tasks])
    resampled = resample_scores(probes, resamples, seed) if probes.samples else None
    flags = _flags(probes, unit_of, resampled)
    known = Identified(
        identified(probes.tasks, flags, SPOILS_CONTRIBUTION), identified(probes.tasks, flags, SPOILS_DIFFICULTY)
    )
    point = estimate(probes.values[1:], probes.values[0], unit_of, known)
    if temperature == "auto":
        temperature = smallest_temperature(lambda tau: _parts(point, tau)["all"], *weight_range)
    intervals = part_intervals = None
    if resampled is not None:
        others = estimate(resampled[:, 1:], resampled[:, 0], unit_of, known)
        intervals = {name: interval(values) for name, values in vars(others).items()}
        part_intervals = {name: interval(values) for name, values in _parts(others, temperature).items()}
    return Balance(
        units=names, temperature=float(temperature), **vars(point), parts=_parts(point, temperature),
        intervals=intervals, part_intervals=part_intervals,
        samples={task: samples.values.shape[1] for task, samples in probes.samples.items()},
        flags=tuple(flags), warnings=_warnings(probes, names),
    )  # fmt: skip


def _probes(matrix: ScoreMatrix, units: tuple[str, ...]) -> ScoreMatrix:
    """The rows that the standard form needs, `mini` first, then one a unit."""
    wanted = (MINI, *(full_run(unit) for unit in units))
    missing = [run for run in wanted if run not in matrix.runs]
    if missing:
        raise ScoresError(
            f"expected the rows {', '.join(wanted)}; missing {', '.join(missing)} (found {', '.join(matrix.runs)})"
        )
    rows = [matrix.row(run) for run in wanted]
    samples = {
        task: Samples(s.values[rows], s.clusters, s.maximum, s.constant, s.constant_answer)
        for task, s in matrix.samples.items()
    }
    return ScoreMatrix(wanted, matrix.tasks, matrix.values[rows], samples)


def _flags(probes: ScoreMatrix, unit_of: np.ndarray, resampled: np.ndarray | None) -> list[Flag]:
    return [flag for e in gather_evidence(probes, unit_of + 1, 0, resampled) for flag in judge(e)]


def _parts(found: Estimate, temperature: float) -> Parts:
    return weight_parts(found.outward, found.inward, found.difficulty, temperature)


def _warnings(probes: ScoreMatrix, units: tuple[str, ...]) -> tuple[str, ...]:
    warnings = []
    if len(units) == 1:
        warnings.append(f"{units[0]} is the only unit: there is nothing to balance, and its weight is 1")
    if not probes.samples:
        warnings.append(
            "the table holds scores without their samples, so nothing here has an interval and a gain that is only "
            "noise cannot be told from a real one"
        )
    return tuple(warnings)
