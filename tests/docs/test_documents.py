"""What the documents show works: every command parses, commands of the README and the tutorials
run, every snippet runs.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from cotbal.response import read_prediction
from helpers.parsing import PAGES, ROOT, blocks, name_of, parsed, shown, text_of
from helpers.pipeline_fakes import EXECUTOR, write_mixture
from helpers.shell import script
from helpers.tiny_vlm import build, mixture

README = text_of("README.md")
TABLE = """\
run,vqa,ocr,chart
mini,0.3,0.2,0.1
full:vqa,0.6,0.25,0.2
full:ocr,0.33,0.7,0.15
full:chart,0.36,0.3,0.5
"""


# One unit: a task of a group, and a task that is not balanced.
WEIGHTS = '{"weights": {"group": 1.0}, "tasks": {"color": 0.7, "paint": 1}}'


def run_shell(script: str, cwd: Path) -> str:
    """A bash block as a reader runs it, with `cotbal` on the path; what it prints."""
    program = cwd / "bin" / "cotbal"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m cotbal "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def call(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command in this process; those that train do it with an executor that needs no model."""
    from cotbal.cli.app import main

    trains = command.split()[1] in ("run", "compare", "balance", "train", "response")
    words = [*shlex.split(command), *(["--on", EXECUTOR] if trains else [])]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code, command


def test_the_readme_is_one_screen_and_its_quick_start_short() -> None:
    assert len(README.splitlines()) <= 130
    start = README[README.index("## Quick start") : README.index("## How it works")]
    quick = [*blocks(start, "bash"), *blocks(start, "diff")]
    assert len(quick) == 3
    assert [len(block.splitlines()) for block in quick if len(block.splitlines()) > 8] == []


@pytest.mark.parametrize(
    ("page", "command"),
    [(name_of(page), command) for page in PAGES for command in shown(page.read_text())],
)
def test_every_command_parses(page: str, command: str) -> None:
    parsed(command)


