"""Validation examples: what each probe answered, preferably where the probes disagree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from cotbal.jobs.rundir import read_jsonl
from cotbal.report.contents import Contents, RunContents
from cotbal.report.formatting import number
from cotbal.report.pictures import data_uri

A_TASK = 4
SPLIT = "validation"


@dataclass(frozen=True)
class Answer:
    """One text and the probes that gave it; `verdict` is right, wrong, or the score of an answer in
    between.
    """

    text: str
    runs: tuple[str, ...]
    verdict: str


@dataclass(frozen=True)
class Example:
    """One validation record; a picture is None where it could not be read."""

    id: str
    pictures: tuple[str | None, ...]
    question: str
    references: tuple[str, ...]
    answers: tuple[Answer, ...]


def examples(contents: Contents) -> dict[str, list[Example]]:
    """Task -> a few examples, for every task that probes have answered."""
    found = {task: _of_task(contents, task) for task in contents.tasks}
    return {task: chosen for task, chosen in found.items() if chosen}


def _of_task(contents: Contents, task: str) -> list[Example]:
    probes = [
        run
        for run in contents.of_first_seed(contents.probes)
        if (task, SPLIT) in run.scores and run.paths.generations(task, SPLIT).exists()
    ]
    if not probes:
        return []
    metric = contents.metric_of(probes[0].scores[task, SPLIT])
    probes = [
        run for run in probes if metric in run.scores[task, SPLIT].metrics
    ]  # a judge may still have to be asked
    if not probes:
        return []
    scores = [run.scores[task, SPLIT] for run in probes]
    values = np.stack([found.metrics[metric].measured.values for found in scores])
    records = [read_jsonl(run.paths.generations(task, SPLIT)) for run in probes]
    images = contents.recipe.images if contents.recipe else contents.directory
    return [
        _example(
            [rows[index] for rows in records],
            values[:, index],
            probes,
            scores[0].metrics[metric].maximum,
            images,
        )
        for index in choose(values, scores[0].clusters, A_TASK)
    ]


def choose(
    values: Float[np.ndarray, "run sample"], clusters: Int[np.ndarray, " sample"], count: int
) -> list[int]:
    """Samples on which the runs' scores differ most, each of another picture."""
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
    images: Path,
) -> Example:
    record = rows[0]
    runs: dict[str, list[str]] = {}
    score: dict[str, float] = {}
    for row, value, run in zip(rows, values, probes, strict=True):
        runs.setdefault(row["answer"], []).append(run.name)
        score[row["answer"]] = float(value)
    answers = [
        Answer(text, tuple(names), _verdict(score[text], maximum)) for text, names in runs.items()
    ]
    return Example(
        id=str(record["id"]),
        pictures=tuple(data_uri(images / path) for path in record["images"]),
        question=record["question"],
        references=tuple(record["references"]),
        answers=tuple(sorted(answers, key=lambda answer: -score[answer.text])),
    )


def _verdict(value: float, maximum: float) -> str:
    if value >= maximum:
        return "right"
    return "wrong" if value <= 0 else f"scored {number(value, 2)} of {maximum:g}"
