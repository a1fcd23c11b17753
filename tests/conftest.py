"""For all tests: shapes are checked, nothing reaches the network, and no cache outlives the
session.
"""

from __future__ import annotations

import gc
import ipaddress
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

pytest_plugins = ["helpers.needs", "helpers.budget", "helpers.sharing", "helpers.services"]

# Before the first import of these modules: every array that goes in or out is held against the
# shape in the signature.
install_import_hook(
    ["cotbal.balance", "cotbal.balance.improvement", "cotbal.loss"], "beartype.beartype"
)

# The same examples every time, and no deadline: a busy machine is no error of the code.
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, database=None, max_examples=60
)
settings.load_profile("repeatable")


def pytest_collection_finish() -> None:
    """What was imported stays. Every training collects garbage, and would visit half a million
    objects of torch and transformers each time, for a quarter of a second.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What this process and every process that a test starts find in their environment."""
    chosen = {
        "COTBAL_CACHE": str(tmp_path_factory.mktemp("cotbal-cache")),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    before = {name: os.environ.get(name) for name in chosen}
    os.environ.update(chosen)
    yield
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


@pytest.fixture(scope="session", autouse=True)
def no_wait_for_the_disk() -> Iterator[None]:
    """No test cuts the power, and what a killed process wrote is there without waiting for the
    disk, which takes half of the time of tests that write many files. Processes that a test starts
    afresh wait; tests of the waiting itself replace `os.fsync`.
    """
    wait = os.fsync

    def check(descriptor: int) -> None:
        os.fstat(descriptor)

    os.fsync = check
    yield
    os.fsync = wait


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """A connection to another machine is an error, so that no test depends on what is out there."""
    connect = socket.socket.connect

    def refuse_strangers(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_this_machine(
            str(address[0])
        ):
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)

    socket.socket.connect = refuse_strangers  # type: ignore[method-assign]
    yield
    socket.socket.connect = connect  # type: ignore[method-assign]


def _is_this_machine(host: str) -> bool:
    """Loopback, or an address that this machine has itself, such as that of Ray's head: others
    cannot be bound.
    """
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        return False
    with socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6) as one:
        try:
            one.bind((str(address), 0))
        except OSError:
            return address.is_loopback
    return True


@pytest.fixture
def forked_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records are measured in a process that is forked from this one, with its imports."""
    from cotbal.data.batches import lengths, row_lengths
    from helpers.forked_modules import forking

    assert row_lengths  # imported before the fork
    monkeypatch.setattr(lengths, "subprocess", forking())
