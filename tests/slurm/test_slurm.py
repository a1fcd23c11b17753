"""Jobs of a real Slurm on this machine. Whatever dies, the job ends with the weights of an
undisturbed one.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from cotbal.data.files import is_locked, write_json, write_text
from cotbal.jobs.executors import Job, Resources, recorded_handle, slurm
from cotbal.jobs.executors._slurm_queue import own_entries, submit
from cotbal.jobs.executors._slurm_script import SCRIPT, options, script
from cotbal.jobs.executors.slurm import RETRIED
from cotbal.jobs.queue import cancel
from cotbal.jobs.rundir import RunDir, submission_of
from cotbal.jobs.status import status
from cotbal.recipe.schema import ResourcesSection
from helpers.raw_releases import drawing, vqav2_server
from helpers.shell import LIMIT, command, cotbal
from helpers.slurm_cluster import Cluster, wait_for
from helpers.tiny_vlm import mixture

pytestmark = [
    pytest.mark.needs("slurm"),
    pytest.mark.extended,
]
PROBES = ("mini", "full-color", "full-paint")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mixture(tmp_path_factory.mktemp("mixture") / "a", {"color": 1, "paint": 2}, train=64)


def arguments(source: Path, root: Path, on: str) -> list[str]:
    how = ["--out", str(root), "--on", on, "--threads", "1", "--keep-checkpoints"]
    return [
        "balance",
        str(source),
        "optimization.epochs=24",
        "optimization.checkpoint_steps=5",
        "resources={gpus: 0, hours: 1}",
        *how,
    ]


def results(root: Path) -> dict[str, bytes]:
    """Everything that must not depend on where a job runs, or on what dies there."""
    files = [root / name for name in ("scores.csv", "weights.json", "balance.json")]
    for probe in PROBES:
        files += sorted((root / "probes" / probe).glob("generations/*"))
        files.append(root / "probes" / probe / "checkpoint" / "model.safetensors")
    return {str(file.relative_to(root)): file.read_bytes() for file in files}


class Driver:
    """A command in the background, on a cluster that is tended meanwhile."""

    def __init__(self, argv: list[str], root: Path, cluster: Cluster) -> None:
        self.argv, self.root, self.cluster = argv, root, cluster
        self.deadline = time.monotonic() + 3 * LIMIT  # of all that the test waits for
        self.start()

    def start(self) -> None:
        with (self.root.parent / "driver.txt").open("ab") as log:
            self.process = subprocess.Popen(command(*self.argv), stdout=log, stderr=log)

    def end(self) -> int:
        self._wait(lambda: self.process.poll() is not None)
        return self.process.wait()

    def wait_for(self, happened: Callable[[], bool]) -> None:
        """Wait for something that only a running command can cause."""
        self._wait(lambda: happened() or self._is_over())

    def _is_over(self) -> bool:
        assert self.process.poll() is None, self.output()
        return False

    def _wait(self, happened: Callable[[], bool]) -> None:
        tended = time.monotonic()
        while not happened():
            assert time.monotonic() < self.deadline, self.output()
            if time.monotonic() - tended > 1:
                self.cluster.tend()
                tended = time.monotonic()
            time.sleep(0.05)

    def output(self) -> str:
        return (self.root.parent / "driver.txt").read_text()

    def submitted(self) -> dict[str, str]:
        """Probe -> id of its job, of those that are in the queue."""
        handles = {probe: recorded_handle(self.root / "probes" / probe) for probe in PROBES}
        return {probe: handle.id for probe, handle in handles.items() if handle is not None}

    def training(self) -> str | None:
        """A probe that is being trained and has a checkpoint to resume from."""
        marks = self.root.glob("probes/*/partial/*/complete")
        runs = {mark.parents[2] for mark in marks}
        return next(
            (
                run.name
                for run in sorted(runs)
                if run.name in self.submitted() and is_locked(run / "lock")
            ),
            None,
        )


@pytest.fixture
def driver(source: Path, tmp_path: Path, slurm_cluster: Cluster) -> Iterator[Driver]:
    root = tmp_path / "disturbed"
    command = Driver(arguments(source, root, "slurm"), root, slurm_cluster)
    yield command
    command.process.kill()
    command.process.wait()
    subprocess.run(
        ["scancel", "--me"], check=False, timeout=LIMIT
    )  # so that one failure does not bring about the next


def alive() -> list[str]:
    return [entry.name for entry in own_entries() if entry.alive]


def disturb(driver: Driver, action: Callable[[Driver, str, str], None]) -> None:
    """Do it to runs in the middle of their training, until one of them has to be retried."""
    while True:
        driver.wait_for(lambda: driver.training() is not None)
        probe = driver.training()
        id = driver.submitted().get(probe or "")
        if probe is None or id is None:
            continue  # it has ended between two looks
        action(driver, probe, id)
        driver.wait_for(partial(is_retried_or_done, driver, probe, id))
        if driver.submitted().get(probe, id) != id:
            return


def is_retried_or_done(driver: Driver, probe: str, id: str) -> bool:
    return (
        driver.submitted().get(probe, id) != id
        or (driver.root / "probes" / probe / "outcome.json").exists()
    )


def cancel_one(driver: Driver, probe: str, id: str) -> None:
    """`scancel` by somebody: the run saves a checkpoint."""
    subprocess.run(["scancel", id], check=False, timeout=LIMIT)


def kill(driver: Driver, probe: str, id: str) -> None:
    """The process of a run dies at once."""
    worker = ["-m", "cotbal.jobs.worker", str(driver.root / "probes" / probe / "job.json")]
    for process in psutil.process_iter(["name", "cmdline"]):
        if (process.info["cmdline"] or [])[1:] == worker:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def kill_driver(driver: Driver) -> None:
    """Its successor adopts the jobs in the queue, and submits none twice."""
    driver.wait_for(lambda: len(alive()) > 0)
    driver.process.kill()
    driver.process.wait()
    before = driver.submitted()
    driver.start()
    driver.wait_for((driver.root / "driver.json").exists)
    driver.wait_for(
        lambda: all(
            (driver.root / "probes" / p / "outcome.json").exists() or p in driver.submitted()
            for p in PROBES
        )
    )
    there = alive()
    assert len(there) == len(set(there))
    kept = driver.submitted()
    assert all(kept[probe] == id for probe, id in before.items() if probe in kept)


def restart_controller(driver: Driver, cluster: Cluster) -> None:
    cluster.stop_controller()
    states = json.loads(cotbal("status", driver.root, "--json"))
    assert {state["state"] for state in states} <= {"done", "running", "unknown", "missing"}
    assert driver.process.poll() is None
    cluster.start_controller()


def lose_node(driver: Driver, cluster: Cluster) -> None:
    driver.wait_for(lambda: any(entry.state == "RUNNING" for entry in own_entries()))
    cluster.lose_node()
    time.sleep(1)
    cluster.start_node()


def test_whatever_dies_the_job_ends_the_same(
    driver: Driver, source: Path, slurm_cluster: Cluster, tmp_path: Path
) -> None:
    driver.wait_for(lambda: len(driver.submitted()) == len(PROBES))
    states = json.loads(cotbal("status", driver.root, "--json"))
    assert {"queued", "running"} >= {s["state"] for s in states if s["kind"] == "probe"}
    assert all("slurm" in s["detail"] for s in states if s["kind"] == "probe")
    disturb(driver, cancel_one)
    disturb(driver, kill)
    kill_driver(driver)
    restart_controller(driver, slurm_cluster)
    lose_node(driver, slurm_cluster)
    assert driver.end() == 0, driver.output()
    output = driver.output()
    assert output.count(RETRIED) >= 2, output
    assert alive() == []
    whole = tmp_path / "whole"
    cotbal(*arguments(source, whole, "processes"))
    assert results(driver.root) == results(whole)
    assert not list(driver.root.rglob("handle.json"))


def test_a_run_starts_in_strange_surroundings(
    slurm_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A strange path, no variable passed, a driver that is itself a job, odd names of others."""
    show = (
        "import os; print(*(os.environ.get(name) for name in ('COTBAL_PREEMPTIBLE', 'HF_HOME',"
        " 'OMP_NUM_THREADS')))"
    )
    needs = ResourcesSection(gpus=0, memory="60M", directives=("--export=NONE",))
    one = Job("a", tmp_path / 'it\'s 50%j "é"', (sys.executable, "-c", show), 1.0, needs)
    subprocess.run(
        [b"sbatch", b"--hold", b"--job-name=\xe9l\xe8ve", b"--wrap=true"], check=True, timeout=LIMIT
    )
    around = {
        "SLURM_MEM_PER_CPU": "100",
        "SLURM_NTASKS": "4",
        "SLURM_NNODES": "3",
        "SQUEUE_USERS": "nobody",
    }
    for name, value in {**around, "HF_HOME": "/a b"}.items():
        monkeypatch.setenv(name, value)
    (outcome,) = slurm.run([one], Resources(threads=2))
    for name in around:
        monkeypatch.delenv(name)
    subprocess.run(["scancel", "--me"], check=True, timeout=LIMIT)
    assert outcome.ok, outcome.message
    assert (one.directory / "log.txt").read_text() == "1 /a b 2\n"


