"""Section 3 of the paper: from the scores of the probes to one weight a unit, with intervals and a guard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float

from cotbal.balance.contribution import inward, outward
from cotbal.balance.estimate import Estimate, Identified, Places, estimate
from cotbal.balance.forms import Rows, form_of, rows_of
from cotbal.balance.guards import Flag, guard
from cotbal.balance.needs import Need, needs
from cotbal.balance.result import Balance
from cotbal.balance.shrinkage import shrink
from cotbal.balance.uncertainty import interval, resample_scores
from cotbal.balance.weights import Parts, smallest_temperature, weight_parts
from cotbal.errors import ScoresError
from cotbal.runs import Difficulty, Form
from cotbal.scores import ScoreMatrix, mean_matrix

__all__ = ["Balance", "Flag", "Need", "Settings", "balance"]


@dataclass(frozen=True)
class Settings:
    """How scores become weights.

    Attributes:
        form: `standard` (Eq. 3) or `simple` (Eq. 15); None takes the one that the table of scores was made for.
        difficulty: `real` (Eq. 9) or `precise` (Eq. 17); the simple form has its own (Eq. 16).
        temperature: tau of Eq. 5, 7, 10, or `auto`: the smallest one that keeps every weight inside `weight_range`.
            It is found once, so the intervals are those of the weights at this temperature.
        weight_range: smallest and largest weight for `auto`.
        shrink: pull contributions toward their mean by their own noise (not part of the paper, see `shrinkage`).
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


def balance(
    scores: ScoreMatrix | Sequence[ScoreMatrix],
    units: Mapping[str, str] | None = None,
    settings: Settings | None = None,
) -> Balance:
    """Weights of the units from the scores of the probes, Eq. 3-11 (15-17 by the settings).

    Args:
        scores: the score matrix, or one a training seed; rows that the form does not read are ignored.
        units: task -> unit; by default every task is its own unit.

    Raises:
        ScoresError: a row or a score is missing, or the matrices of two seeds do not fit together.
    """
    settings = settings or Settings()
    matrices = [scores] if isinstance(scores, ScoreMatrix) else list(scores)
    unit_of_task = {task: (units or {}).get(task, task) for task in matrices[0].tasks}
    names = tuple(dict.fromkeys(unit_of_task.values()))
    form = settings.form or form_of(matrices[0].runs)
    rows = rows_of(form, settings.difficulty)
    matrices = [_needed(matrix, rows.names(names)) for matrix in matrices]
    mean, places = mean_matrix(matrices), _places(matrices[0], rows, names, unit_of_task)
    noisy = bool(mean.samples) or len(matrices) > 1
    resampled = resample_scores(matrices, settings.resamples, settings.seed) if noisy else None
    flags, known = guard(mean, places, resampled)
    point, drawn = _estimates(mean, resampled, places, known, settings.shrink)
    tau = _temperature(point, settings)
    parts = _parts(point, tau)
    return Balance(
        units=names, form=form, difficulty_form="simple" if form == "simple" else settings.difficulty,
        temperature=tau, seeds=len(matrices), shrunk=settings.shrink, **vars(point), parts=parts,
        intervals=None if drawn is None else {name: interval(values) for name, values in vars(drawn).items()},
        part_intervals=None if drawn is None else {n: interval(v) for n, v in _parts(drawn, tau).items()},
        samples={task: samples.values.shape[1] for task, samples in mean.samples.items()},
        needs=_needs(matrices, places, known, settings, tau, parts["all"], names) if noisy else (),
        flags=tuple(flags), warnings=_warnings(mean, names, len(matrices)),
    )  # fmt: skip


def _needed(matrix: ScoreMatrix, runs: tuple[str, ...]) -> ScoreMatrix:
    """The rows that the form reads, in its order."""
    missing = [run for run in runs if run not in matrix.runs]
    if missing:
        raise ScoresError(
            f"expected the rows {', '.join(runs)}; missing {', '.join(missing)} (found {', '.join(matrix.runs)})"
        )
    return matrix.rows(runs)


