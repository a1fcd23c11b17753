"""What the equations are applied to: the score matrices of the runs that a form reads, and where
each score stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cotbal.balance.estimate import Places
from cotbal.balance.forms import Rows, form_of, rows_of
from cotbal.balance.settings import Settings
from cotbal.balance.uncertainty import resample_scores
from cotbal.errors import ScoresError
from cotbal.recipe.runs import Form
from cotbal.scores.matrix import ScoreMatrix, mean_matrix


@dataclass(frozen=True)
class Case:
    """Scores, units and settings that fit together.

    Attributes:
        units: names, in order of first appearance.
        form: `standard` or `simple`.
        settings: how scores become weights.
        matrices: one a training seed, with the rows that the form reads.
        mean: their mean.
        places: where the scores of the equations stand.
    """

    units: tuple[str, ...]
    form: Form
    settings: Settings
    matrices: tuple[ScoreMatrix, ...]
    mean: ScoreMatrix
    places: Places

    def resampled(
        self, sources: Sequence[str] = ("samples", "seeds")
    ) -> Float[np.ndarray, "resample run task"] | None:
        """Score matrices as they could have come out; None where nothing is known about their
        noise.
        """
        if not self.mean.samples and len(self.matrices) == 1:
            return None
        return resample_scores(self.matrices, self.settings.resamples, self.settings.seed, sources)


def make_case(
    scores: ScoreMatrix | Sequence[ScoreMatrix], units: Mapping[str, str] | None, settings: Settings
) -> Case:
    """Find the rows of the form and the units of the tasks.

    Raises:
        ScoresError: a row or a score is missing, or the matrices of two seeds do not fit together.
    """
    matrices = [scores] if isinstance(scores, ScoreMatrix) else list(scores)
    unit_of_task = {task: (units or {}).get(task, task) for task in matrices[0].tasks}
    names = tuple(dict.fromkeys(unit_of_task.values()))
    form = settings.form or form_of(matrices[0].runs)
    rows = rows_of(form, settings.difficulty)
    read = tuple(_needed(matrix, rows.names(names)) for matrix in matrices)
    return Case(
        names, form, settings, read, mean_matrix(read), _places(read[0], rows, names, unit_of_task)
    )


def _needed(matrix: ScoreMatrix, runs: tuple[str, ...]) -> ScoreMatrix:
    """The rows that the form reads, in its order."""
    missing = [run for run in runs if run not in matrix.runs]
    if missing:
        raise ScoresError(
            f"expected the rows {', '.join(runs)}; missing {', '.join(missing)} (found"
            f" {', '.join(matrix.runs)})"
        )
    return matrix.rows(runs)


def _places(
    matrix: ScoreMatrix, rows: Rows, units: tuple[str, ...], unit_of_task: Mapping[str, str]
) -> Places:
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
    wanted += [
        (row, j)
        for column in (places.own, places.small)
        for row, j in zip(column, tasks, strict=True)
    ]
    empty = [
        f"{matrix.runs[row]} on {matrix.tasks[j]}"
        for row, j in wanted
        if np.isnan(matrix.values[row, j])
    ]
    if empty:
        raise ScoresError(
            f"expected a score of {', '.join(dict.fromkeys(empty))}; found an empty cell"
        )
    return places
