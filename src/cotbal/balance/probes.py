"""The runs that feed the equations, by form, and their scores.

Eq. 15 is Eq. 3 with single-task models instead of probes and the base checkpoint instead of the
mini probe; Eq. 16 and 17 are Eq. 9 on models trained on one task alone. So each formula is written
once, and a form names the runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from cotbal.balance.uncertainty import SOURCES, resample_scores
from cotbal.errors import ScoresError
from cotbal.scores.matrix import ScoreMatrix, mean_matrix

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
    """The form that a table of scores was made for: `standard` if it has a row `mini`."""
    return "simple" if BASE in runs and MINI not in runs else "standard"


@dataclass(frozen=True)
class Probes:
    """Scores of the runs that a form reads.

    Attributes:
        units: names, in order of first appearance.
        form: `standard` or `simple`.
        matrices: one per training seed, with the rows that the form reads.
        mean: their mean.
        unit_of_task: index of the unit of each task.
        baseline: row of the run that contributions are counted from.
        givers: for each unit, the row of the run that saw its large portion.
        full, mini: for each task, the two rows of its difficulty.
        has_gain: tasks whose gain, the denominator of Eq. 3, is not just noise (see `guards`).
        has_score: tasks whose score, the denominator of Eq. 9, is not just noise.
    """

    units: tuple[str, ...]
    form: Form
    matrices: tuple[ScoreMatrix, ...]
    mean: ScoreMatrix
    unit_of_task: Int[np.ndarray, " task"]
    baseline: int
    givers: Int[np.ndarray, " unit"]
    full: Int[np.ndarray, " task"]
    mini: Int[np.ndarray, " task"]
    has_gain: Bool[np.ndarray, " task"]
    has_score: Bool[np.ndarray, " task"]

    def resample(
        self, resamples: int, seed: int, sources: Sequence[str] = SOURCES
    ) -> Float[np.ndarray, "resample run task"] | None:
        """Score matrices as other samples and seeds could have given them; None where nothing is
        known about their noise.
        """
        if not self.mean.samples and len(self.matrices) == 1:
            return None
        return resample_scores(self.matrices, resamples, seed, sources)


def read_probes(
    scores: ScoreMatrix | Sequence[ScoreMatrix],
    units: Mapping[str, str] | None = None,
    form: Form | None = None,
    difficulty: Difficulty = "real",
) -> Probes:
    """The rows of the form and the units of the tasks.

    Args:
        scores: the score matrix, or one per training seed.
        units: task -> unit; by default every task is its own unit.
        form: None: that of the rows.

    Raises:
        ScoresError: a row or a score is missing, or the matrices of two seeds do not fit together.
    """
    matrices = [scores] if isinstance(scores, ScoreMatrix) else list(scores)
    tasks = matrices[0].tasks
    unit_names = [(units or {}).get(task, task) for task in tasks]
    names = tuple(dict.fromkeys(unit_names))
    form = form or form_of(matrices[0].runs)
    runs = form_runs(form, difficulty, names)
    read = tuple(_rows(matrix, runs.names) for matrix in matrices)
    row = {run: i for i, run in enumerate(runs.names)}
    everything = np.ones(len(tasks), dtype=bool)
    probes = Probes(
        units=names,
        form=form,
        matrices=read,
        mean=mean_matrix(read),
        unit_of_task=np.array([names.index(unit) for unit in unit_names]),
        baseline=row[runs.baseline],
        givers=np.array([row[runs.giver[unit]] for unit in names]),
        full=np.array([row[runs.full[unit]] for unit in unit_names]),
        mini=np.array([row[runs.mini[unit]] for unit in unit_names]),
        has_gain=everything,
        has_score=everything,
    )
    _require_scores(probes)
    return probes


def _rows(matrix: ScoreMatrix, runs: tuple[str, ...]) -> ScoreMatrix:
    missing = [run for run in runs if run not in matrix.runs]
    if missing:
        raise ScoresError(
            f"expected the rows {', '.join(runs)}; missing {', '.join(missing)} (found"
            f" {', '.join(matrix.runs)})"
        )
    return matrix.rows(runs)


def _require_scores(probes: Probes) -> None:
    """Single-task runs answer one task alone, so only the cells that the equations read are
    required.
    """
    tasks = np.arange(len(probes.unit_of_task))
    needed = np.zeros(probes.mean.values.shape, dtype=bool)
    needed[[probes.baseline, *probes.givers]] = True
    needed[probes.full, tasks] = True
    needed[probes.mini, tasks] = True
    empty = [
        f"{probes.mean.runs[run]} on {probes.mean.tasks[task]}"
        for run, task in np.argwhere(needed & np.isnan(probes.mean.values))
    ]
    if empty:
        raise ScoresError(f"expected a score of {', '.join(empty)}; found an empty cell")
