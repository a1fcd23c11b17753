"""The guards that `tests/conftest.py` sets up do guard."""

from __future__ import annotations

import os
import socket

import jaxtyping
import numpy as np
import pytest

from cotbal.balance.contribution import contribution, outward
from cotbal.balance.improvement import improvement


def test_a_wrong_shape_is_noticed() -> None:
    """Five tasks in the one, four in the other."""
    with pytest.raises(jaxtyping.TypeCheckError):
        contribution(np.zeros((3, 4)), np.zeros(5), np.arange(4), np.ones(4, dtype=bool))


def test_a_wrong_kind_of_number_is_noticed() -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        outward(np.zeros((3, 3), dtype=int))
    with pytest.raises(jaxtyping.TypeCheckError):
        improvement([1.0, 2.0])  # type: ignore[arg-type]


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("example.invalid", 443)])
def test_another_machine_cannot_be_reached(address: tuple[str, int]) -> None:
    with socket.socket() as one, pytest.raises(AssertionError, match="tried to reach"):
        one.connect(address)


def test_this_machine_can_be_reached() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()),
    ):
        pass


def test_records_are_converted_into_a_directory_of_this_session() -> None:
    from cotbal.data.files import default_cache

    assert str(default_cache()) == os.environ["COTBAL_CACHE"]
    assert "pytest" in str(default_cache())
