"""Files that are whole or absent: text, JSON and JSON lines written by rename, locks, archives."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from cotbal.errors import CotbalError, RunError
from cotbal.scores.sealed import sealed, unsealed

if TYPE_CHECKING:
    from filelock import FileLock

# What is not complete yet, with the machine and the process that writes it: see `temporary`.
_TEMPORARY = re.compile(r"\..*\.([0-9a-f]{8})-([0-9]+)-[0-9a-f]{8}\.part")
ABANDONED_SECONDS = 24 * 3600.0  # of a file whose writer cannot be looked for from this machine


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
    part = temporary(path)
    try:
        with part.open("x", encoding="utf-8") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def require_new_directory(out: Path) -> None:
    """Check that `--out` may be written into: it does not exist, or is an empty directory.

    Raises:
        CotbalError: `existing-output`.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CotbalError(
            f"--out: {out} exists already and was left unchanged; give another directory",
            "existing-output",
        )


def temporary(path: Path) -> Path:
    """A new name beside a file or directory, for its content until it is complete."""
    part = f"{_machine()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.part"
    return path.with_name(f".{path.name}.{part}")


def leftovers(directory: Path) -> list[Path]:
    """What ended processes did not complete below a directory.

    A writer on another machine cannot be looked for; its files count after a day.
    """
    abandoned = []
    for folder, folders, files in os.walk(directory):
        names = {}
        for name in folders + files:
            match = _TEMPORARY.fullmatch(name)
            if match:
                names[name] = match
        folders[:] = [name for name in folders if name not in names]
        for name, match in names.items():
            path = Path(folder, name)
            if _is_abandoned(path, *match.groups()):
                abandoned.append(path)
    return sorted(abandoned)


def remove_leftovers(directory: Path) -> None:
    """Remove what ended processes did not complete below a directory."""
    for path in leftovers(directory):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_abandoned(path: Path, machine: str, process: str) -> bool:
    if machine == _machine():
        return not is_running(int(process))
    with suppress(FileNotFoundError):
        return now() - path.stat().st_mtime > ABANDONED_SECONDS
    return False


@cache
def _machine() -> str:
    """Names this machine since its start, and the container: what shares process numbers."""
    facts = socket.gethostname()
    with suppress(OSError):
        facts += Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        facts += os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(facts.encode()).hexdigest()[:8]


def is_running(process: int) -> bool:
    """Whether a process of this number runs on this machine.

    One that has ended, and that its parent has not asked for, does not run. In a container whose
    first process never asks, such processes stay.
    """
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    try:
        facts = Path(f"/proc/{process}/stat").read_bytes()
    except OSError:
        return True  # another system than Linux
    return facts.rpartition(b") ")[2][:1] not in (b"Z", b"X")


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
    with sealed_file(path) as file:
        file.writelines(_json(row) + "\n" for row in rows)


def write_sealed_text(path: Path, text: str) -> None:
    """Write a file atomically, and a digest of it beside it."""
    with sealed_file(path) as file:
        file.write(text)


@contextmanager
def sealed_file(path: Path) -> Iterator[TextIO]:
    """As `whole_file`, with a digest beside the file, which `need_sealed` compares."""
    with whole_file(path) as file:
        yield file
        file.flush()
        with open(file.name, "rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()
        write_text(digest_of(path), f"{digest}  {path.name}\n")


def digest_of(path: Path) -> Path:
    """The digest beside a file, as `sha256sum --check` reads it."""
    return path.with_name(f"{path.name}.sha256")


def read_sealed_rows(path: Path) -> list[Any]:
    """The values that `write_sealed_rows` wrote.

    Raises:
        RunError: the file does not have the digest beside it, or there is none.
    """
    return [json.loads(line) for line in need_sealed(path).split(b"\n") if line]


def need_sealed(path: Path) -> bytes:
    """The content of a file with the digest beside it.

    Raises:
        RunError: the file does not have the digest beside it, or there is none.
    """
    content, beside = path.read_bytes(), digest_of(path)
    written = beside.read_text(encoding="utf-8", errors="replace") if beside.exists() else ""
    if written.partition(" ")[0] != hashlib.sha256(content).hexdigest():
        raise RunError(
            f"{path}: expected the file whose digest is in {beside.name}; found another: it is"
            " damaged, or was edited. `cotbal verify --repair` archives what is damaged in a run"
            " directory; then rerun the command that wrote it",
            "damaged-file",
        )
    return content


def _json(content: Any, indent: int | None = None) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, indent=indent)


def read_json(path: Path) -> Any:
    """Read a JSON file that cotbal wrote.

    Raises:
        RunError: it is broken, or does not have the digest that it holds.
    """
    try:
        return unsealed(json.loads(path.read_text(encoding="utf-8")), path)
    except (ValueError, RecursionError) as error:
        raise _broken(path, error) from None


@contextmanager
def as_written(path: Path) -> Iterator[None]:
    """A block that takes apart the content of a file, which may have another form: JSON without a
    digest, which somebody has edited, or a table.

    Raises:
        RunError: the block raised what such content leads to.
    """
    try:
        yield
    except (
        TypeError,
        ValueError,
        LookupError,
        AttributeError,
        ArithmeticError,
        csv.Error,
    ) as error:
        raise _broken(path, error) from error
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:  # of a name in the content
            raise
        raise _broken(path, error) from error


def _broken(path: Path, error: Exception) -> RunError:
    return RunError(
        f"{path}: expected content as cotbal writes it; found a broken file"
        f" ({type(error).__name__}: {error!s:.300}). `cotbal verify --repair` archives what is"
        " damaged in a run directory; then rerun the command that wrote it",
        "broken-file",
    )


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
        except (ValueError, RecursionError):
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
    from filelock import FileLock  # most commands lock nothing

    lock = FileLock(path)
    _acquire(lock, path, wait)
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: FileLock, path: Path, wait: float) -> None:
    """Lock the file that has this name in the end: the directory may be archived meanwhile, and the
    lock with it.
    """
    from filelock import Timeout

    deadline = time.monotonic() + wait
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        before = _inode(path.parent)
        try:
            lock.acquire(timeout=max(deadline - time.monotonic(), 0.0), poll_interval=0.05)
        except Timeout:
            raise RunError(
                f"{path.parent}: another cotbal command is using this directory; wait for it, or"
                " give another --out",
                "directory-in-use",
            ) from None
        if before is not None and before == _inode(path.parent):
            return
        lock.release()


def _inode(path: Path) -> int | None:
    with suppress(FileNotFoundError):
        return path.stat().st_ino
    return None


def is_locked(path: Path) -> bool:
    """Whether a process has locked `path`, here or on a machine that shares locks of files."""
    if not path.exists():
        return False
    try:
        with locked(path):
            return False
    except RunError:
        return True
    except OSError:  # it cannot be written from here
        return _is_held(path)


def _is_held(path: Path) -> bool:
    import fcntl

    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


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
    """Where images from inside records of this user are, in a directory of converted records."""
    return (directory / f"images{owner()}").resolve()


def owner() -> str:
    """A part of the names of files in a cache, so that its users do not replace each other's."""
    return f"-{os.geteuid()}" if hasattr(os, "geteuid") else ""


def is_own(path: Path) -> bool:
    """Whether this user wrote the file; True where files have no owners.

    Raises:
        OSError: there is no such file.
    """
    return path.stat().st_uid == os.geteuid() if owner() else path.exists()
