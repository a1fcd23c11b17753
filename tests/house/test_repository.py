"""The rules of the house for files that are no source: what they may name, and what must be in
them.
"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
SETTINGS: dict[str, Any] = tomllib.loads(PROJECT)
MACHINE_PATHS = (
    *(f"/{folder}/" for folder in ("work", "farm", "root", "home", "Users")),
    "C:\\Users",
)
INDEX_HOSTS = (
    "pypi.org",
    "pythonhosted.org",
    "npmjs.org",
    "deb.debian.org",
    "index-url",
    "download.pytorch.org",
)
BINARY = {".safetensors", ".png", ".jpg", ".webp", ".parquet", ".woff2"}


@cache
def tracked() -> dict[Path, list[str]]:
    """Lines of the text files that are, or would be, in the repository, save this one, which names
    what it seeks.
    """
    argv = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(
        argv, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    paths = [
        ROOT / name
        for name in names
        if (ROOT / name).is_file() and (ROOT / name).suffix not in BINARY
    ]
    texts = {
        path: path.read_text(encoding="utf-8", errors="replace")
        for path in paths
        if path != Path(__file__)
    }
    return {path: text.splitlines() for path, text in texts.items()}


@pytest.mark.parametrize("word", MACHINE_PATHS)
def test_no_path_of_a_machine(word: str) -> None:
    assert mentions(word) == []


@pytest.mark.parametrize("word", INDEX_HOSTS)
def test_no_host_of_a_package_index(word: str) -> None:
    """Which index a user installs from is the user's affair."""
    assert mentions(word) == []


def mentions(word: str) -> list[str]:
    lines_with_it = []
    for path, lines in tracked().items():
        for number, line in enumerate(lines, 1):
            if word in line:
                lines_with_it.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    return lines_with_it


def test_no_file_is_heavier_than_it_must_be() -> None:
    names = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    heavy = [
        name
        for name in names
        if (ROOT / name).is_file() and (ROOT / name).stat().st_size > 10 * 2**20
    ]
    assert heavy == []


def test_every_lower_bound_has_its_reason_beside_it() -> None:
    """Every line with a bound (`>=`) ends in a comment."""
    bounds = [
        line for line in PROJECT.splitlines() if re.search(r">=\s*\d", line.partition("#")[0])
    ]
    assert len(bounds) > 10
    assert [line.strip() for line in bounds if not line.partition("#")[2].strip()] == []


def test_every_requirement_has_a_lower_bound_or_says_why_not() -> None:
    project = SETTINGS["project"]
    requirements = project["dependencies"] + [
        r for extra in project["optional-dependencies"].values() for r in extra
    ]
    without = [requirement for requirement in requirements if ">=" not in requirement]
    assert [
        name for name in without if not re.search(rf'"{re.escape(name)}",?\s*#\s*\w+', PROJECT)
    ] == []


def test_the_lower_bound_of_python_is_that_of_the_makefile() -> None:
    assert SETTINGS["project"]["requires-python"] == ">=3.11"
    assert "(3, 11)" in (ROOT / "Makefile").read_text()


def test_the_version_is_in_the_changelog_and_is_the_one_installed() -> None:
    version = SETTINGS["project"]["version"]
    assert importlib.metadata.version("cotbal") == version
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[?{re.escape(version)}\b", changelog, re.MULTILINE), (
        "the newest heading is this version"
    )


def test_warnings_are_errors() -> None:
    assert SETTINGS["tool"]["pytest"]["ini_options"]["filterwarnings"][0] == "error"


def test_no_test_is_skipped_or_expected_to_fail() -> None:
    """The one way to leave a test out is `mark.needs`, which the closing summary reports."""
    marks = ("mark.skip", "mark.xfail", "pytest.skip(", "pytest.xfail(", "importorskip(")
    places = [line for mark in (*marks, "collect_ignore") for line in mentions(mark)]
    inside = [line for line in places if line.startswith("tests/")]
    assert [line for line in inside if not line.startswith("tests/helpers/needs.py:")] == []


def test_helpers_of_tests_are_in_their_package() -> None:
    """Nothing but tests and fixtures is beside it, and no test changes `sys.path`."""
    modules = [path.relative_to(ROOT) for path in tracked() if path.suffix == ".py"]
    beside = [path for path in modules if path.parts[0] == "tests" and path.parts[1] != "helpers"]
    assert [path for path in beside if not re.match(r"test_|conftest", path.name)] == []
    places = [line for line in mentions("sys.path") if line.startswith("tests/")]
    assert [line for line in places if not line.startswith("tests/helpers/shell.py:")] == []


def test_development_wheels_are_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    assert [line for line in lines if line and "==" not in line and not line.startswith("#")] == []
    project = SETTINGS["project"]
    extras = [r for extra in project["optional-dependencies"].values() for r in extra]
    wanted = {re.split(r"[<>=\[ ]", r)[0].lower() for r in project["dependencies"] + extras}
    assert wanted - pinned == set()


def test_torch_comes_only_with_the_extra() -> None:
    names = " ".join(SETTINGS["project"]["dependencies"])
    assert not re.search(r"torch|transformers|peft|accelerate", names)
