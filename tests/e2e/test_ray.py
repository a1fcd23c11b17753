"""A job on two nodes of Ray: workers, a node and the driver are killed, and it ends as one that nobody disturbed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from ray_nodes import RayNodes
from shell import LIMIT, command, cotbal
from tiny_vlm import mixture

pytestmark = pytest.mark.xdist_group("ray")
PROBES = ("full-color", "full-paint", "mini")


def bytes_of(root: Path) -> dict[str, bytes]:
    """Everything that must not depend on where the runs were carried out, nor on what happened there."""
    models = [root / "probes" / name / "checkpoint/model.safetensors" for name in PROBES]
    files = [root / "weights.json", root / "balance.json", *models]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def workers(root: Path) -> dict[str, psutil.Process]:
    """The processes that do runs of this directory, by the name of the run."""
    found = {}
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "cotbal.worker" in line and line[-1].startswith(str(root)) and process.status() != psutil.STATUS_ZOMBIE:
            found[Path(line[-1]).parent.name] = process
    return found


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not happened():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def has_a_checkpoint(root: Path, run: str) -> bool:
    return any((root / "probes" / run).glob("partial/checkpoint-*/complete"))


def in_training(root: Path) -> psutil.Process:
    """A worker in the middle of a training, which it has saved once."""
    found: list[psutil.Process] = []

    def look() -> bool:
        assert not all((root / f"probes/{run}/outcome.json").exists() for run in PROBES), "the job ended too soon"
        found[:] = [process for run, process in workers(root).items() if has_a_checkpoint(root, run)]
        return bool(found)

    wait_for(look)
    return found[0]


def test_a_job_that_loses_workers_a_node_and_its_driver_ends_the_same(ray_nodes: RayNodes, tmp_path: Path) -> None:
    recipe = mixture(tmp_path / "a", {"color": 1, "paint": 2})
    common = ("balance", recipe, "optimization.epochs=12", "--workers", "2", "--threads", "1", "--keep-checkpoints")
    cotbal(*common, "--out", tmp_path / "whole", "--on", "processes")
    root = tmp_path / "disturbed"
    arguments = (*common, "--out", root, "--on", "ray", "--address", ray_nodes.address)
    driver = subprocess.Popen(command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    in_training(root).kill()

    worker = in_training(root)
    worker.parent().kill()  # the process of Ray's task
    wait_for(lambda: not worker.is_running())

    wait_for(lambda: len(workers(root)) == 2)  # one a node, of which each has one GPU
    before = set(workers(root).values())
    ray_nodes.lose()
    wait_for(lambda: not before <= set(workers(root).values()))

    in_training(root)
    driver.kill()
    driver.wait()
    wait_for(lambda: not workers(root))

    ray_nodes.add()
    cotbal(*arguments)
    assert bytes_of(root) == bytes_of(tmp_path / "whole")
