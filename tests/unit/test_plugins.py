from __future__ import annotations

from pathlib import Path

import pytest

from cotbal import plugins
from cotbal.errors import CotbalError
from helpers.errors import raises

PACKAGES = {
    "cotbal.metrics": {"exact_match", "cider", "box_iou"},
    "cotbal.weightings": {"ew", "cotbal", "tla"},
    "cotbal.jobs.executors": {"inline", "processes"},
}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_file_name_is_the_registry(package: str) -> None:
    names = plugins.names(package)
    assert set(names) >= PACKAGES[package]
    assert names == sorted(names)
    for name in names:
        assert plugins.load(package, name).__name__ == f"{package}.{name}"


def test_what_begins_with_an_underscore_is_no_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "some_plugins"
    package.mkdir()
    for name in ("__init__", "_private", "public"):
        (package / f"{name}.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert plugins.names("some_plugins") == ["public"]


def test_a_module_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "own_metrics"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "length.py").write_text("MAXIMUM = 9\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert plugins.load("cotbal.metrics", "own_metrics.length").MAXIMUM == 9


@pytest.mark.parametrize(
    "name",
    [
        "exact_mach",
        "own.nothing",
        "json.nothing",
        "",
        "./mine.py",
        "mine.py",
        "..metrics",
        "two words",
        "a/b",
    ],
)
def test_an_unknown_name_lists_what_there_is(name: str) -> None:
    known = "anls, box_iou, cider, exact_match"
    with raises(CotbalError, "unknown-name", "metrics", known, "dotted path", repr(name)):
        plugins.load("cotbal.metrics", name)


@pytest.mark.parametrize("missing", ["no_such_package", "own", "own_m"])
def test_a_failing_import_inside_a_module_is_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """A user's module that is there, but needs a package that is not, must not be called
    unknown."""
    package = tmp_path / f"own_metrics_without_{missing}"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "length.py").write_text(f"import {missing}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match=f"'{missing}'"):
        plugins.load("cotbal.metrics", f"{package.name}.length")
