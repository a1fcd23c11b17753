"""Where the files of a release are below RAW, which of its forms is present, and how to get it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cotbal.benchmarks.releases.conversation import Conversation, Writable
from cotbal.benchmarks.releases.finding import matching
from cotbal.benchmarks.releases.gallery import Gallery
from cotbal.benchmarks.releases.rows import Row, json_list, json_mapping, known, parquet_rows
from cotbal.data.checks.census import Progress
from cotbal.errors import DataError

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})")

Files = Mapping[str, Sequence[Path]]  # what a source calls a file -> the file, or the shards of it
POLICIES = ("error", "drop", "keep")


@dataclass(frozen=True)
class Choices:
    """What the paper leaves open and a user may choose otherwise; part of the identity of what is
    prepared.

    Attributes:
        seed: of everything that is drawn.
        on_missing_image: `error`, `drop` (leave the record out) or `keep` (write it all the same).
        capitalize: whether short answers begin with a capital, as in LLaVA-1.5's mixture.
        box_decimals: digits behind the point of a box.
        pad_boxes: whether boxes are those of the image padded to a square, as the model sees it.
        drop_eval_images: whether images of RefCOCO's evaluation splits are left out of its
            training.
        max_tokens: longest conversation, in tokens of `tokenizer`; None leaves conversations whole.
        tokenizer: a `tokenizer.json`, or the directory of a checkpoint that holds one.
        ignore_keys: unknown keys that are harmless, as the user states.
        prefer: form that is read where a split can be had in several, such as hub; None: the first
            choice.
        single_reference: whether every caption of a COCO image is a sample of its own (Large
            Benchmark).
        validation, test: fraction (below 1) or number of records held out of the user's data.
        question, answer: keys of question and answer in a dataset of the user's own that has no
            conversations.
        image: key of the image in a dataset of the user's own whose rows name it elsewhere.
    """

    seed: int = 0
    on_missing_image: str = "error"
    capitalize: bool = True
    box_decimals: int = 2
    pad_boxes: bool = True
    drop_eval_images: bool = False
    max_tokens: int | None = None
    tokenizer: str | None = None
    ignore_keys: tuple[str, ...] = ()
    prefer: str | None = None
    single_reference: bool = False
    validation: float | None = None
    test: float | None = None
    question: str | None = None
    answer: str | None = None
    image: str | None = None


@dataclass(frozen=True)
class Job:
    """What every reader receives besides its files: choices, images, and a report of progress.

    Its methods read rows whose keys are all known: `required` are read, `others` are not needed.
    They raise DataError for a broken file, a missing key or an unknown one.
    """

    choices: Choices
    gallery: Gallery
    progress: Progress

    def known(
        self, raw: Any, where: str, required: Collection[str], others: Collection[str] = ()
    ) -> Row:
        """The row in `raw`; `where` names it in messages."""
        return known(raw, where, required, others, self.choices.ignore_keys)

    def list_rows(
        self, path: Path, prefix: str, required: Collection[str], others: Collection[str] = ()
    ) -> Iterator[Row]:
        """Rows of the JSON list at `prefix` (`item` for a file that is one list)."""
        for where, raw in json_list(path, prefix, self.progress):
            yield self.known(raw, where, required, others)

    def mapping_rows(
        self, path: Path, kind: str, required: Collection[str], others: Collection[str]
    ) -> Iterator[tuple[str, Row]]:
        """Key and row of every entry of a JSON mapping; `kind` says what an entry is."""
        for key, raw in json_mapping(path, self.progress):
            yield key, self.known(raw, f"{path}, {kind} {key}", required, others)

    def table_rows(
        self, paths: Sequence[Path], required: Sequence[str], others: Collection[str] = ()
    ) -> Iterator[Row]:
        """Rows of parquet files, one file after the other."""
        return parquet_rows(paths, required, others, self.progress, self.choices.ignore_keys)


Read = Callable[[Files, Job], Iterator[Conversation]]


@dataclass(frozen=True)
class Source:
    """One form in which a split can be had.

    Attributes:
        form: what the form is called in the summary: original, hub, mix665k.
        files: name -> pattern below RAW; a name that ends in `?` may be missing.
        get: where to get it.
        read: gives the conversations of the split.
    """

    form: str
    files: Mapping[str, str]
    get: str
    read: Callable[[Files, Job], Iterator[Writable]]

    def find(self, raw: Path) -> dict[str, list[Path]]:
        """The files that are there, by name.

        Raises:
            DataError: two copies of a file, or a shard is missing.
        """
        files = {name.rstrip("?"): _matches(raw, pattern) for name, pattern in self.files.items()}
        return {name: paths for name, paths in files.items() if paths}

    def missing(self, raw: Path) -> list[str]:
        """Patterns of the files that are not there."""
        files = self.find(raw)
        return [p for name, p in self.files.items() if not name.endswith("?") and name not in files]


def download(repository: str, *patterns: str) -> str:
    """The command that fetches a data set of the hub to where its files are sought.

    Args:
        patterns: of the files, as a source names them; all files if there are none.
    """
    inside = f"/{repository.split('/')[1]}/"
    wanted = "".join(f" --include '{pattern.partition(inside)[2]}'" for pattern in patterns)
    return f"hf download {repository} --repo-type dataset{wanted} --local-dir RAW/{repository}"


def choose(sources: Sequence[Source], raw: Path, prefer: str | None = None) -> Source | None:
    """The preferred form, or the first one, of which every file is there; None if there is none."""
    ordered = sorted(sources, key=lambda source: source.form != prefer)
    return next((source for source in ordered if not source.missing(raw)), None)


def what_is_needed(sources: Sequence[Source], raw: Path) -> str:
    """The files that are missing of every form of a split, and where to get them."""
    lines = []
    for source in sources:
        lines += [f"  {source.form}: needs {', '.join(source.missing(raw))}", f"    {source.get}"]
    return "\n".join(lines)


def _are_all_shards(paths: Sequence[Path]) -> bool:
    """Whether the paths are the shards 0 to n - 1 of n, in this order."""
    shards = [_SHARD.search(path.name) for path in paths]
    numbers = [(int(shard[1]), int(shard[2])) for shard in shards if shard]
    if not numbers or len(numbers) < len(paths):
        return False
    total = numbers[0][1]
    return [number for number, _ in numbers] == list(range(total))


def _matches(raw: Path, pattern: str) -> list[Path]:
    """The one file that matches, or all shards of it."""
    paths = matching(raw, pattern)
    if len(paths) <= 1 and not any(_SHARD.search(path.name) for path in paths):
        return paths
    if not _are_all_shards(paths):
        listed = "".join(f"\n  {path}" for path in paths[:10])
        raise DataError(
            f"{raw / pattern}: expected one file, or every shard of it once; found"
            f" {len(paths)}:{listed}\nRemove second copies, or fetch the missing shards.",
            "ambiguous-file",
        )
    return paths
