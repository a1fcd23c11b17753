"""Processes without a run answer questions of others; answers do not depend on who gave them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cotbal.data.files import read_sealed_rows
from cotbal.errors import RunError
from cotbal.jobs import entry, helper, unchanged, worker
from cotbal.jobs.executors import STOPPED
from cotbal.jobs.kept_answers import KeptAnswers
from cotbal.jobs.shares import HelperShares, OfferedShares, Shares, write_offer
from helpers.errors import raises
from helpers.forked_modules import Forked
from helpers.planned_runs import plan_choosing, plan_final

HELPER = (sys.executable, "-m", "cotbal.jobs.helper")
KEYS = [("vqa.test", number) for number in range(4)]
# Takes a share, and neither answers it nor ends.
HOLDER = """
import fcntl, os, sys, time
descriptor = os.open(sys.argv[1], os.O_RDWR)
fcntl.lockf(descriptor, fcntl.LOCK_EX, 1, int(sys.argv[2]))
print("taken", flush=True)
time.sleep(600)
"""


def no_wait() -> None:
    """Nobody asks this process to stop."""


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    path = tmp_path / "answers" / "queue.json"
    write_offer(path, "a", KEYS)
    return path


@pytest.fixture
def hold(queue: Path) -> Iterator[Callable[[int], subprocess.Popen[bytes]]]:
    """Let another process take a share."""
    holders = []

    def start(number: int) -> subprocess.Popen[bytes]:
        argv = (sys.executable, "-c", HOLDER, str(queue), str(number))
        holder = subprocess.Popen(argv, stdout=subprocess.PIPE)
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"taken\n"
        holders.append(holder)
        return holder

    yield start
    for holder in holders:
        holder.kill()
        holder.communicate()


def answered_by_a_helper(queue: Path, number: int) -> Path:
    """The file of a share, as a helper that has ended wrote it."""
    helping = HelperShares(queue, "a", KEYS)
    for taken in helping.taken(len(KEYS)):
        helping.add({taken: f"text {taken}"} if taken == number else {})
    helping.close()
    for path in queue.parent.glob("a-share-*"):
        if f"share-{number}." not in path.name:
            path.unlink()
    return queue.parent / f"a-share-{number}.jsonl"


def test_one_process_alone_answers_every_share(queue: Path) -> None:
    shares = OfferedShares(queue, "a", KEYS, no_wait)
    assert list(shares.taken(4)) == [0, 1, 2, 3]
    assert (shares.others, shares.received()) == (0, {})
    shares.close()
    assert not queue.exists()


def test_answers_of_a_helper_are_received(queue: Path) -> None:
    answered_by_a_helper(queue, 2)
    shares = OfferedShares(queue, "a", KEYS, no_wait)
    assert list(shares.taken(4)) == [0, 1, 3]
    assert (shares.others, shares.received()) == (1 / 4, {2: "text 2"})


def test_damaged_answers_of_a_helper_are_given_again(queue: Path) -> None:
    answered_by_a_helper(queue, 2).write_text("x")
    shares = OfferedShares(queue, "a", KEYS, no_wait)
    assert list(shares.taken(4)) == [0, 1, 3, 2]
    assert shares.received() == {}


def test_what_another_process_took_comes_last_and_only_if_it_ends(
    queue: Path, hold: Callable[[int], subprocess.Popen[bytes]]
) -> None:
    holder = hold(1)
    waited: list[float] = []

    def wait() -> None:
        waited.append(time.monotonic())
        if len(waited) == 3:
            holder.kill()

    shares = OfferedShares(queue, "a", KEYS, wait)
    assert list(shares.taken(4)) == [0, 2, 3, 1]
    assert len(waited) >= 3


def test_waiting_ends_with_a_stop(
    queue: Path, hold: Callable[[int], subprocess.Popen[bytes]]
) -> None:
    hold(3)

    def stop() -> None:
        raise InterruptedError

    taken = OfferedShares(queue, "a", KEYS, stop).taken(4)
    assert [next(taken) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(InterruptedError):
        next(taken)


def test_a_helper_takes_nothing_of_an_offer_that_was_withdrawn(queue: Path) -> None:
    helping = HelperShares(queue, "a", KEYS)
    OfferedShares(queue, "a", KEYS, no_wait).close()
    assert list(helping.taken(4)) == []
    assert not list(queue.parent.iterdir())


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A run that was not begun, of 16 questions in shares of one image."""
    return plan_final(tmp_path, "generation.batch_size=1")


def written(run: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (run / "generations").glob("*.jsonl")}


def job(home: Path) -> list[str]:
    return [str(home / "job.json")]


def again(home: Path) -> None:
    """Let the run answer again, as if it had not failed before either."""
    (home / "failure.json").unlink(missing_ok=True)
    for folder in ("generations", "scores"):
        shutil.rmtree(home / folder)
    (home / "outcome.json").unlink()


