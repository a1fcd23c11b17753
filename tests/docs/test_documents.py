"""What the documents show must work: every command parses, every snippet runs, every named function
exists.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.shell import cotbal
from helpers.tiny_vlm import build, mixture

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TABLE = """\
run,vqa,ocr,chart
mini,0.3,0.2,0.1
full:vqa,0.6,0.25,0.2
full:ocr,0.33,0.7,0.15
full:chart,0.36,0.3,0.5
"""


# One unit: a task of a group, and a task that is not balanced.
WEIGHTS = '{"weights": {"group": 1.0}, "tasks": {"color": 0.7, "paint": 1}}'


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def commands() -> list[str]:
    return re.findall(r"^    (cotbal [^#\n]+?)\s*(?:#.*)?$", README, re.MULTILINE)


@pytest.mark.parametrize("command", commands())
def test_every_command_of_the_readme_works(command: str, tmp_path: Path) -> None:
    """Runs of a job in one process, since other tests have the executors."""
    if "init" not in command:
        mixture(tmp_path, {"color": 1, "paint": 2})
    (tmp_path / "scores.csv").write_text(TABLE)
    (tmp_path / "results.csv").write_text(
        "method,ocr:exact_match,caption:cider\nSTL,0.5,1.2\nEW,0.6,1.1\n"
    )
    _, verb, *arguments = shlex.split(command)
    trains = verb in ("run", "compare")
    cotbal(verb, *arguments, *(("--on", "inline") if trains else ()), cwd=tmp_path)


def test_every_verb_of_the_table_exists() -> None:
    rows = re.findall(r"^\| ((?:`[^`]+`(?:, )?)+) \|", README, re.MULTILINE)
    verbs = {word.split()[0] for row in rows for word in re.findall(r"`([^`]+)`", row)}
    listed = run("-m", "cotbal", "--help", cwd=ROOT).stdout
    shown = set(re.findall(r"^│ (\w+) ", listed, re.MULTILINE))
    assert shown == verbs - {"stamps", "stamps-base", "large", "chat"}  # of `prepare`


def test_the_snippet_of_the_readme_trains(tmp_path: Path) -> None:
    import torch

    from cotbal.training.trainers.self_check import SelfCheck

    scope: dict = {}
    exec(re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1), scope)
    weights = {"weights": {"group": 1.0}, "tasks": {"a": 0.5, "b": 1.5}}
    (tmp_path / "weights.json").write_text(json.dumps(weights))
    rows = [{"input_ids": torch.arange(30, 40), "task": "ab"[i % 2]} for i in range(8)]

    def collator(batch: list[dict]) -> dict:
        ids = torch.stack([row["input_ids"] for row in batch])
        return {"input_ids": ids, "labels": ids, "attention_mask": torch.ones_like(ids)}

    found = scope["train"](
        str(build(tmp_path / "vlm")),
        rows,
        collator,
        tmp_path / "weights.json",
        str(tmp_path / "out"),
    )
    assert isinstance(found, SelfCheck)


def test_the_examples_run(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text(TABLE)
    table = run(
        str(ROOT / "examples" / "weights_from_a_csv.py"), str(tmp_path / "scores.csv"), cwd=tmp_path
    )
    assert table.returncode == 0, table.stderr
    assert [line.split(":")[0] for line in table.stdout.splitlines()] == ["vqa", "ocr", "chart"]
    recipe = mixture(tmp_path / "data", {"color": 1, "paint": 2})
    folder = recipe.parent
    lines = [
        json.dumps({**json.loads(line), "task": task})
        for task in ("color", "paint")
        for line in (folder / "data" / f"{task}_train.jsonl").read_text().splitlines()
    ]
    (tmp_path / "records.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "weights.json").write_text(WEIGHTS)
    trained = run(
        str(ROOT / "examples" / "own_trainer.py"),
        str(folder / "base"),
        str(tmp_path / "records.jsonl"),
        str(folder / "images"),
        str(tmp_path / "weights.json"),
        str(tmp_path / "out"),
        cwd=tmp_path,
    )
    assert trained.returncode == 0, trained.stderr[-2000:]
    assert "self-check: SelfCheck(task=" in trained.stdout


def chat_rows(recipe: Path) -> list[dict]:
    """The rows of the mixture as TRL wants them."""
    rows = []
    for task in ("color", "paint"):
        for line in (recipe.parent / "data" / f"{task}_train.jsonl").read_text().splitlines():
            record = json.loads(line)
            question, answer = (turn["value"] for turn in record["conversations"])
            prompt = [{"role": "user", "content": question.removeprefix("<image>\n")}]
            completion = [{"role": "assistant", "content": answer}]
            images = [f"images/{record['image']}"]
            rows.append(
                {"images": images, "prompt": prompt, "completion": completion, "task": task}
            )
    return rows


def test_the_example_of_trl_runs(tmp_path: Path) -> None:
    recipe = mixture(tmp_path, {"color": 1, "paint": 2})
    (tmp_path / "rows.jsonl").write_text(
        "".join(f"{json.dumps(row)}\n" for row in chat_rows(recipe))
    )
    (tmp_path / "weights.json").write_text(WEIGHTS)
    done = run(
        str(ROOT / "examples" / "trl_sft.py"),
        "base",
        "rows.jsonl",
        "weights.json",
        "out",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "self-check: SelfCheck(task=" in done.stdout
    assert (tmp_path / "out" / "model.safetensors").exists()


def test_the_snippet_of_the_hosts_page_trains(tmp_path: Path) -> None:
    from datasets import Dataset

    scope: dict = {}
    exec(
        re.search(
            r"```python\n(.*?)```", (ROOT / "docs" / "hosts.md").read_text(), re.DOTALL
        ).group(1),
        scope,
    )
    recipe = mixture(tmp_path / "data", {"color": 1, "paint": 2})
    rows = Dataset.from_list([{**row, "images": []} for row in chat_rows(recipe)])
    (tmp_path / "weights.json").write_text(WEIGHTS)
    trainer = scope["train"](
        str(recipe.parent / "base"), rows, tmp_path / "weights.json", str(tmp_path / "out")
    )
    assert trainer.state.global_step == 9
    assert trainer.self_check is not None


def test_every_function_of_the_equations_page_exists() -> None:
    names = re.findall(r"`(cotbal\.[\w.]+)`", (ROOT / "docs" / "equations.md").read_text())
    assert len(names) >= 12
    for name in names:
        module, _, function = name.rpartition(".")
        assert callable(getattr(importlib.import_module(module), function)), name


def test_the_tree_of_the_architecture_page_is_the_tree() -> None:
    tree = re.search(
        r"    src/cotbal/\n(.*?)\n\n", (ROOT / "docs" / "architecture.md").read_text(), re.DOTALL
    ).group(1)
    listed = set(re.findall(r"^      (\w+(?:\.py|/))", tree, re.MULTILINE))
    package = ROOT / "src" / "cotbal"
    there = {p.name for p in package.glob("*.py")} | {
        f"{p.name}/" for p in package.iterdir() if p.is_dir()
    }
    assert listed == there - {"__init__.py", "__main__.py", "__pycache__/", "py.typed"}


@pytest.mark.parametrize(
    "page", ["README.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text()):
        if target.startswith("https://"):
            continue
        assert ((ROOT / page).parent / target).exists(), target
