from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cotbal.jobs.rundir import RunDir
from cotbal.report import write_report
from helpers.fake_run import fake_run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A finished job; tests only read it."""
    return fake_run(tmp_path_factory.mktemp("finished"))


@pytest.fixture(scope="session")
def replicated(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """The same with three trainings of the mini probe and three seeds of the other models."""
    return fake_run(tmp_path_factory.mktemp("replicated"), replicates=3, seeds=3)


@pytest.fixture(scope="session")
def page(finished: RunDir) -> str:
    """The page of the finished job; `tables.md` lies beside it."""
    return write_report(finished.root).read_text()


@pytest.fixture
def job(finished: RunDir, tmp_path: Path) -> RunDir:
    """A copy of the finished job that a test may change."""
    shutil.copytree(finished.root, tmp_path / "run")
    return RunDir(tmp_path / "run")
