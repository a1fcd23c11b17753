"""Tests that need what is absent are left out loudly, or fail in CI; budgets are kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import sharing
from helpers.needs import NEEDS, TITLE

pytestmark = pytest.mark.extended  # of the suite itself; a change of the library touches none

ROOT = Path(__file__).parents[2]
TESTS = """
import pytest
from helpers.needs import leave_out

@pytest.mark.needs("browser")
@pytest.mark.parametrize("width", [390, 1280])
def test_page(width): pass

@pytest.fixture(scope="session")
def cluster():
    leave_out("ray", "it did not start")

def test_node(cluster): pass

@pytest.mark.needs("real_data")
def test_golden_value(): pass

def test_other(): pass
"""
BURN = """
import subprocess, sys
CODE = "import time\\nwhile time.process_time() < 0.6: pass"

def test_of_a_child(): subprocess.run([sys.executable, "-c", CODE], check=True)
"""
MADE_ONCE = """
import pathlib, pytest

@pytest.fixture(scope="module")
def costly():
    with pathlib.Path("made.txt").open("a") as file: file.write("x")

@pytest.mark.parametrize("number", range(12))
def test_with_it(costly, number): pass
"""
# A cluster that notes how it is.
NODES = """
import contextlib, pathlib, helpers.services

STATE = pathlib.Path("state.txt")

class Nodes(contextlib.ExitStack):
    def __enter__(self):
        STATE.write_text("running")
        self.callback(STATE.write_text, "stopped")
        return self

helpers.services.RayNodes = Nodes
"""
USED = """
import pathlib, pytest

def state(): return pathlib.Path("state.txt").read_text()

@pytest.mark.parametrize("node", ["ray-1", "ray-2"])
def test_with_it(ray_nodes, node): assert state() == "running"

def test_without_it(): assert state() == "STATE"

@pytest.mark.parametrize("node", AGAIN)
def test_again(ray_nodes, node): assert state() == "running"
"""
SMALL = "import helpers.budget\n\nhelpers.budget.FLOOR = 0.5\n"


def suite(
    directory: Path, tests: str, *options: str, plugin: str, ci: str = ""
) -> subprocess.CompletedProcess[str]:
    """A suite of one file, on a machine with Python alone."""
    (directory / "test_one.py").write_text(tests)
    (directory / "pytest.ini").write_text("[pytest]\n")
    environment = {
        "PATH": str(directory),
        "CI": ci,
        "PYTHONPATH": str(ROOT / "tests"),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # of the plugins installed, xdist alone matters
    }
    plugins = ("-p", plugin, "-p", "xdist.plugin", "-p", "no:cacheprovider")
    argv = [sys.executable, "-m", "pytest", *plugins, *options]
    return subprocess.run(
        argv, cwd=directory, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("options", [(), ("-n", "2")])
def test_the_closing_summary_counts_what_was_left_out(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    done = suite(tmp_path, TESTS, *options, plugin="helpers.needs")
    assert done.returncode == 0, done.stdout
    *_, title, browser, ray, data, last = filter(None, done.stdout.splitlines())
    assert TITLE in title
    assert browser.startswith("2 tests: a browser (Chromium): none of chromium, ")
    assert "apt-get install chromium" in browser
    assert {ray.partition(". ")[0], data.partition(". ")[0]} == {
        "1 test: a Ray cluster: it did not start",
        "1 test: public data with golden values: COTBAL_REAL_DATA is not set",
    }
    assert "1 passed, 4 skipped" in last


def test_ci_fails_without_what_it_should_have(tmp_path: Path) -> None:
    done = suite(tmp_path, TESTS, plugin="helpers.needs", ci="true")
    assert done.returncode == 1
    assert "1 passed, 1 skipped, 3 errors" in done.stdout, done.stdout
    assert "a browser (Chromium): none of chromium, chromium-browser, " in done.stdout


@pytest.mark.parametrize("options", [(), ("-n", "2")])
def test_a_file_over_its_budget_fails_the_run(tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "conftest.py").write_text(SMALL)
    done = suite(tmp_path, BURN, *options, plugin="helpers.budget")
    assert done.returncode == 1
    assert "1 passed" in done.stdout
    assert "test_one.py: 1 s of CPU time, budget 0 s" in done.stdout


def test_a_file_within_its_budget_passes(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(SMALL)
    assert suite(tmp_path, "def test_one(): pass", plugin="helpers.budget").returncode == 0


def test_a_file_stays_in_one_process(tmp_path: Path) -> None:
    """So that what its tests share is made once; the marks of xdist alone do not do it in all
    versions.
    """
    done = suite(tmp_path, MADE_ONCE, "-n", "2", plugin="helpers.sharing")
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "made.txt").read_text() == "x"


@pytest.mark.parametrize("options", [(), ("-n", "1")])
def test_a_service_is_stopped_after_its_last_test(tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "conftest.py").write_text(NODES)
    tests = USED.replace("STATE", "stopped").replace("AGAIN", "[]")
    done = suite(tmp_path, tests, *options, plugin="helpers.services")
    assert "3 passed, 1 skipped" in done.stdout, done.stdout


def test_a_service_is_kept_where_a_later_test_needs_it(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(NODES)
    tests = USED.replace("STATE", "running").replace("AGAIN", '["ray-3"]')
    done = suite(tmp_path, tests, plugin="helpers.services")
    assert "4 passed" in done.stdout, done.stdout
    assert (tmp_path / "state.txt").read_text() == "stopped"


def test_a_service_stays_in_one_process() -> None:
    names = [
        "tests/contracts/test_executors.py::test_log[ray]",
        "tests/unit/executors/test_ray.py::test_one",
    ]
    assert {sharing.scope(name) for name in names} == {"ray"}
    other = "tests/contracts/test_executors.py::test_log[inline]"
    assert sharing.scope(other) == "tests/contracts/test_executors.py"


def test_ci_is_set_where_ci_runs_and_names_what_is_absent(tmp_path: Path) -> None:
    lines = (ROOT / ".ci/run").read_text().splitlines()
    assert lines.index("export CI=true") < lines.index("make test") < lines.index("make test-all")
    argv = [sys.executable, ROOT / "tests/helpers/needs.py"]
    environment = {**os.environ, "PATH": str(tmp_path), "CHROMIUM": ""}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    named = [line.partition(":")[0] for line in done.stderr.splitlines()]
    assert named == [NEEDS[name].name for name in ("browser", "slurm", "compiler")]
