"""What `cotbal verify` finds in the directory of one run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cotbal.data.files import as_written, digest_of, is_locked, read_json, read_sealed_rows
from cotbal.errors import CotbalError, RunError
from cotbal.jobs.checkpoint_files import checkpoint_digest, is_model_removed, lost_files
from cotbal.jobs.executors import HANDLE
from cotbal.jobs.losses import digest_of_losses, recorded_digest
from cotbal.jobs.scoring import describe, scored
from cotbal.recipe.mixture import set_name
from cotbal.recipe.recipe import Recipe
from cotbal.recipe.runs import Run
from cotbal.scores.measure import given_by, is_stale
from cotbal.training.partial_checkpoints import COMPLETE, is_whole
from cotbal.training.run_paths import RunPaths

DAMAGED = "not as it was written"
MISSING = "missing"
TOLERANCE = 1e-9  # relative; another processor may round another way


@dataclass(frozen=True)
class Difference:
    """One file that is not as it should be.

    Attributes:
        file: what differs.
        problem: what is wrong with it.
        redo: what makes it again.
        archived: what a repair archives, so that the next command makes it again.
    """

    file: Path
    problem: str
    redo: str
    archived: tuple[Path, ...] = ()


class RunCheck:
    """Compares the files of one run with their digests and with each other.

    Args:
        recipe: names the sets that the run answers; None where it cannot be read.

    Attributes:
        compared: files that were compared with a digest.
        scores: files of scores that were computed again.
        stale: whether scores were made by other code of a metric.
        unchecked: what could not be checked, and why.
    """

    def __init__(self, paths: RunPaths, recipe: Recipe | None) -> None:
        self.paths = paths
        self.recipe = recipe
        self.compared = 0
        self.scores = 0
        self.stale = False
        self.unchecked: list[str] = []

    def differences(self) -> Iterator[Difference]:
        """What differs. A run that is being worked on is left alone."""
        paths = self.paths
        if is_locked(paths.lock) or (paths.root / HANDLE).exists():
            self.unchecked.append(f"{paths.root}: its job has not ended")
            return
        expected = self._expected(self._read(paths.job))
        if expected is None and (paths.job.exists() or self._is_begun()):
            problem = DAMAGED if paths.job.exists() else MISSING
            yield Difference(paths.job, problem, "the command redoes the run", (paths.root,))
            return
        if paths.done and (model := list(self._model_of_done())):
            yield from model
            return
        yield from self._facts()
        yield from self._partial()
        if expected is not None:
            yield from self._sets(expected if paths.done else [])

    def _is_begun(self) -> bool:
        paths = self.paths
        begun = (paths.outcome, paths.trained, paths.partial, paths.checkpoint)
        return any(path.exists() for path in (*begun, paths.root / "generations"))

    def _read(self, path: Path) -> Any:
        """The content of a JSON file; None for a missing or damaged one."""
        if not path.exists():
            return None
        self.compared += 1
        try:
            return read_json(path)
        except RunError:
            return None

    def _model_of_done(self) -> Iterator[Difference]:
        """The model of a finished run, which only the whole run makes again."""
        paths = self.paths
        outcome = self._read(paths.outcome)
        written = outcome.get("checkpoint") if isinstance(outcome, dict) else None
        if not written or not _is_state(written):
            return
        if is_model_removed(paths):
            self.unchecked.append(f"{paths.checkpoint}: the model was removed")
            return
        self.compared += len(written["sizes"])
        if checkpoint_digest(str(paths.checkpoint)) != written["digest"]:
            lost = "; ".join(lost_files(paths.checkpoint, written)) or DAMAGED
            yield Difference(paths.checkpoint, lost, "the command redoes the run", (paths.root,))

    def _facts(self) -> Iterator[Difference]:
        """JSON files about the run as a whole."""
        paths = self.paths
        if paths.outcome.exists() and self._read(paths.outcome) is None:
            redo = "the command makes again what the run no longer has, and writes it"
            yield Difference(paths.outcome, DAMAGED, redo, (paths.outcome,))
        yield from self._trained()
        for path in (paths.failure, paths.progress):
            if path.exists() and self._read(path) is None:
                yield Difference(path, DAMAGED, "nothing needs it", (path,))
        yield from self._losses()

    def _trained(self) -> Iterator[Difference]:
        """The facts of the training, which a finished run has in its outcome too."""
        path, done = self.paths.trained, self.paths.done
        if path.exists() and self._read(path) is None:
            redo = "nothing needs it" if done else "the command trains the run again"
            yield Difference(path, DAMAGED, redo, (path,))
        elif done and not path.exists():
            needed = "if outcome.json is lost too, the run is trained again"
            self.unchecked.append(f"{path}: missing; {needed}")

    def _losses(self) -> Iterator[Difference]:
        """The losses of a training that has ended, which no command writes again."""
        path = self.paths.training
        try:
            written = recorded_digest(self.paths)
        except RunError:  # of another file, which is a difference already
            return
        if written is None:
            return
        self.compared += 1
        redo = "no score needs it; remove the directory of the run to train it again"
        if path.exists():
            if digest_of_losses(self.paths) != written:
                yield Difference(path, DAMAGED, redo, (path,))
        elif list(path.parent.glob(f"{path.name}.old-*")):
            self.unchecked.append(f"{path}: archived; the report shows no losses of this run")
        else:
            yield Difference(path, MISSING, redo)

    def _partial(self) -> Iterator[Difference]:
        for mark in sorted(self.paths.partial.glob(f"checkpoint-*/{COMPLETE}")):
            self.compared += 1
            if not is_whole(mark.parent):
                redo = "the command resumes from the checkpoint before it"
                yield Difference(mark.parent, DAMAGED, redo, (mark.parent,))

    def _sets(self, expected: Sequence[str]) -> Iterator[Difference]:
        """Answers and scores of every set that the run answers, or has answered."""
        folders = {"generations": ".jsonl", "scores": ".json"}
        on_disk = [
            path.name.removesuffix(kind)
            for folder, kind in folders.items()
            for path in sorted((self.paths.root / folder).glob(f"*{kind}"))
        ]
        for key in dict.fromkeys([*expected, *on_disk]):
            yield from self._set(key, key in expected)

    def _expected(self, job: Any) -> list[str] | None:
        """The sets that a job answers; None for a job of another form."""
        tasks = {task.name: task for task in self.recipe.mixture.tasks} if self.recipe else {}
        try:
            with as_written(self.paths.job):
                run = Run.from_json(job["run"])
                keys = [set_name(name, "validation") for name in run.validation]
                for name in run.test:
                    splits = tasks[name].test if name in tasks else ()
                    keys += [set_name(name, split) for split in splits]
        except RunError:
            return None
        return keys if self.recipe else []

    def _set(self, key: str, is_expected: bool) -> Iterator[Difference]:
        answers = self.paths.root / "generations" / f"{key}.jsonl"
        scores = self.paths.root / "scores" / f"{key}.json"
        rows = self._rows(answers)
        if rows is None and (answers.exists() or is_expected):
            problem = DAMAGED if answers.exists() else MISSING
            redo = "the command answers this set again"
            if self.paths.done and not self.paths.checkpoint.exists():
                redo = "the command trains the run again, for its answers"
            archived = (answers, digest_of(answers), scores, self.paths.outcome)
            yield Difference(answers, problem, redo, archived)
        elif scores.exists() or (rows is not None and self.paths.done):
            yield from self._scores(scores, rows)

    def _rows(self, answers: Path) -> list[Any] | None:
        if not answers.exists():
            return None
        self.compared += 1
        try:
            return read_sealed_rows(answers)
        except (RunError, ValueError):
            return None

    def _scores(self, path: Path, rows: list[Any] | None) -> Iterator[Difference]:
        redo = "the command scores the answers again"
        if not path.exists():
            yield Difference(path, MISSING, redo)
            return
        content = self._read(path)
        if content is None:
            yield Difference(path, DAMAGED, redo, (path,))
        elif rows is None:
            self.unchecked.append(f"{path}: not computed again: there are no answers")
        elif problem := self._problem_of_scores(path, content, rows):
            yield Difference(path, problem, redo, (path,))

    def _problem_of_scores(self, path: Path, content: Any, rows: list[Any]) -> str:
        """What is wrong with scores; an empty text if nothing is."""
        try:
            with as_written(path):
                wrong = self._other_scores(path, content, rows)
        except RunError:
            return DAMAGED
        return f"not what the answers give: {', '.join(wrong)}" if wrong else ""

    def _other_scores(self, path: Path, content: Mapping[str, Any], rows: list[Any]) -> list[str]:
        """Entries of a file of scores that the answers contradict."""
        self.scores += 1
        described = describe(rows)
        wrong = [key for key in described if content.get(key) != described[key]]
        for name, entry in content["metrics"].items():
            try:
                if given_by(name) is not None:
                    continue
                if is_stale(name, entry.get("source")):
                    self.stale = True
                    problem = f"the code of the metric {name} has changed: `cotbal rescore`"
                    self.unchecked.append(f"{path}: not computed again: {problem}")
                    continue
                computed = scored(name, rows)
            except (CotbalError, ImportError) as error:
                self.unchecked.append(f"{path}: {name} cannot be computed: {error}")
                continue
            if not is_same(entry, json.loads(json.dumps(computed))):
                wrong.append(name)
        return wrong


def _is_state(written: Any) -> bool:
    """Whether this is what `checkpoint_state` gives."""
    sizes = written.get("sizes") if isinstance(written, dict) else None
    return isinstance(sizes, dict) and all(type(size) is int for size in sizes.values())


def is_same(first: Any, second: Any) -> bool:
    """Whether two contents of JSON files are equal, numbers up to rounding."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(
            is_same(value, second[key]) for key, value in first.items()
        )
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(is_same, first, second))
    if isinstance(first, float) and isinstance(second, float | int):
        return math.isclose(first, second, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(first == second)
