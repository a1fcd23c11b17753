"""The executor with stand-ins for the programs of Slurm; tests/slurm has the real ones."""

from __future__ import annotations

import errno
import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cotbal.errors import CotbalError
from cotbal.jobs.executors import (
    Job,
    JobHandle,
    Outcome,
    Resources,
    forget_handle,
    record_handle,
    recorded_handle,
    slurm,
)
from cotbal.jobs.executors._slurm_queue import NoAnswer
from cotbal.jobs.executors._slurm_script import name_of
from cotbal.jobs.queue import cancel_jobs, queued
from cotbal.recipe.schema import ResourcesSection
from helpers.errors import raises

# Every sbatch takes the next line of `plan`: state of its job, exit code that it notes (or `-`),
# and at which stage.
PROGRAMS = {
    "sbatch": (
        """
        for word; do case $word in --chdir=*) to=${word#*=};; --job-name=*) name=${word#*=};;
            --partition=none) echo "sbatch: error: invalid partition specified: none" >&2; exit 1;; esac; done
        if [ -e limit ] && cat jobs/* 2>/dev/null | grep -q RUNNING; then
            echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2
            echo "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit)" >&2
            exit 1; fi
        n=$(($(ls jobs | wc -l) + 1))
        set -- $(sed -n ${n}p plan)
        if [ "$2" != - ]; then echo "$n ${3:-run} $2" >"$to/slurm.end"; fi
        reason=None; if [ "$1" = HELD ]; then reason="launch failed requeued held"; set -- PENDING; fi
        echo "$n|$1|node1|$reason|$name" >jobs/$n
        if [ -e banner ]; then cat banner; fi
        if [ -e mute ]; then rm mute; else echo "$n$(cat suffix 2>/dev/null)"; fi"""
    ),
    "squeue": (
        """
        env >environment
        for word; do case $word in --jobs=*)
            cat jobs/* others/* 2>/dev/null | grep "^${word#*=}|" && exit
            echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1;; esac; done
        cat jobs/* 2>/dev/null || true"""
    ),
    "scancel": (
        """
        for id; do if [ -e others/$id ]; then
            echo "scancel: error: Kill job error on job id $id: Access/permission denied" >&2; exit 1; fi; done
        for id; do sed -i 's/|[A-Z]*|/|CANCELLED|/' jobs/$id; done"""
    ),
}


class FakeSlurm:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "jobs").mkdir(parents=True)
        (directory / "others").mkdir()
        for name, action in PROGRAMS.items():
            away = (
                f'if [ -e away ]; then echo "{name}: error: Unable to contact slurm controller"'
                " >&2; exit 1; fi"
            )
            (directory / name).write_text(f"#!/bin/sh\ncd {directory}\n{away}\n{action}\n")
            (directory / name).chmod(0o755)

    def plan(self, *lines: str) -> None:
        (self.directory / "plan").write_text("".join(f"{line}\n" for line in lines))

    def put(self, id: str, state: str, name: str, whose: str = "jobs") -> None:
        (self.directory / whose / id).write_text(
            f"{id}|{state}|node1|Priority|{name}\n", encoding="latin-1"
        )

    def make(self, file: str, text: str = "") -> None:
        """A file that one of the programs reads."""
        (self.directory / file).write_text(text)

    def away(self, away: bool) -> None:
        (self.directory / "away").touch() if away else (self.directory / "away").unlink()

    @property
    def states(self) -> list[str]:
        """Of every job that was ever submitted, in order."""
        files = sorted((self.directory / "jobs").iterdir(), key=lambda path: int(path.name))
        return [path.read_text().split("|")[1] for path in files]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    programs = FakeSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{programs.directory}:/usr/bin:/bin")
    for name, seconds in {
        "TICK": 0.01,
        "POLL": 0.02,
        "SLOWEST_POLL": 0.05,
        "SETTLE_SECONDS": 0.05,
    }.items():
        monkeypatch.setattr(slurm, name, seconds)
    return programs


def job(directory: Path, name: str = "mini", cost: float = 1.0, **needs: object) -> Job:
    command = (sys.executable, "-m", "cotbal.jobs.worker", "job.json")
    return Job(
        name, directory / name, command, cost, ResourcesSection.model_validate({"gpus": 0, **needs})
    )


def only(outcomes: Iterator[Outcome]) -> Outcome:
    (outcome,) = outcomes
    return outcome


