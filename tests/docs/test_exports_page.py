"""Every `cotbal` command of docs/exports.md runs, and its table tells of every trainer."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from cotbal import plugins
from helpers.parsing import shown
from helpers.pipeline_fakes import EXECUTOR, write_mixture

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "exports.md").read_text(encoding="utf-8")
COMMANDS = shown(PAGE)
SCORES = """\
run,ocr,vqa,count
mini,0.2,0.3,0.2
full:ocr,0.7,0.4,0.2
full:vqa,0.3,0.8,0.3
full:count,0.2,0.3,0.6
"""


def test_every_command_of_the_page_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cotbal.cli.app import main

    write_mixture(tmp_path)
    (tmp_path / "scores.csv").write_text(SCORES)
    (tmp_path / "weights.json").write_text(json.dumps({"ocr": 0.5, "vqa": 0.8, "count": 1.7}))
    monkeypatch.chdir(tmp_path)
    balance = f"cotbal balance recipe.yaml --on {EXECUTOR}"
    for command in (balance, *COMMANDS):
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code, f"{command}\n{capsys.readouterr()}"
        out = re.search(r"--to .*--out (\S+)", command)
        assert out is None or (tmp_path / out.group(1) / "HOW_TO_RUN.md").is_file()
    assert (tmp_path / "swarm" / "ratios.csv").is_file()


def test_the_page_shows_every_trainer() -> None:
    trainers = {name.replace("_", "-") for name in plugins.names("cotbal.export")}
    shown = {trainer for command in COMMANDS for trainer in re.findall(r"--to (\S+)", command)}
    assert shown == trainers
    assert set(re.findall(r"^\| `(\w[\w-]*)` \|", PAGE, re.MULTILINE)) == trainers


def test_versions_of_the_page_are_those_of_the_code() -> None:
    for name in plugins.names("cotbal.export"):
        version = getattr(plugins.load("cotbal.export", name), "VERSION", "any").removeprefix(
            "commit "
        )
        (row,) = [
            line for line in PAGE.splitlines() if line.startswith(f"| `{name.replace('_', '-')}` |")
        ]
        assert version in row, name
