"""A job on two nodes of Ray: workers, a node and the driver are killed, and it ends as one that
nobody disturbed.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from helpers.errors import names_all
from helpers.ray_nodes import RayNodes
from helpers.shell import LIMIT, command, cotbal
from helpers.tiny_vlm import mixture

pytestmark = [pytest.mark.needs("ray"), pytest.mark.extended]
PROBES = ("full-color", "full-paint", "mini")


def bytes_of(root: Path) -> dict[str, bytes]:
    """Everything that must not depend on where the runs were executed, nor on what happened
    there.
    """
    models = [root / "probes" / name / "checkpoint/model.safetensors" for name in PROBES]
    files = [root / "weights.json", root / "balance.json", *models]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def workers(root: Path) -> dict[str, psutil.Process]:
    """The processes that do runs of this directory, by the name of the run; fresh or forked, they
    write to its log.
    """
    processes = {}
    for process in psutil.process_iter(["cmdline"]):
        if "cotbal.jobs.worker" in (process.info["cmdline"] or []):
            with suppress(OSError):  # it has ended
                log = Path(f"/proc/{process.pid}/fd/1").readlink()
                if log.name == "log.txt" and log.is_relative_to(root):
                    processes[log.parent.name] = process
    return processes


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not happened():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def has_a_checkpoint(root: Path, run: str) -> bool:
    return any((root / "probes" / run).glob("partial/checkpoint-*/complete"))


def in_training(root: Path) -> psutil.Process:
    """A worker in the middle of a training, which it has saved once."""
    processes: list[psutil.Process] = []

    def look() -> bool:
        assert not all((root / f"probes/{run}/outcome.json").exists() for run in PROBES), (
            "the job ended too soon"
        )
        processes[:] = [
            process for run, process in workers(root).items() if has_a_checkpoint(root, run)
        ]
        return bool(processes)

    wait_for(look)
    return processes[0]


@pytest.fixture(scope="module")
def common(tmp_path_factory: pytest.TempPathFactory) -> tuple[str | Path, ...]:
    """The job, without where it is executed."""
    recipe = mixture(tmp_path_factory.mktemp("mixture") / "a", {"color": 1, "paint": 2})
    return (
        "balance",
        recipe,
        "optimization.epochs=40",  # long enough to lose workers, a node and the driver on the way
        "--workers",
        "2",
        "--threads",
        "1",
        "--keep-checkpoints",
    )


@pytest.fixture(scope="module")
def expected(
    common: tuple[str | Path, ...], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """What it ends with when nobody disturbs it."""
    root = tmp_path_factory.mktemp("whole")
    cotbal(*common, "--out", root, "--on", "processes")
    return bytes_of(root)


def test_a_job_that_loses_workers_a_node_and_its_driver_ends_the_same(
    ray_nodes: RayNodes, common: tuple[str | Path, ...], expected: dict[str, bytes], tmp_path: Path
) -> None:
    root = tmp_path / "disturbed"
    arguments = (*common, "--out", root, "--on", "ray", "--address", ray_nodes.address)
    driver = subprocess.Popen(
        command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    in_training(root).kill()

    worker = in_training(root)
    worker.parent().kill()  # the process of Ray's task
    wait_for(lambda: not worker.is_running())

    wait_for(lambda: len(workers(root)) == 2)  # one per node, of which each has one GPU
    before = set(workers(root).values())
    ray_nodes.lose()
    wait_for(lambda: not before <= set(workers(root).values()))

    in_training(root)
    driver.kill()
    driver.wait()
    wait_for(lambda: not workers(root))

    ray_nodes.add()
    cotbal(*arguments)
    assert bytes_of(root) == expected


def test_a_job_that_loses_the_head_reports_it_and_resumes_with_another(
    ray_nodes: RayNodes, common: tuple[str | Path, ...], expected: dict[str, bytes], tmp_path: Path
) -> None:
    root = tmp_path / "disturbed"
    arguments = (*common, "--out", root, "--on", "ray", "--address")
    with RayNodes() as lost:
        impatient = {**os.environ, "RAY_gcs_rpc_server_reconnect_timeout_s": "30"}
        driver = subprocess.Popen(
            command(*arguments, lost.address), stderr=subprocess.PIPE, env=impatient, text=True
        )
        in_training(root)
        lost.lose_head()
        errors = driver.communicate(timeout=LIMIT)[1]
        wait_for(lambda: not workers(root))
    assert driver.returncode == 2, errors
    assert names_all(errors, "--on ray", lost.address, "10 seconds", "cotbal balance")
    assert "Traceback" not in errors
    assert not all((root / f"probes/{run}/outcome.json").exists() for run in PROBES)
    cotbal(*arguments, ray_nodes.address)
    assert bytes_of(root) == expected
