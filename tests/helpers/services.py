"""Slurm and Ray on this machine, each started once by the test process that has their tests, and
stopped after the last of them: an idle cluster takes CPU time from all tests that follow.
"""

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
from helpers.sharing import scope
from helpers.slurm_cluster import Cluster

_running: dict[str, contextlib.ExitStack] = {}


@contextlib.contextmanager
def until_its_last_test(service: str) -> Iterator[contextlib.ExitStack]:
    """What stops a service of this process, after its last test or at the end of the session."""
    with contextlib.ExitStack() as stack:
        _running[service] = stack
        yield stack


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    service = scope(item.nodeid)
    if service in _running and service not in map(scope, _later(item, nextitem)):
        _running.pop(service).close()


def _later(item: pytest.Item, nextitem: pytest.Item | None) -> list[str]:
    """Names of tests that this process has yet to run: of several processes, each runs all tests
    of a service in one go, so that the next test is enough.
    """
    if hasattr(item.config, "workerinput"):
        return [nextitem.nodeid] if nextitem else []
    items = item.session.items
    return [other.nodeid for other in items[items.index(item) + 1 :]]


@pytest.fixture(scope="session")
def slurm_cluster() -> Iterator[Cluster]:
    """A Slurm of one node; `helpers.sharing` gives all its tests to one process."""
    directory = Path(
        tempfile.mkdtemp(prefix="slurm-")
    )  # short: the path of a socket has about 100 bytes
    cluster = Cluster(directory)
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(cluster.configuration)

    def stop() -> None:
        cluster.stop()
        os.environ.pop("SLURM_CONF")
        if before is not None:
            os.environ["SLURM_CONF"] = before
        shutil.rmtree(directory, ignore_errors=True)

    with until_its_last_test("slurm") as stack:
        stack.callback(stop)
        start(cluster)
        yield cluster


def start(cluster: Cluster) -> None:
    """Its programs are installed; that it starts here is another question."""
    try:
        cluster.start()
    except AssertionError as error:
        leave_out("slurm", f"it is installed, but does not start here: {error}")


@pytest.fixture(scope="session")
def ray_nodes() -> Iterator[RayNodes]:
    """Two nodes of Ray on this machine; `helpers.sharing` gives all their tests to one process."""
    with until_its_last_test("ray") as stack:
        try:
            nodes = stack.enter_context(RayNodes())
        except RayDidNotStart as error:
            leave_out("ray", str(error))
        yield nodes


@pytest.fixture(scope="session")
def connected_to_ray(ray_nodes: RayNodes) -> RayNodes:
    """One connection of this process for many tests, which the executor finds and leaves alone."""
    import ray

    ray.init(ray_nodes.address, log_to_driver=False)
    _running["ray"].callback(ray.shutdown)
    return ray_nodes
