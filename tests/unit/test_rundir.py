from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from cotbal.data.files import (
    append_jsonl,
    archive,
    is_locked,
    locked,
    now,
    read_json,
    read_jsonl,
    read_sealed_rows,
    write_json,
    write_jsonl,
    write_sealed,
    write_sealed_rows,
    write_text,
)
from cotbal.errors import RunError
from cotbal.jobs.rundir import RunDir
from helpers.errors import raises

HOLD = """
import sys, time
from pathlib import Path
from cotbal.data.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
TEXTS = [
    "plain",
    "ä 🐸 \u2028 \u2029 \x85 end",
    'quotes " and \\',
    "line\nbreak\r\ttab",
    "\x00\x0b\x0c\x1c\x1d\x1e",
    "",
]


class Stopped(BaseException):
    """Stands for a Ctrl-C at the worst moment."""


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "file.txt"
    write_text(path, "frog 🐸\n")
    assert path.read_text(encoding="utf-8") == "frog 🐸\n"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_what_stops_in_between_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def stop(*arguments: object) -> None:
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(os, step, stop)
        with pytest.raises(Stopped):
            write_text(path, "new" * 1000)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_a_file_of_which_little_depends_does_not_wait_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[int] = []
    monkeypatch.setattr(os, "fsync", waited.append)
    write_json(tmp_path / "progress.json", {"done": 1}, durable=False)
    assert read_json(tmp_path / "progress.json") == {"done": 1}
    assert waited == []
    write_json(tmp_path / "outcome.json", {})
    assert len(waited) == 1


def test_rows_that_cannot_be_written_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_jsonl(tmp_path / "rows.jsonl", [{"a": 1}, {"b": object()}])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_holds_no_number_that_is_not_finite(tmp_path: Path, number: float) -> None:
    writes = {"a.json": write_json, "a.jsonl": append_jsonl}
    for name, write in writes.items():
        with pytest.raises(ValueError, match="JSON"):
            write(tmp_path / name, {"loss": number})
    with pytest.raises(ValueError, match="JSON"):
        write_jsonl(tmp_path / "rows.jsonl", [{"loss": number}])
    assert not any(path.stat().st_size for path in tmp_path.iterdir())


def test_a_file_has_the_usual_permissions(tmp_path: Path) -> None:
    """A temporary file is its owner's alone; a finished one is as any other file of the user."""
    path = tmp_path / "file.txt"
    before = os.umask(0o027)
    try:
        write_text(path, "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.umask(before) == before


def test_json_round_trip(tmp_path: Path) -> None:
    content = {"ä": [1, 2.5, None, True], "nested": {"text": TEXTS[1]}}
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json") == content
    assert "ä" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_json_lines_round_trip(tmp_path: Path) -> None:
    """Whatever a model may answer, line separators of Unicode included, is one line."""
    rows = [{"answer": text} for text in TEXTS]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    assert read_jsonl(tmp_path / "rows.jsonl") == rows


def test_json_lines_that_grow(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "rows.jsonl"
    for text in TEXTS:
        append_jsonl(path, {"answer": text})
    assert [row["answer"] for row in read_jsonl(path)] == TEXTS


def test_no_file_has_no_lines(tmp_path: Path) -> None:
    assert read_jsonl(tmp_path / "none.jsonl") == []


def test_a_last_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"step": 1, "task": "größe"}, {"step": 2, "task": "größe"}]
    write_jsonl(path, rows)
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for length in range(first, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert read_jsonl(path) == (rows if whole[first:length].endswith(b"}") else rows[:1]), (
            length
        )


def test_a_lock_keeps_another_process_out(tmp_path: Path) -> None:
    path = tmp_path / "run" / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        started = time.monotonic()
        with (
            raises(RunError, "directory-in-use"),
            locked(path),
        ):
            pass
        assert time.monotonic() - started < 2
        # However the holder dies, the system lets go.
        holder.send_signal(signal.SIGKILL)
        with locked(path, wait=5.0):
            pass


def test_a_lock_can_be_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD.replace("60", "0.4"), str(path)], stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with locked(path, wait=10.0):
            pass


