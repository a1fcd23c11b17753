"""Which tasks are in a folder of the user's own, and which of their files belong to which split.

* A file `caption.json` (or `.jsonl`, `.parquet`, `.arrow`) is a task `caption`; so is a folder
  `caption` of such files, a snapshot of the hub or a dataset that `datasets` saved.
* Where the names of files or of their folders hold `train`, `validation` (`val`, `valid`, `dev`) or
  `test`, as `data/train-00000-of-00002.parquet` does, they are these splits; otherwise the files
  together are one whole.
* Files or folders `ocr_train` and `ocr_val` beside each other are a task `ocr`; `train` and `val`
  alone are a task that is called as the folder is.
* A task with files for validation or test alone is only evaluated.
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
class TaskFiles:
    """A task of the folder.

    Attributes:
        name: of the task.
        patterns: split -> patterns of its files below the folder; without `train` for a task that
            is only evaluated.
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


def find_tasks(raw: Path) -> list[TaskFiles]:
    """The tasks that are in `raw`, by name.

    Raises:
        DataError: there is none, or none with training files, a name cannot be made one of a
            recipe, or only some files of a task are named after splits.
    """
    files: dict[str, list[_File]] = {}
    for path in _data_files(path for path in raw.iterdir() if path.is_file()):
        files.setdefault(_base(path.stem), []).append(_File(path, path.name))
    folders = _data_folders(raw)
    for folder, paths in folders.items():
        name, above = folder.name, folder
        if _is_part(folder, folders):
            name, above = _base(folder.name), raw
        named = [_File(path, path.relative_to(above).as_posix()) for path in paths]
        files.setdefault(name, []).extend(named)
    if not files:
        raise DataError(
            f"{raw}: expected files that end in {', '.join(_ENDINGS)}, one per task; found none",
            "missing-file",
        )
    tasks = [_task(name or raw.resolve().name, files[name], raw) for name in files]
    _demand_different([task.name for task in tasks], raw)
    _demand_training_files(tasks, raw)
    return sorted(tasks, key=lambda task: task.name)


def _data_folders(raw: Path) -> dict[Path, list[Path]]:
    """Every folder of `raw` with data files, and these files; `images` and hidden ones excepted."""
    folders = {}
    for folder in sorted(raw.iterdir()):
        if not folder.is_dir() or folder.name.lower() == _IMAGES or folder.name.startswith("."):
            continue
        files = _data_files(files_below(folder))
        if files:
            folders[folder] = files
    return folders


def _is_part(folder: Path, folders: Iterable[Path]) -> bool:
    """Whether a folder is one split of a task: its name says which, and no more or as others do."""
    base = _base(folder.name)
    alike = {_split(other.name) for other in folders if _base(other.name) == base}
    return not base or len(alike) > 1


def _demand_different(names: list[str], raw: Path) -> None:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(
            f"{raw}: two tasks have the name {twice[0]}; rename a file or folder of one",
            "repeated-name",
        )


def _demand_training_files(tasks: list[TaskFiles], raw: Path) -> None:
    if not any(WHOLE in task.patterns for task in tasks):
        raise DataError(
            f"{raw}: expected training files of at least one task; found files for validation and"
            f" test alone, of {', '.join(task.name for task in tasks)}",
            "missing-file",
        )


def task_name(text: str) -> str:
    """`text` with `_` for what the name of a task or recipe does not take; empty if nothing is
    left."""
    return re.sub(r"[^A-Za-z0-9_.\-]+", "_", text).strip("_.-")


def _data_files(paths: Iterable[Path]) -> list[Path]:
    others = [path for path in paths if path.name not in _ABOUT]
    return once(path for path in others if path.suffix.lower() in _ENDINGS)


def _task(title: str, files: list[_File], raw: Path) -> TaskFiles:
    name = task_name(title)
    if not name:
        raise DataError(
            f"{raw / title}: expected a task name with letters from A to Z or digits; rename it",
            "invalid-name",
        )
    patterns: dict[str, dict[str, None]] = {}  # split -> patterns, each of them once
    for path, split in _splits(name, files, raw).items():
        pattern = _SHARD.sub(r"-?????-of-\1", glob.escape(path))
        patterns.setdefault(split or WHOLE, {})[pattern] = None
    listed = {split: tuple(of_split) for split, of_split in patterns.items()}
    return TaskFiles(name, listed, _only_folder(files, raw))


def _splits(name: str, files: list[_File], raw: Path) -> dict[str, str | None]:
    """File below `raw` -> the split that it is named after; None for all or for none of them."""
    splits = {file.path.relative_to(raw).as_posix(): _split(file.telling) for file in files}
    if any(splits.values()):
        for path, split in splits.items():
            if split is None:
                raise DataError(
                    f"{raw}: some files of {name} are named after splits, {path} is not; rename"
                    " it, or move it away",
                    "ambiguous-file",
                )
    return splits


def _only_folder(files: list[_File], raw: Path) -> Path | None:
    """The folder of `raw` that holds all the files; None for several, or for files beside it."""
    folders = {file.path.relative_to(raw).parts[0] for file in files}
    beside = any(file.path.parent == raw for file in files)
    return None if beside or len(folders) > 1 else raw / folders.pop()


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
