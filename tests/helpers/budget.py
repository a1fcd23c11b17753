"""CPU seconds of every test file, held against the committed `tests/durations.json`.

CPU time of the test processes and of the processes that they waited for: on a shared machine, wall
clock time says little. A file that exceeds its budget fails the run. `pytest --record-durations`
records the files that ran.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

RECORDED = Path(__file__).parents[1] / "durations.json"
# Within the floor: an import of torch and transformers, and fixtures that several files share.
FLOOR, FACTOR = 120.0, 3.0
WORTH_RECORDING = 1.0
TITLE = "test files over their budget"


class Budget:
    """The CPU seconds of this process, and of every file whose reports this process gets."""

    def __init__(self, recorded: Mapping[str, float]) -> None:
        self.recorded = recorded
        self.spent: dict[str, float] = defaultdict(float)
        self._before = cpu_seconds()

    def pytest_collection_finish(self) -> None:
        """What was imported to collect the tests belongs to no file."""
        self._before = cpu_seconds()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, Any, Any]:
        """A report of one phase of a test carries what was spent since the report before."""
        report = yield
        now = cpu_seconds()
        report.cpu_seconds, self._before = now - self._before, now
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Reports of other processes (pytest-xdist) come by here, too."""
        self.spent[report.nodeid.partition("::")[0]] += getattr(report, "cpu_seconds", 0.0)

    def over(self) -> list[str]:
        """One line per file that exceeded its budget."""
        return [
            f"{file}: {seconds:.0f} s of CPU time, budget {budget(self.recorded, file):.0f} s"
            for file, seconds in sorted(self.spent.items())
            if seconds > budget(self.recorded, file)
        ]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail the run, or record what it took."""
        options = session.config.option
        if options.record_durations:
            partial = bool(options.markexpr or options.keyword)
            write(RECORDED, self.recorded, self.spent, partial)
        elif self.over() and not session.exitstatus:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(tryfirst=True)
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter, config: pytest.Config
    ) -> None:
        """Name the files, and what to do."""
        if config.getoption("record_durations") or not self.over():
            return
        terminalreporter.section(TITLE, sep="=", red=True, bold=True)
        for line in self.over():
            terminalreporter.write_line(line, red=True)
        terminalreporter.write_line(
            "Make them cheaper; or, where the time is well spent, run `pytest FILE"
            " --record-durations` and commit tests/durations.json."
        )


_forking: dict[int, psutil.Process] = {}


def count_children_of(pid: int) -> None:
    """Count the CPU time of a process that lives on, and of those that it starts."""
    if pid not in _forking:
        _forking[pid] = psutil.Process(pid)


def cpu_seconds() -> float:
    """Of this process, of its children that ended, and of the processes that are to be counted."""
    times = [os.times(), *(process.cpu_times() for process in _forking.values())]
    return sum(t.user + t.system + t.children_user + t.children_system for t in times)


def budget(recorded: Mapping[str, float], file: str) -> float:
    """CPU seconds that a file may take."""
    return FLOOR + FACTOR * recorded.get(file, 0.0)


def write(
    path: Path, recorded: Mapping[str, float], spent: Mapping[str, float], partial: bool
) -> None:
    """Record the files that ran, without quick files and files that are gone.

    Where only some tests of a file ran (`-m`, `-k`), what is recorded of it can only grow.
    """
    known = dict(recorded)
    for file, seconds in spent.items():
        least = known.get(file, 0.0) if partial else 0.0
        known[file] = max(round(seconds, 1), least)
    root = path.parents[1]
    kept = {
        file: known[file]
        for file in sorted(known)
        if known[file] >= WORTH_RECORDING and (root / file).is_file()
    }
    path.write_text(json.dumps(kept, indent=1) + "\n")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--record-durations",
        action="store_true",
        help="write tests/durations.json for the files that ran",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Budget(json.loads(RECORDED.read_text())), "budget")