def test_the_longest_is_submitted_first(fake: FakeSlurm, tmp_path: Path) -> None:
    fake.plan(*["COMPLETED 0"] * 3)
    jobs = [job(tmp_path, name, cost) for name, cost in (("short", 1), ("long", 9), ("middle", 4))]
    assert all(outcome.ok for outcome in slurm.run(jobs, Resources()))
    names = [(fake.directory / "jobs" / id).read_text().strip().split("|")[-1] for id in "123"]
    assert names == [name_of(jobs[i]) for i in (1, 2, 0)]
    assert not [one for one in jobs if recorded_handle(one.directory)]


@pytest.mark.parametrize("state", ["NODE_FAIL", "PREEMPTED", "TIMEOUT", "CANCELLED", "BOOT_FAIL"])
def test_a_job_that_slurm_took_away_is_retried(fake: FakeSlurm, tmp_path: Path, state: str) -> None:
    fake.plan(f"{state} -", f"{state} 143", "COMPLETED 0")
    assert only(slurm.run([job(tmp_path)], Resources())).ok
    assert fake.states == [state, state, "COMPLETED"]


def test_a_job_that_slurm_could_not_start_is_cancelled_and_retried(
    fake: FakeSlurm, tmp_path: Path
) -> None:
    """Slurm requeues a job whose node dies while it is launched, and holds it."""
    fake.plan("HELD -", "COMPLETED 0")
    assert only(slurm.run([job(tmp_path)], Resources())).ok
    assert fake.states == ["CANCELLED", "COMPLETED"]


def test_a_held_job_is_adopted_by_the_next_command(fake: FakeSlurm, tmp_path: Path) -> None:
    """The driver had ended when Slurm held the job: nothing of it stays in the queue."""
    fake.plan("", "COMPLETED 0")
    held = job(tmp_path)
    (fake.directory / "jobs" / "1").write_text(
        f"1|PENDING|node1|launch failed requeued held|{name_of(held)}\n"
    )
    record_handle(held.directory, JobHandle("slurm", "1"))
    assert {id: s.state for id, s in slurm.statuses(["1"]).items()} == {"1": "queued"}
    assert only(slurm.run([held], Resources())).ok
    assert fake.states == ["CANCELLED", "COMPLETED"]


def test_a_job_that_never_starts_fails(fake: FakeSlurm, tmp_path: Path) -> None:
    fake.plan(*["HELD -"] * 9)
    outcome = only(slurm.run([job(tmp_path, retries=1)], Resources()))
    expected = "mini could not be started by Slurm (launch failed requeued held), job 2"
    assert outcome.message.splitlines()[0] == expected
    assert fake.states == ["CANCELLED", "CANCELLED"]


def test_retries_are_limited(fake: FakeSlurm, tmp_path: Path) -> None:
    fake.plan(*["NODE_FAIL -"] * 9)
    outcome = only(slurm.run([job(tmp_path, retries=2)], Resources()))
    assert not outcome.ok
    assert outcome.message.splitlines()[0] == "mini was stopped from outside (NODE_FAIL), job 3"
    assert len(fake.states) == 3


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("FAILED 3", "ended with exit code 3 (FAILED), job 1"),
        ("OUT_OF_MEMORY 137", "ran out of memory"),
    ],
)
def test_a_problem_of_the_run_itself_is_not_retried(
    fake: FakeSlurm, tmp_path: Path, line: str, problem: str
) -> None:
    fake.plan(*[line] * 2)
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini" / "log.txt").write_text("loading\nValueError: no frog\n")
    outcome = only(slurm.run([job(tmp_path)], Resources()))
    assert outcome.message.splitlines()[0].startswith(f"mini {problem}")
    assert outcome.message.splitlines()[-1] == "ValueError: no frog"
    assert len(fake.states) == 1


def test_a_problem_of_the_setup_shows_the_output_of_the_setup(
    fake: FakeSlurm, tmp_path: Path
) -> None:
    fake.plan("FAILED 1 setup")
    one = job(tmp_path)
    one.directory.mkdir()
    (one.directory / "slurm.txt").write_text("module: cuda is not here\n")
    outcome = only(slurm.run([one], Resources()))
    assert (
        outcome.message
        == "mini failed in resources.setup with exit code 1\nmodule: cuda is not here"
    )
    assert len(fake.states) == 1