@pytest.mark.parametrize("page", [name_of(page) for page in PAGES])
def test_commands_are_where_the_tests_find_them(page: str) -> None:
    """In bash blocks, not in indented ones."""
    text = re.sub(r"^ *```.*?^ *```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"^    (?:cotbal|pip|python|make) .*", text, re.MULTILINE) == []


@pytest.mark.parametrize("page", [name_of(page) for page in PAGES])
def test_yaml_and_json_blocks_are_valid(page: str) -> None:
    from cotbal.recipe.schema import ResourcesSection

    for block in blocks(text_of(page), "json"):
        json.loads(block)
    for block in blocks(text_of(page), "yaml"):
        content = yaml.safe_load(block)
        if "resources" in content:
            ResourcesSection.model_validate(content["resources"])


@pytest.mark.parametrize("page", [name_of(page) for page in PAGES])
def test_every_make_target_exists(page: str) -> None:
    makefile = text_of("Makefile")
    for target in re.findall(r"`?make ([a-z-]+)`|^make ([a-z-]+)", text_of(page), re.MULTILINE):
        name = target[0] or target[1]
        assert re.search(rf"^{name}:", makefile, re.MULTILINE), f"make {name}"


def test_the_quick_start_from_a_table_runs(tmp_path: Path) -> None:
    start = README[README.index("## Quick start") :]
    run_shell(blocks(start, "bash")[0], tmp_path)


def test_the_quick_start_from_data_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = README[README.index("## Quick start") :]
    init, *others = shown(f"```bash\n{blocks(start, 'bash')[1]}```\n")
    monkeypatch.chdir(tmp_path)
    call(init, monkeypatch)
    (tmp_path / "recipe.yaml").unlink()
    write_mixture(tmp_path)
    assert [command.split()[1] for command in others] == ["check", "plan", "run"]
    for command in others:
        call(command, monkeypatch)
    (page,) = tmp_path.glob("runs/*/report/index.html")
    assert page.stat().st_size > 0


def collator(batch: list[dict]) -> dict:
    import torch

    ids = torch.stack([row["input_ids"] for row in batch])
    return {"input_ids": ids, "labels": ids, "attention_mask": torch.ones_like(ids)}


def token_rows() -> list[dict]:
    import torch

    return [{"input_ids": torch.arange(30, 40), "task": "ab"[i % 2]} for i in range(8)]


def test_the_quick_start_with_a_trainer_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines of the diff after the change, with a real model."""
    from transformers import AutoModelForImageTextToText, TrainingArguments

    monkeypatch.chdir(tmp_path)
    weights = tmp_path / "runs" / "my-mixture" / "weights.json"
    weights.parent.mkdir(parents=True)
    weights.write_text(json.dumps({"weights": {"g": 1.0}, "tasks": {"a": 0.5, "b": 1.5}}))
    (diff,) = blocks(README, "diff")
    after = "\n".join(line[1:] for line in diff.splitlines() if not line.startswith("-"))
    scope = {
        "model": AutoModelForImageTextToText.from_pretrained(build(tmp_path / "vlm")),
        "args": TrainingArguments(str(tmp_path / "out"), max_steps=1, report_to="none"),
        "rows": token_rows(),
        "collator": collator,
    }
    exec(after, scope)
    assert scope["trainer"].state.global_step == 1
    assert scope["trainer"].self_check is not None


def test_the_tutorial_from_a_table_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = text_of("docs/tutorials/weights-from-a-table.md")
    run_shell("\n".join(blocks(page, "bash")), tmp_path)
    monkeypatch.chdir(tmp_path)
    (snippet,) = blocks(page, "python")
    exec(snippet, {})
    assert "'ocr': " in capsys.readouterr().out


@pytest.mark.extended
def test_the_page_on_weights_for_a_goal_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = text_of("docs/steer.md")
    _, *from_a_table = blocks(page, "bash")
    test = [block.startswith("cotbal outcome") for block in from_a_table].index(True)
    run_shell("\n".join(from_a_table[:test]), tmp_path)
    monkeypatch.chdir(tmp_path)
    enter_scores(Path("steered/finals-ocr.csv"), Path("steered/prediction-ocr.json"))
    printed = run_shell("\n".join(from_a_table[test:]), tmp_path)
    (shown,) = [block for block in page.split("```") if block.startswith("\ntask ")]
    assert shown.strip().splitlines() == [line.rstrip() for line in printed.splitlines()[:4]]
    planned = (tmp_path / "trials" / "trials.csv").read_text().splitlines()
    filled_in = (tmp_path / "trials.csv").read_text().splitlines()
    for empty, line in zip(planned[1:], filled_in[1:], strict=True):
        expected = [float(cell) for cell in empty.split(",")[1:5]]
        assert [float(cell) for cell in line.split(",")[:4]] == pytest.approx(expected, abs=6e-4)
    verdict, python = blocks(page, "python")
    exec(verdict, {})
    assert "[True, True, True]" in capsys.readouterr().out
    exec(python, {})
    assert "'ocr': " in capsys.readouterr().out


def enter_scores(table: Path, prediction: Path) -> None:
    """Scores of final models: what was predicted, and noise of 0.3 %."""
    predicted = read_prediction(prediction)["predictions"]
    with table.open(newline="") as file:
        models = list(csv.DictReader(file))
    generator = np.random.default_rng(0)
    for model in models:
        for task, entry in predicted.items():
            change = entry["value"] if model["file"] else 0.0
            model[f"score:{task}"] = f"{0.5 * (1 + (change + generator.normal(0, 0.3)) / 100):.4f}"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(models[0]))
        writer.writeheader()
        writer.writerows(models)


def test_the_page_on_weights_for_a_goal_runs_from_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *_ = blocks(text_of("docs/steer.md"), "bash")
    monkeypatch.chdir(tmp_path)
    write_mixture(tmp_path)
    adapted = first.replace("pocket/recipe.yaml", "recipe.yaml").replace(
        "runs/pocket", "runs/small"
    )
    prepare, *commands = shown(f"```bash\n{adapted}```\n")
    assert prepare.startswith("cotbal prepare pocket pocket")
    for command in commands:
        call(command, monkeypatch)
    assert (tmp_path / "runs/small/final/steer-vqa/outcome.json").exists()


def test_the_tutorial_of_a_first_mixture_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = shown(text_of("docs/tutorials/first-mixture.md"))
    monkeypatch.chdir(tmp_path)
    call(commands[0], monkeypatch)
    (tmp_path / "recipe.yaml").unlink()
    write_mixture(tmp_path)
    for command in commands[1:]:
        call(command, monkeypatch)
    assert list(tmp_path.glob("runs/*/comparison/comparison.json"))


def test_the_tutorial_of_an_own_trainer_runs(tmp_path: Path) -> None:
    from cotbal.training.trainers.self_check import SelfCheck

    rows, snippet = blocks(text_of("docs/tutorials/own-trainer.md"), "python")
    scope: dict = {}
    exec(rows, scope)
    assert {row["task"] for row in scope["rows"]} == {"vqa", "ocr"}
    exec(snippet, scope)
    (tmp_path / "weights.json").write_text(json.dumps({"tasks": {"a": 0.5, "b": 1.5}}))
    checked = scope["train"](
        str(build(tmp_path / "vlm")),
        token_rows(),
        collator,
        tmp_path / "weights.json",
        str(tmp_path / "out"),
    )
    assert isinstance(checked, SelfCheck)


def test_the_constant_answer_of_the_judge_page_is_written(tmp_path: Path) -> None:
    page = text_of("docs/judge.md")
    (line,) = [
        line
        for block in blocks(page, "bash")
        for line in block.splitlines()
        if line.startswith("python ")
    ]
    answers = tmp_path / "runs/chat/probes/mini/generations/conversation.validation.jsonl"
    answers.parent.mkdir(parents=True)
    answers.write_text('{"id": "0", "answer": "A cat."}\n{"id": "1", "answer": ""}\n')
    run_shell(line, tmp_path)
    rows = [json.loads(row) for row in (tmp_path / "constant.jsonl").read_text().splitlines()]
    assert rows == [{"id": number, "answer": "It is a photo."} for number in ("0", "1")]


def test_the_metric_of_the_metrics_page_is_one() -> None:
    (snippet,) = blocks(text_of("docs/metrics.md"), "python")
    scope: dict = {}
    exec(snippet, scope)
    scores = scope["score"](["four 4", "", "about 3"], [["4"], ["4"], ["4"]])
    assert scores.tolist() == [1.0, 0.0, 0.75]
    assert scope["constant_answer"]([["1"], ["3"], ["8"]]) == "3"


def test_the_examples_run(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text(TABLE)
    table = script(ROOT / "examples" / "weights_from_a_csv.py", tmp_path / "scores.csv")
    assert [line.split(":")[0] for line in table.splitlines()] == ["vqa", "ocr", "chart"]
    recipe = mixture(tmp_path / "data", {"color": 1, "paint": 2})
    folder = recipe.parent
    lines = [
        json.dumps({**json.loads(line), "task": task})
        for task in ("color", "paint")
        for line in (folder / "data" / f"{task}_train.jsonl").read_text().splitlines()
    ]
    (tmp_path / "records.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "weights.json").write_text(WEIGHTS)
    printed = script(
        ROOT / "examples" / "own_trainer.py",
        folder / "base",
        tmp_path / "records.jsonl",
        folder / "images",
        tmp_path / "weights.json",
        tmp_path / "out",
        cwd=tmp_path,
    )
    assert "self-check: SelfCheck(task=" in printed


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


@pytest.mark.extended
def test_the_example_of_trl_runs(tmp_path: Path) -> None:
    recipe = mixture(tmp_path, {"color": 1, "paint": 2})
    (tmp_path / "rows.jsonl").write_text(
        "".join(f"{json.dumps(row)}\n" for row in chat_rows(recipe))
    )
    (tmp_path / "weights.json").write_text(WEIGHTS)
    words = ("base", "rows.jsonl", "weights.json", "out")
    printed = script(ROOT / "examples" / "trl_sft.py", *words, cwd=tmp_path)
    assert "self-check: SelfCheck(task=" in printed
    assert (tmp_path / "out" / "model.safetensors").exists()


def test_the_snippet_of_the_trainers_page_trains(tmp_path: Path) -> None:
    from datasets import Dataset

    scope: dict = {}
    (snippet,) = blocks(text_of("docs/trainers.md"), "python")
    exec(snippet, scope)
    recipe = mixture(tmp_path / "data", {"color": 1, "paint": 2})
    rows = Dataset.from_list([{**row, "images": []} for row in chat_rows(recipe)])
    (tmp_path / "weights.json").write_text(WEIGHTS)
    trainer = scope["train"](
        str(recipe.parent / "base"), rows, tmp_path / "weights.json", str(tmp_path / "out")
    )
    assert trainer.state.global_step == 9
    assert trainer.self_check is not None
