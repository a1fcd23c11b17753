"""`cotbal verify`: whether the files of a run directory are as they were written, and follow from
each other; what does not is archived on request, so that the command of the job makes it again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cotbal.balance import balance as balance_scores
from cotbal.data.files import (
    archive,
    as_written,
    digest_of,
    is_locked,
    leftovers,
    locked,
    need_sealed,
    read_json,
    remove_leftovers,
)
from cotbal.data.reading.image_states import read_states
from cotbal.errors import CotbalError, RunError
from cotbal.jobs.executors import HANDLE
from cotbal.jobs.queue import archive_run
from cotbal.jobs.response import as_planned, trial_table, trials_are_done
from cotbal.jobs.rundir import RunDir, SubmissionPaths, submissions
from cotbal.jobs.verify_inputs import InputsCheck
from cotbal.jobs.verify_run import DAMAGED, MISSING, Difference, RunCheck, is_same
from cotbal.jobs.weigh import matrices_of, task_weights, units
from cotbal.recipe.recipe import Recipe, load_recipe
from cotbal.response import read_prediction
from cotbal.scores.matrix import mean_matrix
from cotbal.training.partial_checkpoints import archive_damaged
from cotbal.training.run_paths import RunPaths

KINDS = ("probes", "final", "curve", "trials")
WRITES = "the next command writes it again"
WEIGHS = "the next `balance` or `run` computes it again"
Step = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Verification:
    """What was compared, and what differs.

    Attributes:
        compared: files that were compared with a digest.
        scores: files of scores that were computed again from answers.
        differences: files that are not as they should be.
        unchecked: what could not be checked, and why.
        leftovers: temporary files of processes that have ended.
    """

    compared: int
    scores: int
    differences: tuple[Difference, ...]
    unchecked: tuple[str, ...]
    leftovers: tuple[Path, ...]


def verify(root: RunDir, step: Step) -> Verification:
    """Compare all digests of a run directory and the inputs of its runs, and compute scores from
    answers, weights from scores and the table of trials again; nothing is written there.

    Args:
        step: called with (what, done, total).

    Raises:
        RunError: this is no run directory, or a command works there.
    """
    _need_run_directory(root)
    if is_locked(root.lock):
        raise RunError(
            f"{root.root}: another cotbal command is using this directory; wait for it, then"
            " rerun this command",
            "directory-in-use",
        )
    return _compared(root, step)


def _need_run_directory(root: RunDir) -> None:
    if not root.plan.exists() and not root.recipe.exists():
        root.planned()  # raises


def _compared(root: RunDir, step: Step) -> Verification:
    check = _Check(root)
    differences = list(check.differences(step))
    return Verification(
        check.compared,
        check.scores,
        tuple(differences),
        tuple(check.unchecked),
        tuple(leftovers(root.root)),
    )


def repair(root: RunDir, step: Step) -> tuple[Verification, list[Path]]:
    """Archive what differs, and remove what ended processes left. No other command works in the
    directory from the first comparison on.

    Returns:
        The verification, and what was archived, under its new names.

    Raises:
        RunError: as for `verify`.
    """
    _need_run_directory(root)
    with locked(root.lock):
        verification = _compared(root, step)
        archived = [
            _archived(path)
            for difference in verification.differences
            for path in difference.archived
            if path.exists()
        ]
        remove_leftovers(root.root)
    return verification, archived


def _archived(path: Path) -> Path:
    if path.parent.name == "partial":
        return archive_damaged(path)
    return archive_run(path) if path.is_dir() else archive(path)


class _Check:
    """Compares the files of a job; see `RunCheck` for those of a run."""

    def __init__(self, root: RunDir) -> None:
        self.root = root
        self.compared = 0
        self.scores = 0
        self.unchecked: list[str] = []

    def differences(self, step: Step) -> Iterator[Difference]:
        root = self.root
        recipe, problems = self._recipe()
        yield from problems
        sealed = [root.plan, root.weights, root.balance, root.design]
        yield from self._documents([*sealed, *root.trial_table.parent.glob("weights-*.json")])
        folder = root.portions("").parent
        portions = {*folder.glob("*.csv"), *(p.with_suffix("") for p in folder.glob("*.sha256"))}
        tables = [root.score_table, root.trial_table, *sorted(portions)]
        tables += [home.score_table for home in root.seeds]
        yield from self._tables(tables)
        yield from self._others()
        if not root.plan.exists():
            yield Difference(root.plan, MISSING, WRITES)
        runs = self._runs()
        sound = True
        for number, paths in enumerate(runs):
            step("comparing runs", number, len(runs))
            check = RunCheck(paths, recipe)
            differences = list(check.differences())
            wrong = [difference.file for difference in differences]
            sound = sound and not check.stale and wrong in ([], [paths.training])
            self.compared += check.compared
            self.scores += check.scores
            self.unchecked += check.unchecked
            yield from differences
        if recipe is not None:
            step("comparing the data", len(runs), len(runs))
            inputs = InputsCheck(root, recipe)
            yield from inputs.differences(runs)
            self.unchecked += inputs.unchecked
        if recipe is None:
            self.unchecked.append("weights: not computed again: there is no sound recipe")
        elif not sound:
            self.unchecked.append("weights: not computed again: scores differ")
        else:
            yield from self._derived(recipe)

    def _recipe(self) -> tuple[Recipe | None, list[Difference]]:
        path = self.root.recipe
        if not path.exists():
            return None, [Difference(path, MISSING, WRITES)]
        damaged = Difference(path, DAMAGED, WRITES, (path, digest_of(path)))
        self.compared += 1
        try:
            need_sealed(path)
            return load_recipe(path), []
        except CotbalError:
            return None, [damaged]

    def _documents(self, paths: list[Path]) -> Iterator[Difference]:
        """JSON files that hold their digest."""
        for path in paths:
            if path.exists() and self._content(path) is None:
                redo = WEIGHS if path in (self.root.weights, self.root.balance) else WRITES
                if path.parent == self.root.design.parent and path != self.root.design:
                    redo = "`cotbal steer` with the same options chooses the weights again"
                yield Difference(path, DAMAGED, redo, (path,))

    def _content(self, path: Path) -> Any:
        """The content of a JSON file; None where it is damaged."""
        self.compared += 1
        try:
            return read_json(path)
        except RunError:
            return None

    def _tables(self, paths: list[Path]) -> Iterator[Difference]:
        """Tables with a digest beside them. One of trials of other origin has none."""
        for path in paths:
            given = path == self.root.trial_table and not self.root.design.exists()
            if given or not (path.exists() or digest_of(path).exists()):
                continue
            self.compared += 1
            redo = WRITES if path.parent.name == "portions" else WEIGHS
            if path == self.root.trial_table:
                redo = "the next `response` writes it again"
            if not path.exists():
                yield Difference(path, MISSING, redo)
            elif not _is_sealed(path):
                yield Difference(path, DAMAGED, redo, (path, digest_of(path)))

    def _others(self) -> Iterator[Difference]:
        """States of images, frozen predictions, and the answers for a server."""
        for path in sorted(self.root.images.glob("*.npz")):
            self.compared += 1
            if not _holds_states(path):
                yield Difference(path, DAMAGED, WRITES, (path,))
        for path in sorted(self.root.trial_table.parent.glob("prediction-*.json")):
            self.compared += 1
            try:
                read_prediction(path)
            except CotbalError:
                redo = "`cotbal steer` with the same options predicts again, with today's date"
                yield Difference(path, DAMAGED, redo, (path,))
        for paths in submissions(self.root):
            yield from self._submission(paths)

    def _submission(self, paths: SubmissionPaths) -> Iterator[Difference]:
        """The answers for a server, and what they were made from."""
        locks = (paths.driver_lock, paths.lock)
        if any(map(is_locked, locks)) or (paths.root / HANDLE).exists():
            self.unchecked.append(f"{paths.root}: its job has not ended")
            return
        if self._content(paths.job) is None:
            redo = "`cotbal submission` answers all questions again"
            yield Difference(paths.job, DAMAGED, redo, (paths.root,))
            return
        if paths.questions.exists() and digest_of(paths.questions).exists():
            self.compared += 1
            if not _is_sealed(paths.questions):
                redo = "`cotbal submission` writes it again"
                yield Difference(paths.questions, DAMAGED, redo, (paths.questions,))
        for piece in paths.pieces:
            self.compared += 1
            if not _is_sealed(piece):
                redo = "`cotbal submission` answers these questions again"
                yield Difference(piece, DAMAGED, redo, (piece, digest_of(piece), paths.file))

    def _runs(self) -> list[RunPaths]:
        """Every run on disk that was not archived."""
        homes = [self.root, *self.root.seeds]
        folders = [
            path for home in homes for kind in KINDS for path in home.root.glob(f"{kind}/*/")
        ]
        return [RunPaths(path) for path in sorted(folders) if ".old-" not in path.name]

    def _derived(self, recipe: Recipe) -> Iterator[Difference]:
        """What follows from the scores of all runs: weights, and the table of trials."""
        root = self.root
        if root.balance.exists() or root.score_table.exists():
            try:
                yield from self._weights()
            except RunError as error:
                self.unchecked.append(f"weights: not computed again: {error}")
        if root.design.exists() and root.trial_table.exists():
            try:
                planned = as_planned(recipe, root)
                done = trials_are_done(planned, root)
            except CotbalError:  # of a damaged design, which is a difference already
                return
            table = root.trial_table
            if not done:
                self.unchecked.append(f"{table}: not computed again: trials are not finished")
            elif _is_sealed(table) and trial_table(planned, root) != table.read_text("utf-8"):
                redo = "the next `response` writes it again"
                problem = "not what the scores give"
                yield Difference(table, problem, redo, (table, digest_of(table)))

    def _weights(self) -> Iterator[Difference]:
        root = self.root
        recipe, matrices = matrices_of(root)
        result = balance_scores(matrices, units(recipe), recipe.file.balance)
        written = json.loads(json.dumps(result.to_json()))
        table = mean_matrix(matrices).to_csv()
        if not root.balance.exists():
            yield Difference(root.balance, MISSING, WEIGHS)
        elif (content := self._content(root.balance)) is not None and not is_same(content, written):
            problem = "not what the scores give"
            yield Difference(root.balance, problem, WEIGHS, (root.balance,))
        yield from self._score_table(table)
        yield from self._task_weights(recipe, result.weights)

    def _score_table(self, expected: str) -> Iterator[Difference]:
        path, beside = self.root.score_table, digest_of(self.root.score_table)
        if not path.exists() and not beside.exists():
            yield Difference(path, MISSING, WEIGHS)
        elif path.exists() and _is_sealed(path) and path.read_text(encoding="utf-8") != expected:
            yield Difference(path, "not what the runs give", WEIGHS, (path, beside))

    def _task_weights(self, recipe: Recipe, weights: dict[str, float]) -> Iterator[Difference]:
        path = self.root.weights
        content = self._content(path) if path.exists() else None
        if not path.exists():
            yield Difference(path, MISSING, WEIGHS)
        if content is None:
            return
        with as_written(path):
            of_units, of_tasks = content["weights"], content["tasks"]
        if not is_same(of_units, weights):
            self.unchecked.append(f"{path}: not those of the probes, as after --weights")
        elif not is_same(of_tasks, task_weights(recipe.mixture, weights)):
            yield Difference(path, "weights of tasks differ from those of units", WEIGHS, (path,))


def _is_sealed(path: Path) -> bool:
    try:
        need_sealed(path)
    except RunError:
        return False
    return True


def _holds_states(path: Path) -> bool:
    try:
        read_states(path)
    except RunError:
        return False
    return True
