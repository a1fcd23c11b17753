"""Where everything of a job lies on disk: paths and atomic typed files. Decides nothing."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from filelock import FileLock, Timeout

from cotbal.errors import RunError


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is either whole or absent, whatever happens in between."""
    with whole_file(path) as file:
        file.write(text)


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """A text file to write into piece by piece, which takes the place of `path` when the block ends
    well.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically."""
    write_text(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Write one JSON value a line, atomically."""
    with whole_file(path) as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read_json(path: Path) -> Any:
    """Read a JSON file that was written by us. Raises RunError where something else has been
    written over it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(
            f"{path}: expected JSON as cotbal writes it, whole or not at all; found it broken"
            f" ({error})"
        ) from None


def read_jsonl(path: Path) -> list[Any]:
    """Read a file of JSON lines; a last line that was cut off by a kill is left out."""
    if not path.exists():
        return []
    rows = []
    # Not splitlines(): JSON may hold other line separators of Unicode inside a text. A cut may go
    # through a character.
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def append_jsonl(path: Path, row: Any) -> None:
    """Add one line; the only kind of file that grows in place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


@contextmanager
def locked(path: Path, wait: float = 0.0) -> Iterator[None]:
    """Hold `path` for this process alone; the system lets go when the process dies, however it
    dies.

    Raises:
        RunError: another process still holds it after `wait` seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=wait, poll_interval=0.05)
    except Timeout:
        raise RunError(
            f"{path.parent}: another cotbal command works in this directory; wait for it, or give"
            " another --out"
        ) from None
    try:
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether a process holds `path`; one on another machine is seen only where the file system
    shares locks.
    """
    if not path.exists():
        return False
    try:
        with locked(path):
            return False
    except RunError:
        return True


@dataclass(frozen=True)
class RunPaths:
    """The files of one run (a probe, a final training, or an amount of the curve)."""

    root: Path

    @property
    def job(self) -> Path:
        """What to do, and the identity of the run."""
        return self.root / "job.json"

    @property
    def log(self) -> Path:
        """Everything the worker printed."""
        return self.root / "log.txt"

    @property
    def lock(self) -> Path:
        """Held by the worker of this run."""
        return self.root / "lock"

    @property
    def progress(self) -> Path:
        """Where the worker is now."""
        return self.root / "progress.json"

    @property
    def training(self) -> Path:
        """Losses, one line every few optimizer steps."""
        return self.root / "training.jsonl"

    @property
    def checkpoint(self) -> Path:
        """The trained model."""
        return self.root / "checkpoint"

    @property
    def partial(self) -> Path:
        """Checkpoints inside the training, to go on from."""
        return self.root / "partial"

    @property
    def trained(self) -> Path:
        """Written after the trained model is on disk."""
        return self.root / "trained.json"

    @property
    def outcome(self) -> Path:
        """Written last: its existence means that the run is done."""
        return self.root / "outcome.json"

    @property
    def failure(self) -> Path:
        """Written when the run failed; removed when it is tried again."""
        return self.root / "failure.json"

    def generations(self, task: str, split: str) -> Path:
        """Answers of the trained model on one split of one task."""
        return self.root / "generations" / f"{task}.{split}.jsonl"

    def scores(self, task: str, split: str) -> Path:
        """Per-sample scores of these answers."""
        return self.root / "scores" / f"{task}.{split}.json"

    @property
    def done(self) -> bool:
        """Whether the run is done."""
        return self.outcome.exists()


@dataclass(frozen=True)
class RunDir:
    """The files of one job."""

    root: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.root / "recipe.yaml"

    @property
    def plan(self) -> Path:
        """Every run with its cost."""
        return self.root / "plan.json"

    @property
    def lock(self) -> Path:
        """Held while a command works here."""
        return self.root / "lock"

    @property
    def driver(self) -> Path:
        """Which process holds the lock."""
        return self.root / "driver.json"

    @property
    def score_table(self) -> Path:
        """The score matrix."""
        return self.root / "scores.csv"

    @property
    def balance(self) -> Path:
        """Contribution, difficulty, weights, intervals, flags."""
        return self.root / "balance.json"

    @property
    def weights(self) -> Path:
        """Unit and task -> weight."""
        return self.root / "weights.json"

    @property
    def report(self) -> Path:
        """The report's directory."""
        return self.root / "report"

    @property
    def comparison(self) -> Path:
        """Tables and page of `compare` and `ablate`."""
        return self.root / "comparison"

    @property
    def curve_table(self) -> Path:
        """Scores of every amount, as a score matrix."""
        return self.root / "curve" / "scores.csv"

    @property
    def curve_numbers(self) -> Path:
        """The same with intervals, records and shares."""
        return self.root / "curve" / "curve.json"

    def seeded(self, seed: int) -> RunDir:
        """The same files for the runs of another training seed than that of the recipe."""
        return RunDir(self.root / f"seed-{seed}")

    def portions(self, task: str) -> Path:
        """Which portion holds each training record of `task`."""
        return self.root / "portions" / f"{task}.csv"

    def probe(self, run: str) -> RunPaths:
        """The files of one probe; `full:<unit>` becomes `full-<unit>`, which every file system
        accepts.
        """
        return RunPaths(self.root / "probes" / _folder(run))

    def final(self, run: str) -> RunPaths:
        """The files of one final training, named after its method."""
        return RunPaths(self.root / "final" / _folder(run))

    def curve(self, run: str) -> RunPaths:
        """The files of one training on an amount; `alone:<task>:1/8` becomes `alone-<task>-1_8`."""
        return RunPaths(self.root / "curve" / _folder(run))


def _folder(run: str) -> str:
    """Name of a run's directory. An amount is what follows the last `-`, so no two runs of a kind
    share one.
    """
    return run.replace(":", "-").replace("/", "_")


def move_aside(directory: Path) -> Path:
    """Rename a directory to the first free `<name>.old-<n>`, so that nothing a user had is lost."""
    number = 1
    while (aside := directory.with_name(f"{directory.name}.old-{number}")).exists():
        number += 1
    directory.rename(aside)
    return aside


def now() -> float:
    """Seconds since the epoch, as written into progress files."""
    return time.time()
