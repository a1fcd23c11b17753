"""Files that are whole or absent: text, JSON and JSON lines written by rename, locks, archives."""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TextIO

from cotbal.errors import RunError
from cotbal.scores.sealed import sealed, unsealed


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is either whole or absent, also after a crash."""
    with whole_file(path) as file:
        file.write(text)


@contextmanager
def whole_file(path: Path, durable: bool = True) -> Iterator[TextIO]:
    """A text file to write into, which replaces `path` when the block ends without an error.

    Args:
        durable: wait until the disk has it, so that it is whole after a loss of power too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("x", encoding="utf-8") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Any, durable: bool = True) -> None:
    """Write JSON atomically; `durable` as in `whole_file`.

    Raises:
        ValueError: a number is not finite, which JSON cannot express.
    """
    with whole_file(path, durable) as file:
        file.write(_json(content, indent=1) + "\n")


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON with its digest, which `read_json` compares."""
    write_json(path, sealed(content))


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Write one JSON value per line, atomically."""
    with whole_file(path) as file:
        file.writelines(_json(row) + "\n" for row in rows)


def write_sealed_rows(path: Path, rows: Iterable[Any]) -> None:
    """Write one JSON value per line, atomically, and a digest of the file beside it."""
    digest = hashlib.sha256()
    with whole_file(path) as file:
        for row in rows:
            line = _json(row) + "\n"
            digest.update(line.encode())
            file.write(line)
        write_text(digest_of(path), f"{digest.hexdigest()}  {path.name}\n")


def digest_of(path: Path) -> Path:
    """The digest beside a file, as `sha256sum --check` reads it."""
    return path.with_name(f"{path.name}.sha256")


def read_sealed_rows(path: Path) -> list[Any]:
    """The values that `write_sealed_rows` wrote.

    Raises:
        RunError: the file does not have the digest beside it, or there is none.
    """
    content, beside = path.read_bytes(), digest_of(path)
    written = beside.read_text(encoding="utf-8", errors="replace") if beside.exists() else ""
    if written.partition(" ")[0] != hashlib.sha256(content).hexdigest():
        raise RunError(
            f"{path}: expected the file whose digest is in {beside.name}; found another: it is"
            " damaged, or was edited. Remove the directory of its run and rerun the command",
            "damaged-file",
        )
    return [json.loads(line) for line in content.split(b"\n") if line]


def _json(content: Any, indent: int | None = None) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, indent=indent)


def read_json(path: Path) -> Any:
    """Read a JSON file that cotbal wrote.

    Raises:
        RunError: it is broken, or does not have the digest that it holds.
    """
    try:
        return unsealed(json.loads(path.read_text(encoding="utf-8")), path)
    except ValueError as error:
        raise RunError(
            f"{path}: expected JSON as cotbal writes it; found a broken file ({error})",
            "broken-file",
        ) from None


def read_jsonl(path: Path) -> list[Any]:
    """Read a file of JSON lines; a last line that was cut off by a kill is left out."""
    if not path.exists():
        return []
    rows = []
    # Not splitlines(): JSON may hold other line separators of Unicode inside a text. A cut may go
    # through a character.
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def append_jsonl(path: Path, row: Any) -> None:
    """Add one line; the only kind of file that grows in place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(_json(row) + "\n")


@contextmanager
def locked(path: Path, wait: float = 0.0) -> Iterator[None]:
    """Lock `path` for this process; the system releases it when the process ends, in any way.

    Raises:
        RunError: another process still holds it after `wait` seconds.
    """
    from filelock import FileLock, Timeout  # most commands lock nothing

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=wait, poll_interval=0.05)
    except Timeout:
        raise RunError(
            f"{path.parent}: another cotbal command is using this directory; wait for it, or give"
            " another --out",
            "directory-in-use",
        ) from None
    try:
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether a process has locked `path`, here or on a machine that shares locks of files."""
    if not path.exists():
        return False
    try:
        with locked(path):
            return False
    except RunError:
        return True


def archive(directory: Path) -> Path:
    """Rename a directory to the first free `<name>.old-<n>`, so that nothing a user had is lost."""
    number = 1
    while (aside := directory.with_name(f"{directory.name}.old-{number}")).exists():
        number += 1
    directory.rename(aside)
    return aside


def now() -> float:
    """Seconds since the epoch, as written into progress files."""
    return time.time()


def default_cache() -> Path:
    """The directory of converted records: `$COTBAL_CACHE`, or `cotbal` in the user's cache."""
    chosen = os.environ.get("COTBAL_CACHE")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(chosen) if chosen else Path(home) / "cotbal"


@cache
def image_cache(directory: Path) -> Path:
    """Where images from inside records are, in a directory of converted records."""
    return (directory / "images").resolve()