def _places(matrix: ScoreMatrix, rows: Rows, units: tuple[str, ...], unit_of_task: Mapping[str, str]) -> Places:
    of_task = [unit_of_task[task] for task in matrix.tasks]
    places = Places(
        baseline=matrix.row(rows.baseline),
        givers=np.array([matrix.row(rows.giver(unit)) for unit in units]),
        own=np.array([matrix.row(rows.own(unit)) for unit in of_task]),
        small=np.array([matrix.row(rows.small(unit)) for unit in of_task]),
        unit_of=np.array([units.index(unit) for unit in of_task]),
    )
    tasks = np.arange(len(of_task))
    wanted = [(row, j) for row in (places.baseline, *places.givers) for j in tasks]
    wanted += [(row, j) for column in (places.own, places.small) for row, j in zip(column, tasks, strict=True)]
    empty = [f"{matrix.runs[row]} on {matrix.tasks[j]}" for row, j in wanted if np.isnan(matrix.values[row, j])]
    if empty:
        raise ScoresError(f"expected a score of {', '.join(dict.fromkeys(empty))}; found an empty cell")
    return places


def _estimates(
    mean: ScoreMatrix,
    resampled: Float[np.ndarray, "resample run task"] | None,
    places: Places,
    known: Identified,
    shrunk: bool,
) -> tuple[Estimate, Estimate | None]:
    """What the probes say, as seen and on every resample."""
    point = estimate(mean.values, places, known)
    drawn = None if resampled is None else estimate(resampled, places, known)
    if not shrunk:
        return point, drawn
    if drawn is None:
        raise ScoresError("shrinking contributions needs to know their noise: scores with samples, or several seeds")
    variances = np.var(drawn.contribution, axis=0)
    return _shrunk(point, variances), _shrunk(drawn, variances)


def _shrunk(found: Estimate, variances: Float[np.ndarray, "giver receiver"]) -> Estimate:
    pulled = shrink(found.contribution, variances)
    return replace(found, contribution=pulled, outward=outward(pulled), inward=inward(pulled))


def _temperature(point: Estimate, settings: Settings) -> float:
    if settings.temperature == "auto":
        return smallest_temperature(lambda tau: _parts(point, tau)["all"], *settings.weight_range)
    return float(settings.temperature)


def _parts(found: Estimate, temperature: float) -> Parts:
    return weight_parts(found.outward, found.inward, found.difficulty, temperature)


def _needs(
    matrices: Sequence[ScoreMatrix], places: Places, known: Identified, settings: Settings, temperature: float,
    weights: Float[np.ndarray, " unit"], units: tuple[str, ...],
) -> tuple[Need, ...]:  # fmt: skip
    def errors(source: str) -> Float[np.ndarray, " unit"]:
        resampled = resample_scores(matrices, settings.resamples, settings.seed, (source,))
        _, drawn = _estimates(mean_matrix(matrices), resampled, places, known, settings.shrink)
        assert drawn is not None
        low, high = np.percentile(_parts(drawn, temperature)["all"], (16, 84), axis=0)
        # Half the middle two thirds: a standard error that a few extreme ratios cannot blow up.
        return np.asarray((high - low) / 2)

    of_seeds = errors("seeds") if len(matrices) > 1 else None
    return needs(units, weights, errors("samples"), of_seeds, len(matrices))


def _warnings(mean: ScoreMatrix, units: tuple[str, ...], seeds: int) -> tuple[str, ...]:
    warnings = []
    if len(units) == 1:
        warnings.append(f"{units[0]} is the only unit: there is nothing to balance, and its weight is 1")
    if not mean.samples and seeds == 1:
        warnings.append(
            "the table holds scores without their samples, so nothing here has an interval and a gain that is only "
            "noise cannot be told from a real one"
        )
    if not mean.samples and seeds > 1:
        warnings.append("the tables hold scores without their samples: intervals hold the noise of the seeds alone")
    return tuple(warnings)