def test_jobs_in_the_queue_are_adopted_by_their_names(fake: FakeSlurm, tmp_path: Path) -> None:
    """As when the first command died before it could record the id."""
    one = job(tmp_path)
    fake.put("7", "RUNNING", name_of(one))
    fake.put("8", "RUNNING", "somebody else's")
    one.directory.mkdir()
    (one.directory / "slurm.end").write_text("7 run 0\n")
    assert only(slurm.run([one], Resources())).ok
    assert len(fake.states) == 2, "nothing was submitted"


def test_a_note_may_become_visible_late(fake: FakeSlurm, tmp_path: Path) -> None:
    """A shared file system may show a file a minute after it was written; the queue reports the end."""
    fake.plan("COMPLETED -", "COMPLETED 0")
    one = job(tmp_path)
    outcomes = slurm.run([one], Resources())

    def show() -> None:
        while recorded_handle(one.directory) is None:
            time.sleep(0.01)
        time.sleep(0.4)
        (one.directory / "slurm.end").write_text("1 run 0\n")

    thread = threading.Thread(target=show)
    thread.start()
    assert only(outcomes).ok
    thread.join()
    assert len(fake.states) == 1


def test_a_note_of_an_earlier_job_is_ignored(fake: FakeSlurm, tmp_path: Path) -> None:
    one = job(tmp_path)
    one.directory.mkdir()
    (one.directory / "slurm.end").write_text("77 run 0\n")
    fake.plan("FAILED 2")
    assert not only(slurm.run([one], Resources())).ok


def test_without_an_answer_nothing_counts_as_lost(fake: FakeSlurm, tmp_path: Path) -> None:
    fake.plan("COMPLETED 0", "RUNNING -", "RUNNING -")
    jobs = [job(tmp_path, name, cost) for name, cost in (("a", 9), ("b", 5), ("c", 1))]
    outcomes = slurm.run(jobs, Resources(workers=2))
    assert next(outcomes).job.name == "a"
    fake.away(True)
    (tmp_path / "b" / "slurm.end").write_text("2 run 0\n")  # files of runs are read all the same
    assert next(outcomes).job.name == "b"
    submitted_meanwhile = len(fake.states)

    def back() -> None:
        fake.away(False)
        time.sleep(0.3)
        id = json.loads((tmp_path / "c" / "handle.json").read_text())["id"]
        (tmp_path / "c" / "slurm.end").write_text(f"{id} run 0\n")

    timer = threading.Timer(0.3, back)
    timer.start()
    assert next(outcomes).ok
    timer.join()
    assert submitted_meanwhile == 2
    assert len(fake.states) == 3


def test_a_controller_that_never_answers(
    fake: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "FIRST_ANSWER_SECONDS", 0.1)
    fake.away(True)
    with raises(NoAnswer, "no-answer"):
        slurm.run([job(tmp_path)], Resources())


def test_without_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with raises(CotbalError, "missing-program", "sbatch"):
        slurm.run([job(tmp_path)], Resources())


def test_a_rejected_job(fake: FakeSlurm, tmp_path: Path) -> None:
    fake.plan("COMPLETED 0")
    jobs = [job(tmp_path, "a", 9, partition="none"), job(tmp_path, "b")]
    outcomes = {outcome.job.name: outcome for outcome in slurm.run(jobs, Resources())}
    assert outcomes["b"].ok
    assert outcomes["a"].message.splitlines() == [
        "a was rejected by Slurm",
        "sbatch: sbatch: error: invalid partition specified: none",
    ]


def test_a_cancelled_job_is_not_retried(fake: FakeSlurm, tmp_path: Path) -> None:
    fake.plan("COMPLETED 0", "RUNNING -")
    outcomes = slurm.run([job(tmp_path, "a", 9), job(tmp_path, "b")], Resources())
    assert next(outcomes).ok
    forget_handle(tmp_path / "b")
    slurm.cancel(["2"])
    outcome = next(outcomes)
    assert outcome.message.splitlines()[0] == "b was cancelled"
    assert len(fake.states) == 2


def test_closing_it_cancels_the_rest(fake: FakeSlurm, tmp_path: Path) -> None:
    fake.plan("COMPLETED 0", "RUNNING -", "PENDING -")
    jobs = [job(tmp_path, "a", 9), job(tmp_path, "b", 5), job(tmp_path, "c")]
    outcomes = slurm.run(jobs, Resources())
    assert next(outcomes).ok
    assert {recorded_handle(one.directory) for one in jobs} == {
        None,
        JobHandle("slurm", "2"),
        JobHandle("slurm", "3"),
    }
    outcomes.close()
    assert fake.states == ["COMPLETED", "CANCELLED", "CANCELLED"]
    assert not [one for one in jobs if recorded_handle(one.directory)]


