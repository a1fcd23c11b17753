"""Portions: mini lies inside large, large inside full, drawn once by seed and the same in every run."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np

from cotbal.data.pictures import faults_of_pictures
from cotbal.data.records import Records
from cotbal.errors import DataError
from cotbal.runs import Portion
from cotbal.sections import Portions

LEVELS: tuple[Portion, ...] = ("mini", "large", "full")  # a level is a place in this tuple
_SHOWN = 20


@dataclass(frozen=True)
class Portioned:
    """The records of one task and the smallest portion that holds each.

    Attributes:
        task: name of the task.
        indices: places of the kept records in their Records, ascending; shape [n].
        levels: 0 mini, 1 large, 2 full; shape [n].
    """

    task: str
    indices: np.ndarray
    levels: np.ndarray

    def of(self, portion: Portion) -> np.ndarray:
        """Places in the Records of the records of `portion`, ascending."""
        chosen: np.ndarray = self.indices[select(self.levels, portion)]
        return chosen

    @property
    def sizes(self) -> dict[Portion, int]:
        """Number of records of every portion."""
        return {"none": 0, **{name: int((self.levels <= level).sum()) for level, name in enumerate(LEVELS)}}


def draw_portions(n: int, task: str, portions: Portions) -> np.ndarray:
    """The smallest portion that holds each of `n` records: 0 mini, 1 large, 2 full; int8, shape [n].

    One permutation a task, from the seed and the name of the task alone: its first floor(n * mini) records are the
    mini, its first floor(n * large) the large portion, each at least one. Every task keeps the same rates, so that
    a group is stratified by task.
    """
    levels = np.full(n, LEVELS.index("full"), np.int8)
    order = _permutation(n, task, portions.seed)
    levels[order[: portion_size(n, portions.large)]] = LEVELS.index("large")
    levels[order[: portion_size(n, portions.mini)]] = LEVELS.index("mini")
    return levels


def portion_size(n: int, rate: Fraction) -> int:
    """Number of records in a portion of `n` records: floor(n * rate), but at least one."""
    return min(n, max(1, int(n * rate)))


def _permutation(n: int, task: str, seed: int) -> np.ndarray:
    # The raw stream of PCG64 is guaranteed to stay as it is between versions of NumPy; Generator.permutation is not.
    words = np.frombuffer(hashlib.sha256(f"{seed} {task}".encode()).digest(), np.dtype("<u4"))
    return np.argsort(np.random.PCG64(words.tolist()).random_raw(n), kind="stable")


def select(levels: np.ndarray, portion: Portion) -> np.ndarray:
    """Places in `levels` of the records of `portion`, ascending; shape [size of the portion]."""
    limit = -1 if portion == "none" else LEVELS.index(portion)
    return np.flatnonzero(levels <= limit)


def kept_records(
    records: Records, root: Path, policy: Literal["error", "drop"], decode: bool = True
) -> tuple[np.ndarray, list[str]]:
    """Places of the records whose pictures are there (int64, ascending), and a line for each that is dropped.

    Args:
        records: of one file.
        root: the images of the recipe.
        policy: `error` looks only whether the pictures exist; `drop` also decodes them, if `decode`.

    Raises:
        DataError: a picture is missing and the policy is `error`; names the first by file and record.
    """
    distinct = dict.fromkeys(name for names in records.images() for name in names)
    faults = faults_of_pictures(root, distinct, decode and policy == "drop")
    if not faults:
        return np.arange(len(records)), []
    keep = np.ones(len(records), bool)
    dropped: list[str] = []
    for index, names in enumerate(records.images()):
        fault = next((faults[name] for name in names if name in faults), None)
        if fault is not None:
            keep[index] = False
            dropped.append(f"{records.source}, record {records[index].number}: {fault}")
    if policy == "error":
        raise DataError(_explain(records.source, dropped))
    return np.flatnonzero(keep), dropped


def _explain(source: Path, dropped: list[str]) -> str:
    more = [f"  ... and {len(dropped) - _SHOWN} more"] if len(dropped) > _SHOWN else []
    return "\n".join(
        [f"{source}: expected every picture to be there; {len(dropped)} records miss one:"]
        + [f"  {line}" for line in dropped[:_SHOWN]]
        + more
        + ["put the pictures there, or set on_missing_image: drop in the recipe"]
    )


def write_manifest(path: Path, ids: Iterable[str], indices: np.ndarray, levels: np.ndarray) -> None:
    """Write which record lies in which portion as CSV `index,id,portion`, whole or not at all.

    Args:
        ids: of the kept records, such as `records.ids(indices)`.
        indices, levels: see Portioned; shape [n].
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["index", "id", "portion"])
        rows = zip(indices.tolist(), ids, levels.tolist(), strict=True)
        writer.writerows((index, identity, LEVELS[level]) for index, identity, level in rows)
    os.replace(part, path)


def read_manifest(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The indices (int64) and levels (int8) that `write_manifest` wrote; shape [n] each."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        pairs = [(int(row["index"]), LEVELS.index(row["portion"])) for row in rows]
    table = np.array(pairs, np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1].astype(np.int8)