def test_a_lock_is_that_of_the_directory_which_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory is archived after the file was opened, and before it is locked."""
    path = tmp_path / "run" / "lock"
    acquire, archived = FileLock.acquire, []

    def late(self: FileLock, *arguments: Any, **options: Any) -> Any:
        locked = acquire(self, *arguments, **options)
        if not archived:
            archived.append(archive(path.parent))
        return locked

    monkeypatch.setattr(FileLock, "acquire", late)
    with locked(path):
        assert is_locked(path)
        assert not is_locked(archived[0] / "lock")
    assert not is_locked(path)


def test_a_lock_is_let_go_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "lock"):
        _ = 1 / 0
    with locked(tmp_path / "lock"):
        pass


def test_a_lock_names_the_directory(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "lock"),
        raises(RunError, "directory-in-use", tmp_path),
        locked(tmp_path / "lock"),
    ):
        pass


def test_archive_loses_nothing(tmp_path: Path) -> None:
    for content in ("first", "second", "third"):
        write_text(tmp_path / "run" / "file.txt", content)
        moved = archive(tmp_path / "run")
        assert (moved / "file.txt").read_text() == content
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.old-1", "run.old-2", "run.old-3"]


def test_where_everything_lies() -> None:
    root = RunDir(Path("runs/pocket"))
    run = root.probe("full:ocr")
    assert run.root == Path("runs/pocket/probes/full-ocr")
    assert root.probe("mini").root == Path("runs/pocket/probes/mini")
    assert root.final("cotbal").root == Path("runs/pocket/final/cotbal")
    assert run.generations("ocr", "validation") == run.root / "generations/ocr.validation.jsonl"
    assert run.scores("ocr", "testA") == run.root / "scores/ocr.testA.json"
    assert root.portions("ocr") == Path("runs/pocket/portions/ocr.csv")


def test_runs_of_the_curve_have_directories_of_their_own_on_every_file_system() -> None:
    """Tasks may be called after numbers, with the signs that a name may hold."""
    fractions = ("1", "1/2", "1/12", "11/12", "2/3")
    tasks = ("ocr", "ocr-1", "ocr_1", "ocr-1_2", "1", "2-1")
    names = [f"fraction:{a}" for a in fractions] + [
        f"alone:{task}:{a}" for task in tasks for a in fractions
    ]
    folders = [RunDir(Path("run")).curve(name).root for name in names]
    assert len(set(folders)) == len(names)
    assert {folder.parent for folder in folders} == {Path("run/curve")}
    assert all(re.fullmatch(r"[\w.-]+", folder.name) for folder in folders)
    assert RunDir(Path("run")).curve("alone:ocr:1/12").root == Path("run/curve/alone-ocr-1_12")


def test_a_run_is_done_when_its_outcome_exists(tmp_path: Path) -> None:
    run = RunDir(tmp_path).probe("mini")
    write_json(run.trained, {})
    assert not run.done
    write_json(run.outcome, {})
    assert run.done


def test_now_is_the_time_of_day() -> None:
    assert abs(now() - time.time()) < 5
    assert json.loads(json.dumps(now())) > 1.6e9


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_a_file_of_ours_that_was_broken_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "plan.json").write_bytes(content)
    with raises(RunError, "broken-file", "plan.json"):
        read_json(tmp_path / "plan.json")


ROWS = [{"id": number, "answer": f"frog {number}"} for number in range(20)]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[: content.rindex(b"\n", 0, -1) + 1],
        lambda content: content.replace(b"frog 7", b"frog 8"),
        lambda content: bytes(len(content)),
        lambda content: b"",
    ],
    ids=["half", "last line", "letter", "zeros", "empty"],
)
def test_rows_are_read_as_they_were_written(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "rows.jsonl"
    write_sealed_rows(path, ROWS)
    assert read_sealed_rows(path) == ROWS
    path.write_bytes(damage(path.read_bytes()))
    with raises(RunError, "damaged-file", path):
        read_sealed_rows(path)


def test_rows_without_their_digest_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, ROWS)
    with raises(RunError, "damaged-file", path):
        read_sealed_rows(path)


def test_a_digest_is_as_sha256sum_writes_it(tmp_path: Path) -> None:
    write_sealed_rows(tmp_path / "rows.jsonl", ROWS)
    digest = hashlib.sha256((tmp_path / "rows.jsonl").read_bytes()).hexdigest()
    assert (tmp_path / "rows.jsonl.sha256").read_text() == f"{digest}  rows.jsonl\n"


@given(st.data())
def test_no_changed_letter_of_sealed_json_is_read(data: st.DataObject) -> None:
    content = {"score": 0.8125, "samples": [1.0, 0.5], "task": "ö", "clusters": {"3": 1}}
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "scores.json"
        write_sealed(path, content)
        assert read_json(path) == content
        text = path.read_text()
        position = data.draw(st.integers(0, len(text) - 1))
        letter = data.draw(st.sampled_from('0123456789ae{}[],:" \n.'))
        path.write_text(text[:position] + letter + text[position + 1 :])
        with suppress(RunError):
            assert {key: read_json(path).get(key) for key in content} == content
