"""Every command of docs/zeroshot.md runs, on recorded results and with a stand-in for lmms-eval."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.fake_lmms import RECORDED, interpreter, write_checkpoint
from helpers.parsing import shown

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "zeroshot.md").read_text(encoding="utf-8")
COMMANDS = shown(PAGE)
RENAMED = {"cotbal_textvqa": "textvqa_val", "cotbal_scienceqa": "vqav2_val"}


def harness_outputs(directory: Path) -> None:
    """`out/<run>` of lmms-eval and `outputs/<model>` of VLMEvalKit, under the names that the page
    uses.
    """
    for run, model in (("mini", "EW"), ("ocr", "CoTBal"), ("vqa", "CoTBal")):
        shutil.copytree(RECORDED / model, directory / "out" / run)
        for path in list((directory / "out" / run).rglob("*.json*")):
            name, text = path.name, path.read_text()
            for old, new in RENAMED.items():
                name, text = name.replace(old, new), text.replace(old, new)
            path.unlink()
            path.with_name(name).write_text(text)
    for run, model in (("mini", "LLaVA-mini"), ("ocr", "LLaVA-EW"), ("vet", "LLaVA-EW")):
        for path in (RECORDED.parent / "vlmevalkit" / model).glob("*/*"):
            target = directory / "outputs" / run / path.name.replace(model, run)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)


def test_the_page_shows_commands() -> None:
    assert [command.split()[1] for command in COMMANDS] == [
        "zeroshot",
        "prepare",
        "import",
        "weights",
        "import",
    ]


@pytest.mark.extended
def test_every_command_of_the_page_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    (tmp_path / "lmms" / "bin").mkdir(parents=True)
    interpreter(tmp_path / "lmms" / "bin")
    for method, model in (("ew", "EW"), ("cotbal", "CoTBal")):
        write_checkpoint(tmp_path / "runs" / "academic" / "final" / method / "checkpoint")
        assert f"{model}=runs/academic/final/{method}/checkpoint" in COMMANDS[0]
    write_checkpoint(tmp_path / "llava-1.5-7b-hf")
    harness_outputs(tmp_path)
    for command in COMMANDS:
        done = subprocess.run(
            [sys.executable, "-m", *shlex.split(command)],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    header = (tmp_path / "zeroshot" / "results.csv").read_text().splitlines()[0]
    assert header.startswith("method,TextVQA:accuracy,POPE:f1,")


def test_the_table_of_the_page_is_that_of_the_code() -> None:
    from cotbal.benchmarks.zeroshot.columns import COLUMNS, OTHERS

    rows = re.findall(r"^\| ([\w-]+) \| (`.*?`[^|]*) \| ([^|]*) \|", PAGE, re.MULTILINE)
    shown = {
        name: (tuple(re.findall(r"`(\w+)`", tasks)), tuple(map(int, re.findall(r"\d+", n))))
        for name, tasks, n in rows
    }
    assert shown == {
        column.name: (column.tasks, column.questions) for column in (*COLUMNS, *OTHERS)
    }
