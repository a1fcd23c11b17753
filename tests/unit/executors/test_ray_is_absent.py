"""What `--on ray` says where Ray is not installed, or where no cluster answers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cotbal.errors import CotbalError, MissingDependency
from cotbal.jobs.executors import Job, Resources, ray
from cotbal.recipe.schema import ResourcesSection
from helpers.errors import raises


def jobs(directory: Path) -> list[Job]:
    return [Job("a", directory / "a", (sys.executable, "-c", ""), 1.0, ResourcesSection(gpus=0))]


def test_without_ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with raises(MissingDependency, "missing-dependency", "cotbal[ray]"):
        list(ray.run(jobs(tmp_path), Resources()))


@pytest.mark.needs("ray")
@pytest.mark.parametrize("address", ["127.0.0.1:1", "frog", "ray://127.0.0.1:10001"])
def test_an_address_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str
) -> None:
    import ray as library

    monkeypatch.setattr(
        library, "is_initialized", lambda: False
    )  # as if the tests before had made no connection
    monkeypatch.setattr(library, "shutdown", lambda: None)
    with raises(CotbalError, "no-answer", address):
        list(ray.run(jobs(tmp_path), Resources(address=address)))
