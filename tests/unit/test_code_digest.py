from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cotbal.scores.code_digest import code_digest

CODE = {
    "own_code/__init__.py": "",
    "own_code/metric.py": "import json\nfrom . import near\nfrom own_code.far import WORDS\n",
    "own_code/near.py": "def late():\n    import beside\n    from own_code.deep import lower\n",
    "own_code/far.py": "WORDS = {'a': 'b'}\n",
    "own_code/deep/__init__.py": "",
    "own_code/deep/lower.py": "from ..far import WORDS\nfrom ...... import nothing\n",
    "own_code/other.py": "UNUSED = 1\n",
    "beside.py": "import no_such_package\n",
}


@pytest.fixture
def digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The digest of `own_code.metric` with some files changed."""
    monkeypatch.syspath_prepend(tmp_path)

    def changed_digest(**changed: str) -> str:
        for name, text in {**CODE, **changed}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        for name in [name for name in sys.modules if name.partition(".")[0] == "own_code"]:
            monkeypatch.delitem(sys.modules, name)
        importlib.invalidate_caches()
        return code_digest(importlib.import_module("own_code.metric"))

    return changed_digest


@pytest.mark.parametrize("name", sorted(set(CODE) - {"own_code/other.py"}))
def test_whatever_a_module_imports_belongs_to_it(digest: Callable[..., str], name: str) -> None:
    """Also what it imports later, through others, relative to itself or from beside its package."""
    before = digest()
    assert digest(**{name: f"{CODE[name]}\nMORE = 1\n"}) != before
    assert digest() == before


def test_what_is_not_imported_does_not_count(digest: Callable[..., str]) -> None:
    before = digest()
    assert digest(**{"own_code/other.py": "UNUSED = 2\n"}) == before
    assert digest(**{"own_code/far.py": "# The words.\nWORDS = {\n    'a': 'b'\n}\n"}) == before


def test_imports_for_type_checkers_are_not_executed(digest: Callable[..., str]) -> None:
    lines = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from own_code import other\n"
    before = digest(**{"own_code/near.py": lines})
    changed = {"own_code/near.py": lines, "own_code/other.py": "UNUSED = 2\n"}
    assert digest(**changed) == before


def test_the_place_does_not_count(
    digest: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digest()
    (tmp_path / "elsewhere").mkdir()
    for name in ("own_code", "beside.py"):
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    for name in [name for name in sys.modules if name.partition(".")[0] == "own_code"]:
        monkeypatch.delitem(sys.modules, name)
    importlib.invalidate_caches()
    assert code_digest(importlib.import_module("own_code.metric")) == before


def test_code_that_an_import_would_run_is_not_run(digest: Callable[..., str]) -> None:
    digest(**{"beside.py": "raise SystemExit\n", "own_code/deep/__init__.py": "raise SystemExit\n"})
    assert "beside" not in sys.modules


def test_installed_packages_do_not_count(
    digest: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But those that the module itself belongs to do."""
    package = tmp_path / "site-packages" / "installed_code"
    package.mkdir(parents=True)
    monkeypatch.syspath_prepend(package.parent)
    metric = {"own_code/metric.py": "import installed_code.helper\n"}
    digests = []
    for text in ("A = 1\n", "A = 2\n"):
        (package / "__init__.py").write_text("")
        (package / "helper.py").write_text(text)
        monkeypatch.delitem(sys.modules, "installed_code.helper", raising=False)
        monkeypatch.delitem(sys.modules, "installed_code", raising=False)
        importlib.invalidate_caches()
        helper = importlib.import_module("installed_code.helper")
        digests.append((digest(**metric), code_digest(helper)))
    assert digests[0][0] == digests[1][0]
    assert digests[0][1] != digests[1][1]
