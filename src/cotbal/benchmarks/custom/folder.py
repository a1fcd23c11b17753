"""Which tasks lie in a folder of the user's own, and which of their files belong to which split.

* A file `caption.json` (or `.jsonl`, `.parquet`, `.arrow`) is a task `caption`; so is a folder
  `caption` of such files, a snapshot of the hub or a dataset that `datasets` saved.
* Where the names of files or of their folders hold `train`, `validation` (`val`, `valid`, `dev`) or
  `test`, as `data/train-00000-of-00002.parquet` does, they are these splits; otherwise the files
  together are one whole.
* Files or folders `ocr_train` and `ocr_val` beside each other are a task `ocr`; `train` and `val`
  alone are a task that is called as the folder is.
* In the name of a task, `_` replaces what a recipe does not take, such as blanks.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cotbal.benchmarks.releases.finding import files_below, once
from cotbal.errors import DataError

WHOLE = "train"  # what is not named after a split is drawn from
_ENDINGS = (".json", ".jsonl", ".parquet", ".arrow")
_IMAGES = "images"
_ABOUT = {
    "dataset_info.json",
    "dataset_dict.json",
    "state.json",
    "dataset_infos.json",
}  # written by `datasets`
_WORDS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
_WORD = re.compile("[^A-Za-z]+")
_SHARD = re.compile(r"-\d{5}-of-(\d{5})")


@dataclass(frozen=True)
class Found:
    """A task of the folder.

    Attributes:
        name: of the task.
        patterns: split -> patterns of its files below the folder; `train` is there for certain.
        folder: the one folder that holds all its files and no other task's, or None.
    """

    name: str
    patterns: Mapping[str, tuple[str, ...]]
    folder: Path | None


@dataclass(frozen=True)
class _File:
    """A data file below the folder.

    Attributes:
        path: where it is.
        telling: the part of its name that may tell its split.
    """

    path: Path
    telling: str


def find_tasks(raw: Path) -> list[Found]:
    """The tasks that lie in `raw`, by name.

    Raises:
        DataError: there is none, a name cannot be made one of a recipe, or only some files of a
            task are named after splits.
    """
    found: dict[str, list[_File]] = {}
    for path in _data_files(path for path in raw.iterdir() if path.is_file()):
        found.setdefault(_base(path.stem), []).append(_File(path, path.name))
    folders = {
        folder: files
        for folder in sorted(raw.iterdir())
        if folder.is_dir() and folder.name.lower() != _IMAGES and folder.name[0] != "."
        if (files := _data_files(files_below(folder)))
    }
    for folder, files in folders.items():
        parted = _is_part(folder, folders)
        above = raw if parted else folder
        found.setdefault(_base(folder.name) if parted else folder.name, []).extend(
            _File(path, path.relative_to(above).as_posix()) for path in files
        )
    if not found:
        raise DataError(
            f"{raw}: expected files that end in {', '.join(_ENDINGS)}, one a task; found none"
        )
    tasks = [_task(name or raw.resolve().name, files, raw) for name, files in found.items()]
    _demand_different([task.name for task in tasks], raw)
    return sorted(tasks, key=lambda task: task.name)


def _is_part(folder: Path, folders: Iterable[Path]) -> bool:
    """Whether a folder is one split of a task: its name says which, and no more or as others do."""
    base = _base(folder.name)
    alike = {_split(other.name) for other in folders if _base(other.name) == base}
    return not base or len(alike) > 1


def _demand_different(names: list[str], raw: Path) -> None:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"{raw}: two tasks are called {twice[0]}; rename a file or folder of one")


def task_name(text: str) -> str:
    """`text` with `_` for what the name of a task or recipe does not take; empty if nothing is
    left."""
    return re.sub(r"[^A-Za-z0-9_.\-]+", "_", text).strip("_.-")


def _data_files(paths: Iterable[Path]) -> list[Path]:
    return once(p for p in paths if p.suffix.lower() in _ENDINGS and p.name not in _ABOUT)


def _task(called: str, files: list[_File], raw: Path) -> Found:
    name = task_name(called)
    if not name:
        raise DataError(
            f"{raw / called}: a task is called so; expected some letters from A to Z or digits:"
            " rename it"
        )
    names = [file.path.relative_to(raw).as_posix() for file in files]
    splits = [_split(file.telling) for file in files]
    if any(splits) and not all(splits):
        lost = names[splits.index(None)]
        raise DataError(
            f"{raw}: some files of {name} are named after splits, {lost} is not; rename it, or move"
            " it away"
        )
    patterns: dict[str, list[str]] = {}
    for each, split in zip(names, splits, strict=True):
        patterns.setdefault(split or WHOLE, []).append(
            _SHARD.sub(r"-?????-of-\1", glob.escape(each))
        )
    if WHOLE not in patterns:
        raise DataError(
            f"{raw}: {name} has files for {', '.join(patterns)}; expected some to train on as well"
        )
    folders = {each.partition("/")[0] for each in names}
    own = raw / folders.pop() if len(folders) == 1 and "/" in names[0] else None
    return Found(name, {split: tuple(dict.fromkeys(each)) for split, each in patterns.items()}, own)


def _base(name: str) -> str:
    """The name of a file, without its ending, or of a folder, without the split in it."""
    parts = re.split(r"([^A-Za-z0-9]+)", _SHARD.sub("", name))
    words, breaks = parts[::2], ["", *parts[1::2]]
    kept = [
        (space, word)
        for space, word in zip(breaks, words, strict=True)
        if word.lower() not in _WORDS
    ]
    return "".join(space + word for space, word in kept).strip("_-. ")


def _split(name: str) -> str | None:
    """The split that a file is named after, if any; its own name says more than that of its
    folder."""
    return next(_words(name), None)


def _words(name: str) -> Iterator[str]:
    for part in reversed(name.split("/")):
        yield from (_WORDS[word] for word in _WORD.split(part.lower()) if word in _WORDS)
