"""Which tasks lie in a folder of the user's own, and which of their files belong to which split.

* A file `caption.json` (or `.jsonl`, `.parquet`, `.arrow`) is a task `caption`; so is a folder
  `caption` of such files, a snapshot of the hub or a dataset that `datasets` saved.
* Where the names of files or of their folders hold `train`, `validation` (`val`, `valid`, `dev`) or
  `test`, as `data/train-00000-of-00002.parquet` does, they are these splits; otherwise the files
  together are one whole.
* Files `ocr_train.json` and `ocr_val.json` beside each other are a task `ocr`; `train.json` and
  `val.json` are a task that is called as the folder is.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cotbal.errors import DataError
from cotbal.recipe.schema import NAME

WHOLE = "train"  # what is not named after a split is drawn from
_ENDINGS = (".json", ".jsonl", ".parquet", ".arrow")
_PICTURES = "images"
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
    """A task of the folder: split -> patterns of its files below the folder; `train` is there for
    certain.
    """

    name: str
    patterns: Mapping[str, tuple[str, ...]]


def find_tasks(raw: Path) -> list[Found]:
    """The tasks that lie in `raw`, by name.

    Raises:
        DataError: there is none, a name cannot stand in a recipe, or only some files of a task are
            named after splits.
    """
    found: dict[str, list[Path]] = {}
    for path in _data_files(raw.iterdir()):
        found.setdefault(_base(path) or raw.resolve().name, []).append(path)
    for folder in sorted(
        path for path in raw.iterdir() if path.is_dir() and path.name != _PICTURES
    ):
        if files := _data_files(folder.rglob("*")):
            found.setdefault(folder.name, []).extend(files)
    if not found:
        raise DataError(
            f"{raw}: expected files that end in {', '.join(_ENDINGS)}, one a task; found none"
        )
    return [_task(name, files, raw) for name, files in sorted(found.items())]


def _data_files(paths: Iterable[Path]) -> list[Path]:
    return sorted(
        p for p in paths if p.suffix.lower() in _ENDINGS and p.name not in _ABOUT and p.is_file()
    )


def _task(name: str, files: list[Path], raw: Path) -> Found:
    if not re.match(NAME, name):
        raise DataError(
            f"{raw / name}: a task is called so; expected letters from A to Z, digits, `_`, `-` and"
            " `.`: rename it"
        )
    names = [path.relative_to(raw).as_posix() for path in files]
    splits = [_split(each.removeprefix(f"{name}/")) for each in names]
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
    return Found(name, {split: tuple(dict.fromkeys(each)) for split, each in patterns.items()})


def _base(path: Path) -> str:
    """The name of a file without the split in it."""
    parts = re.split(r"([^A-Za-z0-9]+)", _SHARD.sub("", path.stem))
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
