"""The runs that feed the equations, by form, and their scores.

Eq. 15 is Eq. 3 with single-task models instead of probes and the base checkpoint instead of the
mini probe; Eq. 16 and 17 are Eq. 9 on models trained on one task alone. So each formula is written
once, and a form names the runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from cotbal.balance.noise import CROSS, OWN, TrainingNoise, training_noise
from cotbal.balance.uncertainty import Draws, draw_samples
from cotbal.errors import ScoresError
from cotbal.scores.interval import ALL_NOISE, Noise
from cotbal.scores.matrix import (
    ScoreMatrix,
    in_one_order,
    require_same_samples,
    row_means,
    stacked,
)

Form = Literal["standard", "simple"]
Difficulty = Literal["real", "precise"]
MINI, BASE = "mini", "base"  # names of runs
_REPLICATE = re.compile(r"^(.+)#(\d+)$")


def full_run(unit: str) -> str:
    """Name of the probe that sees the large portion of `unit` and the minis of all others."""
    return f"full:{unit}"


def solo_run(unit: str) -> str:
    """Name of the run that sees the large portion of `unit` and nothing else."""
    return f"solo:{unit}"


def solo_mini_run(unit: str) -> str:
    """Name of the run that sees the mini of `unit` and nothing else."""
    return f"solo-mini:{unit}"


def replicate_name(run: str, number: int) -> str:
    """Name of the row of replicate `number` of a run: the same training with another seed.

    The first is the run itself; `mini#2` is the second training of `mini`.
    """
    return run if number == 1 else f"{run}#{number}"


def base_name(row: str) -> str:
    """The run that a row of a score matrix is a replicate of; its own name for the first."""
    match = _REPLICATE.match(row)
    return match.group(1) if match else row


@dataclass(frozen=True)
class FormRuns:
    """The names of the runs that a form reads.

    Attributes:
        baseline: the run that contributions are counted from.
        giver: unit -> the run that saw the large portion of this unit, in Eq. 3.
        full: unit -> the run that saw the large portion of this unit, in Eq. 9.
        mini: unit -> the run that saw its mini, in Eq. 9.
    """

    baseline: str
    giver: Mapping[str, str]
    full: Mapping[str, str]
    mini: Mapping[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """Every run once, the baseline first."""
        by_unit = (*self.giver.values(), *self.full.values(), *self.mini.values())
        return tuple(dict.fromkeys((self.baseline, *by_unit)))


def form_runs(form: Form, difficulty: Difficulty, units: Sequence[str]) -> FormRuns:
    """The runs that a form reads; in the simple form, difficulty is always that of single-task
    models (Eq. 16).
    """
    full = {unit: full_run(unit) for unit in units}
    solo = {unit: solo_run(unit) for unit in units}
    solo_mini = {unit: solo_mini_run(unit) for unit in units}
    if form == "simple":
        return FormRuns(BASE, giver=solo, full=solo, mini=solo_mini)
    if difficulty == "precise":
        return FormRuns(MINI, giver=full, full=solo, mini=solo_mini)
    return FormRuns(MINI, giver=full, full=full, mini=dict.fromkeys(units, MINI))


def form_of(runs: Sequence[str]) -> Form:
    """The form that a table of scores was made for: `simple` if it has a row `base` and none of
    the standard form, `mini` and `full:<task>`.
    """
    is_standard = any(run == MINI or run.startswith(full_run("")) for run in runs)
    return "simple" if BASE in runs and not is_standard else "standard"


@dataclass(frozen=True)
class Probes:
    """Scores of the runs that a form reads.

    Attributes:
        units: names, in order of first appearance.
        form: `standard` or `simple`.
        scores: one row per run, the mean over its trainings.
        trainings: of each row, how many times the run was trained.
        noise: of a single training; None where every run was trained once.
        scale: the largest score of each task; as shares of it, the noise of tasks compares.
        unit_of_task: index of the unit of each task.
        baseline: row of the run that contributions are counted from.
        givers: for each unit, the row of the run that saw its large portion.
        full, mini: for each task, the two rows of its difficulty.
        has_gain: tasks whose gain, the denominator of Eq. 3, is not just noise (see `guards`).
        has_score: tasks whose score, the denominator of Eq. 9, is not just noise.
    """

    units: tuple[str, ...]
    form: Form
    scores: ScoreMatrix
    trainings: Int[np.ndarray, " run"]
    noise: TrainingNoise | None
    scale: Float[np.ndarray, " task"]
    unit_of_task: Int[np.ndarray, " task"]
    baseline: int
    givers: Int[np.ndarray, " unit"]
    full: Int[np.ndarray, " task"]
    mini: Int[np.ndarray, " task"]
    has_gain: Bool[np.ndarray, " task"]
    has_score: Bool[np.ndarray, " task"]

    def tasks_of(self, unit: int) -> list[int]:
        """Indices of the tasks of a unit."""
        return [task for task, owner in enumerate(self.unit_of_task) if owner == unit]

    @property
    def known_noise(self) -> tuple[Noise, ...]:
        """What is known about the noise of the scores."""
        known = {"samples": bool(self.scores.samples), "training": self.noise is not None}
        return tuple(name for name in ALL_NOISE if known[name])

    def resample(
        self,
        resamples: int,
        seed: int,
        sources: Sequence[Noise] = ALL_NOISE,
        training_stream: int = 0,
    ) -> Draws | None:
        """Scores as other samples and training seeds could have given them; None where nothing is
        known about their noise.

        Args:
            sources: which noise to draw, as far as it is known.
            training_stream: another number gives independent noise of training.
        """
        if not self.known_noise:
            return None
        noisy = self.noise is not None and "training" in sources
        scores = self.scores if "samples" in sources else replace(self.scores, samples={})

        def draw(task: int, rows: Sequence[int]) -> Float[np.ndarray, "resample row"]:
            drawn = draw_samples(scores, task, rows, resamples, seed)
            if not noisy:
                return drawn
            return drawn + self.draw_training(task, rows, resamples, (seed, training_stream))

        return draw

    def draw_training(
        self, task: int, rows: Sequence[int], resamples: int, seed: Sequence[int]
    ) -> Float[np.ndarray, "resample row"]:
        """Errors of the mean scores from the noise of training; 0 for the base checkpoint, which is
        the same with every seed.
        """
        assert self.noise is not None
        runs = [self.scores.runs[row] for row in rows]
        errors = self.noise.draw(task, self.scores.tasks[task], runs, resamples, seed)
        return errors * self._noise_factors[list(rows), task]

    @cached_property
    def _noise_factors(self) -> Float[np.ndarray, "run task"]:
        """Standard deviation of every mean score, in that of one training of a repeated run."""
        tasks = np.arange(len(self.unit_of_task))
        factors = np.full(self.scores.values.shape, CROSS)
        for owners in (self.givers[self.unit_of_task], self.full):
            factors[owners, tasks] = OWN
        repeated = self.trainings > 1
        trainings = self.trainings[repeated][:, None]
        factors[repeated] = 1 / np.sqrt(trainings)
        is_untrained = [run == BASE for run in self.scores.runs]
        factors[is_untrained] = 0.0
        return factors


def read_probes(
    scores: ScoreMatrix | Sequence[ScoreMatrix],
    units: Mapping[str, str] | None = None,
    form: Form | None = None,
    difficulty: Difficulty = "real",
) -> Probes:
    """The rows of the form and the units of the tasks.

    Args:
        scores: the score matrix, or one per training seed; replicates are further rows, such as
            `mini#2`.
        units: task -> unit; by default every task is its own unit.
        form: None: that of the rows.

    Raises:
        ScoresError: a row or a score is missing, or the matrices of two seeds do not fit together.
    """
    matrices = in_one_order([scores] if isinstance(scores, ScoreMatrix) else list(scores))
    require_same_samples(matrices)
    tasks = matrices[0].tasks
    unit_names = [(units or {}).get(task, task) for task in tasks]
    names = tuple(dict.fromkeys(unit_names))
    form = form or form_of(matrices[0].runs)
    runs = form_runs(form, difficulty, names)
    for matrix in matrices:
        _require_rows(matrix, runs.names)
    trainings = stacked(matrices)
    rows = _rows_of_runs(trainings, runs.names)
    mean = row_means(runs.names, trainings, rows)
    scale = _scale(mean)
    named = zip(runs.names, rows, strict=True)
    trained = [trainings.values[of_run] for run, of_run in named if run != BASE]
    everything = np.ones(len(tasks), dtype=bool)
    probes = Probes(
        units=names,
        form=form,
        scores=mean,
        trainings=np.array([len(of_run) for of_run in rows]),
        noise=training_noise(trained, scale),
        scale=scale,
        unit_of_task=_indices(unit_names, names),
        baseline=runs.names.index(runs.baseline),
        givers=_indices(map(runs.giver.__getitem__, names), runs.names),
        full=_indices(map(runs.full.__getitem__, unit_names), runs.names),
        mini=_indices(map(runs.mini.__getitem__, unit_names), runs.names),
        has_gain=everything,
        has_score=everything,
    )
    _require_scores(probes)
    return probes


def _indices(names: Iterable[str], among: Sequence[str]) -> Int[np.ndarray, " name"]:
    return np.array([among.index(name) for name in names])


def _rows_of_runs(matrix: ScoreMatrix, runs: Sequence[str]) -> list[list[int]]:
    """The rows of all trainings of every run."""
    rows: dict[str, list[int]] = {run: [] for run in runs}
    for row, name in enumerate(matrix.runs):
        rows.get(base_name(name), []).append(row)
    return [rows[run] for run in runs]


def _require_rows(matrix: ScoreMatrix, runs: tuple[str, ...]) -> None:
    present = {base_name(row) for row in matrix.runs}
    missing = [run for run in runs if run not in present]
    if missing:
        raise ScoresError(
            f"expected the rows {', '.join(runs)}; missing {', '.join(missing)} (found"
            f" {', '.join(matrix.runs) or 'no rows'})",
            "missing-row",
        )


def _scale(matrix: ScoreMatrix) -> Float[np.ndarray, " task"]:
    """The largest score of each task over the runs."""
    largest = np.nanmax(np.abs(matrix.values), axis=0)
    return np.where(largest > 0, largest, 1.0)


def _require_scores(probes: Probes) -> None:
    """Single-task runs answer one task alone, so only the cells that the equations read are
    required.
    """
    tasks = np.arange(len(probes.unit_of_task))
    needed = np.zeros(probes.scores.values.shape, dtype=bool)
    needed[[probes.baseline, *probes.givers]] = True
    needed[probes.full, tasks] = True
    needed[probes.mini, tasks] = True
    scores = probes.scores
    empty = []
    for run, task in np.argwhere(needed & np.isnan(scores.values)):
        empty.append(f"{scores.runs[run]} on {scores.tasks[task]}")
    if empty:
        raise ScoresError(
            f"expected a score of {', '.join(empty)}; found an empty cell", "missing-score"
        )