class Help:
    """Starts a helper after the first share was taken, and waits until it has done the others."""

    def __init__(self, home: Path, patch: pytest.MonkeyPatch) -> None:
        self.home = home
        patch.setattr(OfferedShares, "_is_taken", lambda *details: self.taken(*details))  # noqa: PLW0108
        self.own: list[int] = []
        self.code: int | None = None
        self.files: list[list[Any]] = []

    def taken(self, shares: Shares, number: int) -> bool:
        first = _taken(shares, number)
        if self.code is None:
            with (self.home / "helper.txt").open("ab") as log:
                self.code = Forked((*HELPER, *job(self.home)), stdout=log, stderr=log).wait(120)
            files = (self.home / "answers").glob("*-share-*.jsonl")
            self.files = [read_sealed_rows(path) for path in files]
        if first:
            self.own.append(number)
        return first


_taken = Shares._is_taken


@pytest.mark.extended
@pytest.mark.parametrize("plan", [plan_final, plan_choosing])
def test_a_helper_gives_the_same_answers(
    plan: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = plan(tmp_path, "generation.batch_size=1")
    worker.main(job(home))
    alone = written(home)
    again(home)
    help = Help(home, monkeypatch)
    worker.main(job(home))
    assert help.code == 0, (home / "helper.txt").read_text()
    assert help.own == [0]
    assert len(help.files) >= 3
    assert written(home) == alone
    assert sum(len(text.splitlines()) for text in alone.values()) == 16
    assert not (home / "answers").exists()
    assert not (home / "failure.json").exists()


def test_a_helper_of_a_resumed_run_answers_what_is_missing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.main(job(home))
    alone = written(home)
    again(home)
    kept = KeptAnswers(home / "answers")
    kept.add({("color.test", number): f"kept {number}" for number in range(3)})
    kept.write()
    help = Help(home, monkeypatch)
    worker.main(job(home))
    assert help.code == 0, (home / "helper.txt").read_text()
    asked = {(name, number) for rows in help.files for name, number, _ in rows}
    assert asked
    assert not asked & {("color.test", number) for number in range(3)}
    answers = [
        json.loads(line)["answer"] for line in written(home)["color.test.jsonl"].splitlines()
    ]
    assert answers[:3] == ["kept 0", "kept 1", "kept 2"]
    assert written(home)["paint.test.jsonl"] == alone["paint.test.jsonl"]


def test_a_run_answers_alone_what_a_failed_helper_left(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.main(job(home))
    alone = written(home)
    again(home)
    help = Help(home, monkeypatch)
    monkeypatch.setattr(unchanged, "need_unchanged", lambda *_: 1 / 0)
    worker.main(job(home))
    assert help.code == 1
    assert "ZeroDivisionError" in (home / "helper.txt").read_text()
    assert not (home / "failure.json").exists()
    assert written(home) == alone


def test_few_questions_are_not_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = plan_final(tmp_path, "generation.batch_size=9")
    monkeypatch.setattr(worker, "write_offer", lambda *_, **__: pytest.fail("offered"))
    worker.main(job(home))
    assert len(written(home)) == 2


def test_a_helper_does_nothing_without_an_offer(home: Path) -> None:
    helper.main(job(home))
    assert not (home / "answers").exists()


@pytest.fixture
def offered(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was killed while it answered."""

    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(OfferedShares, "taken", kill)
        patch.setattr(OfferedShares, "close", lambda _: None)
        with pytest.raises(Killed):
            worker.main(job(home))
    assert (home / "answers" / "queue.json").exists()
    return home


def test_a_helper_rejects_changed_questions(offered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = KeptAnswers(offered / "answers")
    kept.add({("color.test", 0): "red"})
    kept.write()
    with pytest.raises(SystemExit) as end:
        helper.main(job(offered))
    assert end.value.code not in (None, 0)
    assert not list((offered / "answers").glob("*-share-*"))


def test_a_helper_rejects_changed_data(offered: Path) -> None:
    path = offered.parent.parent.parent / "data" / "data" / "color_test.jsonl"
    path.write_text(path.read_text().replace("Which", "What"))
    with raises(RunError, "changed-inputs", "tasks.color"):
        helper.main(job(offered))
    assert not list((offered / "answers").glob("*-share-*"))


def test_a_stop_while_helpers_answer_keeps_the_answers(
    offered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, stopped = offered / "answers" / "queue.json", threading.Event()
    held: list[subprocess.Popen[bytes]] = []

    def taken(shares: Shares, number: int) -> bool:
        if not held:
            argv = (sys.executable, "-c", HOLDER, str(queue), "1")
            held.append(subprocess.Popen(argv, stdout=subprocess.PIPE))
            assert held[0].stdout is not None
            held[0].stdout.readline()
        return _taken(shares, number)

    def wait(seconds: float) -> None:
        stopped.set()

    monkeypatch.setattr(OfferedShares, "_is_taken", taken)
    monkeypatch.setattr("cotbal.jobs.shares.time.sleep", wait)
    monkeypatch.setattr(entry, "stop_signal", lambda: stopped.is_set)
    with pytest.raises(SystemExit) as end:
        worker.main(job(offered))
    held[0].kill()
    held[0].communicate()
    assert end.value.code == STOPPED
    assert 0 < len(KeptAnswers(offered / "answers").read()) < 16
    assert not queue.exists()
