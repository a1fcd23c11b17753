"""Trials for one's own trainer, as files: a table to fill in, and the weights of every trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cotbal.data.files import require_new_directory, write_json, write_text
from cotbal.response.design import Design
from cotbal.response.lever import RATIOS, Lever
from cotbal.response.trials import empty_table

TABLE = "trials.csv"


@dataclass(frozen=True)
class DesignFiles:
    """What was written: the table, and one file of weights per row of it."""

    table: Path
    weights: tuple[Path, ...]


def write_design(
    out: Path, design: Design, lever: Lever, only_scored: Sequence[str] = ()
) -> DesignFiles:
    """Write `trials.csv` with empty scores, and `weights-01.json`, ... for its rows.

    Args:
        out: a new or empty directory.
        design: the trials.
        lever: what differs between the trials.
        only_scored: tasks that are evaluated and have no weight.

    Raises:
        CotbalError: `existing-output`, since a table may hold scores already.
    """
    require_new_directory(out)
    digits = max(2, len(str(len(design.seeds))))
    paths = [out / f"weights-{i:0{digits}}.json" for i in range(1, len(design.seeds) + 1)]
    for path, row in zip(paths, design.rounded_weights.tolist(), strict=True):
        weights = dict(zip(design.tasks, row, strict=True))
        of_lever = {"lever": lever.name} if lever is RATIOS else {}
        write_json(path, {"weights": weights, "tasks": weights, **of_lever})
    names = [path.name for path in paths]
    write_text(out / TABLE, empty_table(design, names, lever, only_scored))
    return DesignFiles(out / TABLE, tuple(paths))