def test_a_job_that_is_being_submitted_is_cancelled(
    fake: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C or `cotbal cancel` after Slurm has accepted the job and before its id is here."""
    one = job(tmp_path)

    def interrupted(*_: object) -> str:
        fake.put("1", "PENDING", name_of(one))
        raise KeyboardInterrupt

    monkeypatch.setattr(slurm, "submit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(slurm.run([one], Resources()))
    assert fake.states == ["CANCELLED"]


def test_what_stays_in_the_queue_stays_on_record(fake: FakeSlurm, tmp_path: Path) -> None:
    fake.plan("COMPLETED 0", "RUNNING -")
    outcomes = slurm.run([job(tmp_path, "a", 9), job(tmp_path, "b")], Resources())
    next(outcomes)
    fake.away(True)
    outcomes.close()
    assert recorded_handle(tmp_path / "b") == JobHandle("slurm", "2")


def test_statuses(fake: FakeSlurm) -> None:
    for id, state in (("1", "RUNNING"), ("2", "PENDING"), ("3", "COMPLETED"), ("4", "COMPLETING")):
        fake.put(id, state, "x")
    statuses = slurm.statuses(["1", "2", "3", "4", "9"])
    assert {id: (status.state, status.where) for id, status in statuses.items()} == {
        "1": ("running", "on node1"),
        "2": ("queued", "waiting: Priority"),
        "4": ("running", "on node1 (COMPLETING)"),
    }
    fake.away(True)
    with raises(NoAnswer, "no-answer", "squeue"):
        slurm.statuses(["1"])


def test_variables_of_an_enclosing_job_and_of_the_user_s_view_are_dropped(
    fake: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command may itself be a job of Slurm, whose variables sbatch and srun would take for
    options.
    """
    gone = (
        "SLURM_MEM_PER_CPU",
        "SLURM_JOB_ID",
        "SQUEUE_PARTITION",
        "SCANCEL_INTERACTIVE",
        "SBATCH_ARRAY_INX",
    )
    for name in (*gone, "SLURM_CONF", "SBATCH_ACCOUNT"):
        monkeypatch.setenv(name, "7")
    fake.plan("COMPLETED 0")
    assert only(slurm.run([job(tmp_path)], Resources())).ok
    seen = {
        line.partition("=")[0] for line in (fake.directory / "environment").read_text().splitlines()
    }
    assert not seen & set(gone)
    assert {"SLURM_CONF", "SBATCH_ACCOUNT"} <= seen


def test_names_of_other_jobs_may_hold_anything(fake: FakeSlurm, tmp_path: Path) -> None:
    fake.plan("", "COMPLETED 0")
    fake.put("1", "RUNNING", "\xe9l\xe8ve")
    assert only(slurm.run([job(tmp_path)], Resources())).ok


def test_the_id_is_read_from_the_output_of_a_site_s_own_sbatch(
    fake: FakeSlurm, tmp_path: Path
) -> None:
    fake.plan("RUNNING -")
    fake.make("banner", "Welcome! 3 projects, 12 jobs\n")
    fake.make("suffix", ";cluster")
    one = job(tmp_path)
    one.directory.mkdir()
    assert slurm._submit(one, Resources()) == "1"


def test_a_job_whose_id_was_lost_is_adopted_by_its_name(fake: FakeSlurm, tmp_path: Path) -> None:
    fake.make("mute")
    one = job(tmp_path)

    def end() -> None:
        while recorded_handle(one.directory) is None:
            time.sleep(0.01)
        (one.directory / "slurm.end").write_text("1 run 0\n")

    fake.plan("RUNNING -")
    thread = threading.Thread(target=end)
    thread.start()
    assert only(slurm.run([one], Resources())).ok
    thread.join()
    assert fake.states == ["RUNNING"]


def test_a_limit_of_jobs_delays_the_others(fake: FakeSlurm, tmp_path: Path) -> None:
    """As many runs as the user may send; the others when there is room."""
    fake.make("limit")
    fake.plan("RUNNING -", "COMPLETED 0")
    first, second = job(tmp_path, "a", 9), job(tmp_path, "b")

    def end() -> None:
        time.sleep(0.3)
        fake.put("1", "COMPLETED", name_of(first))
        (first.directory / "slurm.end").write_text("1 run 0\n")

    timer = threading.Thread(target=end)
    timer.start()
    assert [
        (outcome.job.name, outcome.ok) for outcome in slurm.run([first, second], Resources())
    ] == [
        ("a", True),
        ("b", True),
    ]
    timer.join()


def test_a_limit_below_one_job_is_a_rejection(fake: FakeSlurm, tmp_path: Path) -> None:
    """Waiting does not help without a job in the queue."""
    (fake.directory / "sbatch").write_text(
        '#!/bin/sh\necho "Job violates policy (job submit limit)" >&2\nexit 1\n'
    )
    assert only(slurm.run([job(tmp_path)], Resources())).message.startswith(
        "mini was rejected by Slurm"
    )


def test_a_run_of_another_user_is_left_alone(fake: FakeSlurm, tmp_path: Path) -> None:
    """The job is not among those of this user, but its id is recorded."""
    one = job(tmp_path)
    fake.plan(*["COMPLETED 0"] * 2)
    fake.put("70", "RUNNING", name_of(one), "others")
    record_handle(one.directory, JobHandle("slurm", "70"))
    assert slurm.statuses(["70", "71"])["70"].state == "running"
    with raises(CotbalError, "run-in-use", one.directory, "job 70"):
        slurm.run([one], Resources())
    with raises(CotbalError, "permission-denied", "70"):
        slurm.cancel(["70"])
    fake.put("70", "COMPLETED", name_of(one), "others")
    assert only(slurm.run([one], Resources())).ok


def test_what_cannot_be_cancelled_stays_on_record(fake: FakeSlurm, tmp_path: Path) -> None:
    fake.put("70", "RUNNING", "x", "others")
    record_handle(tmp_path, JobHandle("slurm", "70"))
    with raises(CotbalError, "permission-denied", "70"):
        cancel_jobs(queued([tmp_path]))
    assert recorded_handle(tmp_path) == JobHandle("slurm", "70")


def test_a_job_that_does_not_end_is_not_taken_for_cancelled(
    fake: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker would save into the directory of the run that replaces it."""
    monkeypatch.setattr(slurm, "STOP_SECONDS", 0.2)
    fake.put("2", "COMPLETING", "cotbal-a")
    (fake.directory / "scancel").write_text("#!/bin/sh\n")
    record_handle(tmp_path, JobHandle("slurm", "2"))
    with raises(CotbalError, "run-in-use", "2"):
        cancel_jobs(queued([tmp_path]))
    assert recorded_handle(tmp_path) == JobHandle("slurm", "2")


def test_a_second_job_of_the_same_run_is_cancelled_too(fake: FakeSlurm) -> None:
    """It was submitted, but its id was lost."""
    fake.put("1", "RUNNING", "cotbal-a")
    fake.put("2", "PENDING", "cotbal-a")
    fake.put("3", "RUNNING", "cotbal-b")
    slurm.cancel(["2"])
    assert fake.states == ["CANCELLED", "CANCELLED", "RUNNING"]


def test_a_full_disk_stops_one_run_and_not_those_that_work(
    fake: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        if path.parent.name == "b":
            raise OSError(errno.ENOSPC, "No space left on device")
        path.write_text(text)

    monkeypatch.setattr(slurm, "write_text", full)
    fake.plan("COMPLETED 0")
    jobs = [job(tmp_path, "a"), job(tmp_path, "b", 9)]
    outcomes = {outcome.job.name: outcome for outcome in slurm.run(jobs, Resources())}
    assert outcomes["a"].ok
    assert outcomes["b"].message.splitlines()[0] == "b could not be submitted"
    assert outcomes["b"].message.endswith("No space left on device")


def test_without_a_log_the_error_shows_the_output_of_slurm(fake: FakeSlurm, tmp_path: Path) -> None:
    """As when srun could not begin the run."""
    fake.plan("FAILED 1")
    one = job(tmp_path)
    one.directory.mkdir()
    (one.directory / "slurm.txt").write_text("srun: fatal: no such thing\n")
    assert only(slurm.run([one], Resources())).message.endswith("\nsrun: fatal: no such thing")


def test_a_handle_is_recorded_in_the_directory(tmp_path: Path) -> None:
    assert recorded_handle(tmp_path) is None
    record_handle(tmp_path, JobHandle("slurm", "12"))
    assert recorded_handle(tmp_path) == JobHandle("slurm", "12")
    forget_handle(tmp_path)
    forget_handle(tmp_path)
    assert recorded_handle(tmp_path) is None