def test_two_jobs_of_one_run_do_not_run_at_once(slurm_cluster: Cluster, tmp_path: Path) -> None:
    """The id of the first was lost; it is cancelled by its name."""
    one = Job(
        "a",
        tmp_path,
        (sys.executable, "-c", "import time; time.sleep(60)"),
        1.0,
        ResourcesSection(gpus=0),
    )
    write_text(tmp_path / SCRIPT, script(one, {}))
    first, second = (submit(options(one), tmp_path / SCRIPT) for _ in range(2))
    wait_for(lambda: {e.id: e.state for e in own_entries()}[first] == "RUNNING", "the first job")
    assert {e.id: e.reason for e in own_entries()}[second] == "Dependency"
    slurm.cancel([second])
    assert not {entry.id for entry in own_entries() if entry.alive} & {first, second}


def test_cancel_stops_everything(driver: Driver) -> None:
    driver.wait_for(lambda: len(driver.submitted()) == len(PROBES))
    cotbal("cancel", driver.root)
    assert driver.end() == 128 + signal.SIGTERM
    assert alive() == []
    states = {s["state"] for s in json.loads(cotbal("status", driver.root, "--json"))}
    assert states <= {"missing", "interrupted"}


def test_a_model_that_answers_has_a_status_and_is_cancelled(
    slurm_cluster: Cluster, tmp_path: Path
) -> None:
    recipe = mixture(tmp_path / "runs", {"VQAv2": 1}, train=4, answers=2)
    run, root = recipe.parent / "final/cotbal", RunDir(recipe.parent)
    shutil.copytree(recipe.parent / "base", run / "checkpoint")
    write_json(root.plan, {"runs": []})
    text = recipe.read_text()
    recipe.write_text(f"{text}resources: {{gpus: 0, directives: [--begin=now+1hour]}}\n")
    vqav2_server(tmp_path / "raw")
    image = tmp_path / "raw/images/coco/test2015/COCO_test2015_000000000009.jpg"
    image.parent.mkdir(parents=True)
    image.write_bytes(drawing("teal"))
    asked = ("submission", run, "--raw", tmp_path / "raw")
    answers = submission_of(run)
    with subprocess.Popen(command(*asked, "--on", "slurm"), stdout=subprocess.DEVNULL) as driver:
        deadline = time.monotonic() + LIMIT
        while recorded_handle(answers.root) is None:
            assert driver.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        driver.kill()
    (state,) = status(root)
    assert (state.run, state.state) == ("final/cotbal/vqav2_testdev", "queued")
    assert "queued elsewhere" in cotbal(*asked, code=2)
    assert cancel(root) == (["final/cotbal/vqav2_testdev"], [])
    assert alive() == []
    recipe.write_text(f"{text}resources: {{gpus: 0}}\n")
    cotbal(*asked, "--on", "slurm")
    assert status(root)[0].state == "done"
    assert recorded_handle(answers.root) is None


def test_a_run_that_slurm_rejects_fails(
    source: Path, slurm_cluster: Cluster, tmp_path: Path
) -> None:
    refused = [*arguments(source, tmp_path / "run", "slurm"), "resources.partition=gpu"]
    output = cotbal(*refused, code=2)
    assert "3 of 3" in output
    assert "invalid partition name specified" in output.lower()
