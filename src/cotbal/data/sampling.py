"""Portions: mini is part of large, large of full, drawn once by seed and the same in every
run.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cotbal.data.files import as_written, sealed_file
from cotbal.data.reading.images import Rejected, problems_of_images
from cotbal.data.reading.record import first_lines
from cotbal.data.reading.records import Records
from cotbal.errors import DataError
from cotbal.recipe.runs import Portion, portion_size, seen
from cotbal.recipe.schema import Portions

LEVELS: tuple[Portion, ...] = ("mini", "large", "full")  # each is part of the next
_SHOWN = 20


@dataclass(frozen=True)
class Portioned:
    """The kept records of one task, in the order that every portion begins with.

    Attributes:
        indices: of the records in their `Records`, ascending; shape [n].
        order: position of each record in the nested order, a permutation of 0, 1, ..., n -
            1; shape [n].
        sizes: number of records of every named portion; a portion of m records holds those with an
            order below m.
    """

    indices: np.ndarray
    order: np.ndarray
    sizes: Mapping[str, int]

    def of(self, portion: str) -> np.ndarray:
        """Indices of the records of a portion, or of a fraction such as `1/8`,
        ascending.
        """
        chosen: np.ndarray = self.indices[self.order < seen(self.sizes, portion)]
        return chosen

    @property
    def smallest(self) -> list[Portion]:
        """The smallest portion that holds each record; shape [n]."""
        names = np.array(LEVELS)
        limits = [self.sizes[name] for name in LEVELS]
        smallest: list[Portion] = names[np.searchsorted(limits, self.order, side="right")].tolist()
        return smallest


def draw_portions(indices: np.ndarray, task: str, portions: Portions) -> Portioned:
    """Put the n kept records of a task, at these indices of its `Records`, into the order of its
    portions.

    One permutation per task, from the seed and the name of the task alone: its first floor(n *
    mini) records are the mini, its first floor(n * large) the large portion, each at least one.
    Every task keeps the same rates, so that a group is stratified by task. A fraction is the head
    of the same order.
    """
    n = len(indices)
    order = np.empty(n, np.int64)
    order[permutation(n, task, portions.seed)] = np.arange(n)
    sizes = {
        "none": 0,
        "mini": portion_size(n, portions.mini),
        "large": portion_size(n, portions.large),
        "full": n,
    }
    return Portioned(indices, order, sizes)


def permutation(n: int, name: str, seed: int) -> np.ndarray:
    """A permutation of 0, 1, ..., n - 1 that follows from `name` and `seed` alone, on every
    machine; shape [n].
    """
    # The raw stream of PCG64 is guaranteed to stay as it is between versions of NumPy;
    # Generator.permutation is not.
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    words = np.frombuffer(digest, np.dtype("<u4")).tolist()
    keys = np.random.PCG64(words).random_raw(n)
    return np.argsort(keys, kind="stable")


def kept_records(
    records: Records,
    root: Path,
    policy: Literal["error", "drop"],
    decode: bool = True,
    rejected: Rejected | None = None,
    confined: bool = False,
) -> tuple[np.ndarray, list[str]]:
    """Indices of the records whose images are there (int64, ascending), and a line for each that
    is dropped.

    Args:
        records: of one file.
        root: the images of the recipe.
        policy: `error` looks only whether the images exist; `drop` also decodes them, if
            `decode`, and leaves out those that are `rejected`.
        rejected: of these images, those that the model's processor cannot process.
        confined: images must be below the root, links resolved, or come from inside the records.

    Raises:
        DataError: an image is missing and the policy is `error`; names the first by file and
            record.
    """
    drop = policy == "drop"
    problems = problems_of_images(
        root,
        records.image_names(),
        decode and drop,
        rejected if drop else None,
        within=(root, records.image_cache) if confined else None,
    )
    if not problems:
        return np.arange(len(records)), []
    keep = np.ones(len(records), bool)
    dropped: list[str] = []
    for index, names in enumerate(records.images()):
        problem = next((problems[name] for name in names if name in problems), None)
        if problem is not None:
            keep[index] = False
            dropped.append(f"{records.source}, record {records[index].number}: {problem}")
    if policy == "error":
        raise DataError(
            f"{records.source}: images are missing or outside for {len(dropped):,} records:\n"
            f"{first_lines(dropped, _SHOWN)}\n"
            "put the images there, or set on_missing_image: drop in the recipe",
            next(iter(problems.values())).code,
        )
    return np.flatnonzero(keep), dropped


def write_manifest(path: Path, ids: Iterable[str], portioned: Portioned) -> None:
    """Write which record belongs to which portion as CSV `index,id,portion,order`, whole or not at
    all.

    Args:
        ids: of the kept records, such as `records.ids(portioned.indices)`.
    """
    with sealed_file(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["index", "id", "portion", "order"])
        columns = (portioned.indices.tolist(), ids, portioned.smallest, portioned.order.tolist())
        writer.writerows(zip(*columns, strict=True))


def read_manifest(path: Path) -> Portioned:
    """What `write_manifest` wrote.

    Raises:
        RunError: the file is damaged.
    """
    with as_written(path), path.open(encoding="utf-8", newline="") as file:
        rows = [
            (int(row["index"]), int(row["order"]), LEVELS.index(row["portion"]))
            for row in csv.DictReader(file)
        ]
        indices, order, levels = np.array(rows, np.int64).reshape(-1, 3).T
    sizes: dict[str, int] = {"none": 0}
    for level, name in enumerate(LEVELS):
        sizes[name] = int((levels <= level).sum())
    return Portioned(indices, order, sizes)
