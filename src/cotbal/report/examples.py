"""Validation examples with the answer of each probe, where the probes disagree most."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from cotbal.data.files import default_cache, image_cache, read_sealed_rows
from cotbal.data.reading.images import is_within, open_image
from cotbal.errors import DataError
from cotbal.report.contents import Contents, RunContents
from cotbal.report.formatting import number

PER_TASK = 4
SIDE = 224  # pixels of an image
LIMIT = 20_000  # bytes of a lossless one
SPLIT = "validation"


@dataclass(frozen=True)
class Answer:
    """One text and the probes that gave it; `verdict` is `right`, `wrong`, or the score of an
    answer in between.
    """

    text: str
    runs: tuple[str, ...]
    verdict: str


@dataclass(frozen=True)
class Example:
    """One validation record; an image is None where it could not be read, else a `data:`
    address.
    """

    id: str
    images: tuple[str | None, ...]
    question: str
    references: tuple[str, ...]
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Folders:
    """Where the images of examples are.

    Attributes:
        root: of their names.
        within: folders that they must be in, since a report may be shown to others; None allows
            any.
    """

    root: Path
    within: tuple[Path, ...] | None

    def thumbnail(self, name: str) -> str | None:
        """The image as a `data:` address, or None where it is outside or not readable."""
        path = self.root / name
        allowed = self.within is None or is_within(path, self.within)
        return data_uri(path) if allowed else None


def examples(contents: Contents) -> dict[str, list[Example]]:
    """Task -> a few examples, for every task that probes have answered."""
    by_task = {task: _of_task(contents, task) for task in contents.drawn}
    return {task: chosen for task, chosen in by_task.items() if chosen}


def _of_task(contents: Contents, task: str) -> list[Example]:
    planned = contents.compared(contents.of_first_seed(contents.probes), task)
    probes = [run for run in planned if _has_answers(contents, run, task)]
    if not probes:
        return []
    scores = [run.scores[task, SPLIT] for run in probes]
    metrics = [of_run.metrics[contents.metric_of(of_run)] for of_run in scores]
    values = np.stack([metric.measured.values for metric in metrics])
    records = [read_sealed_rows(run.paths.generations(task, SPLIT)) for run in probes]
    folders = folders_of(contents)
    maximum = metrics[0].maximum
    chosen = []
    for index in choose(values, scores[0].clusters, PER_TASK):
        rows = [of_run[index] for of_run in records]
        chosen.append(_example(rows, values[:, index], probes, maximum, folders))
    return chosen


def folders_of(contents: Contents) -> Folders:
    """Where the recipe of a run directory has its images; without one, the directory itself."""
    root = contents.recipe.images if contents.recipe else contents.directory
    is_confined = contents.recipe is None or contents.recipe.confined
    return Folders(root, (root, image_cache(default_cache())) if is_confined else None)


def _has_answers(contents: Contents, run: RunContents, task: str) -> bool:
    """Whether a run has answered a task and its scores are known (a judge may not have run yet)."""
    scores = run.scores.get((task, SPLIT))
    if scores is None or contents.metric_of(scores) not in scores.metrics:
        return False
    return run.paths.generations(task, SPLIT).exists()


def choose(
    values: Float[np.ndarray, "run sample"], clusters: Int[np.ndarray, " sample"], count: int
) -> list[int]:
    """Samples on which the runs' scores differ most, each about another image."""
    chosen: dict[int, int] = {}
    for index in np.argsort(-values.std(axis=0), kind="stable"):
        chosen.setdefault(int(clusters[index]), int(index))
        if len(chosen) == count:
            break
    return list(chosen.values())


def _example(
    rows: Sequence[Any],
    values: np.ndarray,
    probes: Sequence[RunContents],
    maximum: float,
    folders: Folders,
) -> Example:
    record = rows[0]
    runs: dict[str, list[str]] = {}
    score: dict[str, float] = {}
    for row, value, run in zip(rows, values, probes, strict=True):
        runs.setdefault(row["answer"], []).append(run.name)
        score[row["answer"]] = float(value)
    answers = []
    for text, names in runs.items():
        verdict = _verdict(score[text], maximum)
        answers.append(Answer(text, tuple(names), verdict))
    answers.sort(key=lambda answer: -score[answer.text])
    return Example(
        id=str(record["id"]),
        images=tuple(map(folders.thumbnail, record["images"])),
        question=record["question"],
        references=tuple(record["references"]),
        answers=tuple(answers),
    )


def _verdict(value: float, maximum: float) -> str:
    if value >= maximum:
        return "right"
    if value <= 0:
        return "wrong"
    score = number(value, digits=2)
    return f"scored {score} of {maximum:g}"


def data_uri(path: Path) -> str | None:
    """A thumbnail as a `data:` address, or None where there is no readable image.

    A report is also read after a failure, so a broken image does not raise an error.
    """
    try:
        small = open_image(path)
    except DataError:
        return None
    small.thumbnail((SIDE, SIDE))
    # Lossless for drawings, which stay small so; JPEG for what does not fit.
    kind = "png"
    content = _saved(small, "PNG", optimize=True)
    if len(content) > LIMIT:
        kind = "jpeg"
        content = _saved(small, "JPEG", quality=60)
    text = base64.b64encode(content).decode()
    return f"data:image/{kind};base64,{text}"


def _saved(image: Image.Image, kind: str, **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
