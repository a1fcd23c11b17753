"""Which of several test processes (`pytest -n 2`) gets which tests, and in what order.

A file stays in one process, so that its fixtures are made once; so do all tests of a service, which
is started once, and the rules for source files, which are parsed once. Files that take long start
first, so that the processes end together.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

RECORDED = Path(__file__).parents[1] / "durations.json"
SERVICES = ("ray", "slurm")
RULES = "tests/house/"


class ByFile(LoadScopeScheduling):
    """One unit of work per file or service, in the order of collection."""

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)


def scope(nodeid: str) -> str:
    """The file or the service of a test, or RULES."""
    file, _, name = nodeid.partition("::")
    if file.startswith(RULES):
        return RULES
    for service in SERVICES:
        if file.endswith(f"/test_{service}.py") or f"[{service}" in name:
            return service
    return file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return ByFile(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    recorded = json.loads(RECORDED.read_text())
    items.sort(key=lambda item: -recorded.get(item.nodeid.partition("::")[0], 0.0))
