"""What some tests need beyond Python and its packages, and what happens where it is absent.

A test names it: `@pytest.mark.needs("browser")`. Where it is absent, the test is left out and the
closing summary of pytest reports it; with the environment variable CI set, the test fails instead.

    python tests/helpers/needs.py     # one line per need that CI lacks; exit code 1 if there is one
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SLURM = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel")
REAL_DATA = "COTBAL_REAL_DATA"
TITLE = "left out: these tests need what is not on this machine"


@dataclass(frozen=True)
class Need:
    """Something that a machine has or lacks.

    Attributes:
        name: for the summary.
        absent: why it cannot be used here; empty when it is there.
        get: what to do to have it.
        in_ci: whether a test that needs it fails in CI where it is absent.
    """

    name: str
    absent: Callable[[], str]
    get: str
    in_ci: bool = True


def browser() -> str | None:
    """The path of the browser: CHROMIUM if that is set, otherwise the first one on the PATH."""
    chosen = os.environ.get("CHROMIUM")
    return next(filter(None, map(shutil.which, [chosen] if chosen else BROWSERS)), None)


def real_data() -> Path:
    """The folder of public data that COTBAL_REAL_DATA names."""
    folder = Path(os.environ[REAL_DATA])
    assert folder.is_dir(), f"{REAL_DATA}: expected a folder; {folder} is none"
    return folder


def _no_browser() -> str:
    return "" if browser() else f"none of {', '.join(BROWSERS)} is on the PATH"


def _no_slurm() -> str:
    missing = [program for program in SLURM if not shutil.which(program)]
    return f"not on the PATH: {', '.join(missing)}" if missing else ""


def _no_compiler() -> str:
    compilers = [os.environ.get("CXX") or "g++", "clang++"]
    return "" if any(map(shutil.which, compilers)) else "no C++ compiler is on the PATH"


def _no_ray() -> str:
    return "" if importlib.util.find_spec("ray") else "the package ray is not installed"


def _no_real_data() -> str:
    return "" if os.environ.get(REAL_DATA) else f"{REAL_DATA} is not set"


NEEDS = {
    "browser": Need(
        "a browser (Chromium)",
        _no_browser,
        "install it (Debian, Ubuntu: apt-get install chromium), or set CHROMIUM to its path",
    ),
    "slurm": Need(
        "a real Slurm", _no_slurm, "install it (Debian, Ubuntu: apt-get install slurm-wlm munge)"
    ),
    "compiler": Need(
        "a C++ compiler, for torch.compile",
        _no_compiler,
        "install it (Debian, Ubuntu: apt-get install g++)",
    ),
    "ray": Need("a Ray cluster", _no_ray, "pip install ray"),
    "real_data": Need(
        "public data with golden values",
        _no_real_data,
        f"set {REAL_DATA} to a folder with one folder per module of tests/real",
        in_ci=False,
    ),
}


def leave_out(name: str, why: str) -> NoReturn:
    """Skip the test that needs `name`, or fail it in CI.

    A fixture calls it when a service that is installed does not start.
    """
    need = NEEDS[name]
    message = f"{need.name}: {why}. To run them: {need.get}"
    if need.in_ci and os.environ.get("CI"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(name): a key of NEEDS in tests/helpers/needs.py")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            why = NEEDS[name].absent()
            if why:
                leave_out(name, why)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """The last section of all: how many tests were left out, why, and how to run them."""
    yield
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped)
    if reasons:
        terminalreporter.section(TITLE, sep="=", yellow=True, bold=True)
    for reason, number in reasons.most_common():
        terminalreporter.write_line(
            f"{number} {'test' if number == 1 else 'tests'}: {reason}", yellow=True
        )


def main() -> None:
    """Say what CI lacks."""
    absent = {need: need.absent() for need in NEEDS.values() if need.in_ci}
    lines = [f"{need.name}: {why}; {need.get}" for need, why in absent.items() if why]
    print(*lines, sep="\n", end="\n" if lines else "", file=sys.stderr)
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
