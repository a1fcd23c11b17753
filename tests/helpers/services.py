"""Slurm and Ray on this machine, each started once by the test process that has their tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.needs import leave_out
from helpers.ray_nodes import RayDidNotStart, RayNodes
from helpers.slurm_cluster import Cluster


@pytest.fixture(scope="session")
def slurm_cluster() -> Iterator[Cluster]:
    """A Slurm of one node; `helpers.sharing` gives all its tests to one process."""
    directory = Path(
        tempfile.mkdtemp(prefix="slurm-")
    )  # short: the path of a socket has about 100 bytes
    cluster = Cluster(directory)
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(cluster.configuration)
    try:
        start(cluster)
        yield cluster
    finally:
        cluster.stop()
        os.environ.pop("SLURM_CONF")
        if before is not None:
            os.environ["SLURM_CONF"] = before
        shutil.rmtree(directory, ignore_errors=True)


def start(cluster: Cluster) -> None:
    """Its programs are installed; that it starts here is another question."""
    try:
        cluster.start()
    except AssertionError as error:
        leave_out("slurm", f"it is installed, but does not start here: {error}")


@pytest.fixture(scope="session")
def ray_nodes() -> Iterator[RayNodes]:
    """Two nodes of Ray on this machine; `helpers.sharing` gives all their tests to one process."""
    with contextlib.ExitStack() as stack:
        try:
            nodes = stack.enter_context(RayNodes())
        except RayDidNotStart as error:
            leave_out("ray", str(error))
        yield nodes


@pytest.fixture(scope="session")
def connected_to_ray(ray_nodes: RayNodes) -> Iterator[RayNodes]:
    """One connection of this process for many tests, which the executor finds and leaves alone."""
    import ray

    ray.init(ray_nodes.address, log_to_driver=False)
    yield ray_nodes
    ray.shutdown()
