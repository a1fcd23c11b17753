from __future__ import annotations

import json
from pathlib import Path

import pytest

from cotbal.errors import RunError
from helpers.commands import Command
from helpers.pipeline_fakes import EXECUTOR


@pytest.fixture
def directory(cotbal: Command, recipe_path: Path, tmp_path: Path) -> Path:
    assert cotbal("balance", recipe_path, "--out", tmp_path / "run", "--on", EXECUTOR).code == 0
    return tmp_path / "run"


def test_exit_codes_say_whether_something_differs(
    cotbal: Command, directory: Path, recipe_path: Path
) -> None:
    assert cotbal("verify", directory).code == 0
    scores = directory / "probes/mini/scores/ocr.validation.json"
    scores.write_text("{")
    ended = cotbal("verify", directory)
    assert ended.code == 1
    assert "probes/mini/scores/ocr.validation.json" in ended.out
    assert scores.exists()
    ended = cotbal("verify", directory, "--repair", "--json")
    assert ended.code == 1
    report = json.loads(ended.out)
    assert [entry["file"] for entry in report["differences"]] == [
        "probes/mini/scores/ocr.validation.json"
    ]
    assert report["archived"] == ["probes/mini/scores/ocr.validation.json.old-1"]
    assert cotbal("balance", recipe_path, "--out", directory, "--on", EXECUTOR).code == 0
    assert cotbal("verify", directory).code == 0


def test_no_run_directory(cotbal: Command, tmp_path: Path) -> None:
    cotbal("verify", tmp_path).expect(RunError, "no-run-directory", tmp_path)
