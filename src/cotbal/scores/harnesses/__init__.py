"""Result files of evaluation harnesses: one file per harness, whose name is that of the module.

A harness module offers `read(directory) -> Evaluation`: everything that a model scored, as the
harness wrote it, with whatever a reader of the numbers should know. It never rescales a number and
never picks one of several.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from cotbal.errors import ScoresError

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Benchmark:
    """What a harness wrote about one of its benchmarks.

    Attributes:
        name: as the harness calls it.
        metrics: name of the metric -> value, in the harness's own scale.
        lower_is_better: metrics that the harness says are better when lower.
        questions: how many were asked, or None where the harness does not say.
        rows: one per question, as in the harness's file of samples; empty where there is none.
    """

    name: str
    metrics: Mapping[str, float]
    lower_is_better: frozenset[str] = frozenset()
    questions: int | None = None
    rows: tuple[Row, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """What one model scored.

    Attributes:
        directory: where it was read.
        benchmarks: name -> what was written about it.
        warnings: what a reader should know, one sentence each.
    """

    directory: Path
    benchmarks: Mapping[str, Benchmark]
    warnings: tuple[str, ...] = field(default=())


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether JSON gave a number that a float can hold: no truth value, nothing infinite, not
    NaN."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) <= sys.float_info.max
    )


def one_model(directory: Path, models: Mapping[Path, str]) -> None:
    """Stop where the files below a directory are of several models.

    Args:
        models: result file -> the model that it is about.

    Raises:
        ScoresError: there are several; their numbers would end in one row.
    """
    folders: dict[str, Path] = {}
    for path, model in models.items():
        folders.setdefault(model, path.parent)
    if len(folders) > 1:
        named = [f"{model} ({folder})" for model, folder in sorted(folders.items())]
        listed = ", ".join(named)
        raise ScoresError(
            f"{directory}: expected the results of one model; found those of {listed}; give the"
            " folder of one of them"
        )
