from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from cotbal.jobs.execute import Options, Show
from cotbal.jobs.executors import Job
from helpers.pipeline_fakes import EXECUTOR, write_mixture


@pytest.fixture
def recipe_path(tmp_path: Path) -> Path:
    """A small mixture on disk: three balanced tasks and one that is not."""
    return write_mixture(tmp_path / "mixture")


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Names of the runs that were done, in order."""
    monkeypatch.setenv("COTBAL_FAKE_LOG", str(tmp_path / "log.jsonl"))
    return tmp_path / "log.jsonl"


@pytest.fixture
def batches() -> list[list[str]]:
    """The runs of every call of the executor, which share its workers."""
    return []


@pytest.fixture
def watched(batches: list[list[str]]) -> Options:
    """Options of the fake executor that note what it gets."""

    def watch(
        waiting: Sequence[Job], finished: Sequence[Job], later: int
    ) -> AbstractContextManager[Show]:
        del finished, later
        batches.append([job.name for job in waiting])
        return nullcontext(lambda _outcome: None)

    return Options(executor=EXECUTOR, watch=watch)
