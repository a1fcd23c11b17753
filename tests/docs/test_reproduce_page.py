"""docs/reproduce.md and examples/academic.sh: commands parse, published numbers are the golden
ones, costs computed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gpu_hours
import reproduce_page
from cotbal.benchmarks.academic.settings import RECIPE as ACADEMIC
from cotbal.benchmarks.chat.settings import RECIPE as CHAT
from cotbal.benchmarks.large.settings import RECIPE as LARGE
from cotbal.benchmarks.zeroshot.columns import COLUMNS, columns_named
from cotbal.jobs.compare import method_names
from cotbal.recipe.recipe import load_recipe
from helpers.parsing import parsed, shown
from helpers.tiny_vlm import mixture

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
SCRIPT = ROOT / "examples" / "academic.sh"
GOLDEN = ROOT / "tests" / "golden" / "data"
TABLES = json.loads((GOLDEN / "paper_tables.json").read_text())["tables"]
LATER = json.loads((GOLDEN / "paper_tables_v3.json").read_text())
INPUTS = json.loads((GOLDEN / "academic_7b_weights.json").read_text())
OWN = "yours"


def dry_run(directory: Path, **variables: str) -> list[str]:
    environment = {**os.environ, "DRY_RUN": "1", "OPENAI_API_KEY": "", **variables}
    done = subprocess.run(
        ["bash", str(SCRIPT)],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert not list(directory.iterdir())
    return done.stdout.splitlines()


def part(name: str) -> list[list[str]]:
    """The rows of a table of the page, its head first."""
    text = re.search(rf"<!-- begin {re.escape(name)} -->\n(.*?)<!-- end", PAGE, re.DOTALL).group(1)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert all(len(row) == len(rows[0]) for row in rows)
    return [rows[0], *rows[2:]]


def published(name: str) -> Iterator[tuple[str, str, str]]:
    """Row, column and published number; every number has an empty cell beside it."""
    head, *rows = part(name)
    for row in rows:
        for column in range(1, len(head), 2):
            assert head[column + 1] == OWN
            assert row[column + 1] == ""
            yield row[0], head[column], row[column]


@pytest.mark.parametrize("command", shown(PAGE))
def test_every_command_of_the_page_parses(command: str, tmp_path: Path) -> None:
    _, parameters = parsed(command)
    check_values(parameters, tmp_path)


def check_values(parameters: dict[str, Any], directory: Path) -> None:
    """What parsing leaves open: methods, columns, fields of the recipe."""
    if "methods" in parameters:
        assert len(method_names(parameters["methods"].split(","))) == 7
    if "columns" in parameters:
        columns_named(parameters["columns"])
    if parameters.get("overrides"):
        recipe = mixture(directory / "data", {"color": 1}, train=2, answers=1)
        load_recipe(recipe, parameters["overrides"])
    for checkpoint in parameters.get("checkpoints") or ():
        method = Path(checkpoint.partition("=")[2]).parent.name
        assert (
            method.partition("-")[0] in gpu_hours.METHODS
        )  # fixed-inward is a row of the ablation


def test_the_page_has_a_command_for_every_table() -> None:
    verbs = [parsed(command)[0] for command in shown(PAGE)]
    assert {
        "balance",
        "compare",
        "ablate",
        "curve",
        "zeroshot",
        "judge",
        "prepare large",
        "prepare chat",
    } <= set(verbs)
    for number in (1, 2, 5, 8, 9, 10, 11, 12):
        assert re.search(rf"^## .*\b{number}\b", PAGE, re.MULTILINE), number
    section = PAGE[PAGE.index("## Table 2") : PAGE.index("## Tables 5")]
    assert [c.name for c in COLUMNS] == re.findall(
        r"^\| ([\w-]+) \| ?[^|]*\|$", section, re.MULTILINE
    )[1:]


def test_no_command_of_the_page_is_unknown_to_the_parser() -> None:
    for wrong in (
        "cotbal compare recipe.yaml --method stl",
        "cotbal prepare acedemic raw out",
        "cotbal curve",
    ):
        with pytest.raises(Exception, match=r"No such|Missing|No such command"):
            parsed(wrong)


def test_what_is_computed_is_in_the_page() -> None:
    assert reproduce_page.written(PAGE) == PAGE


@pytest.mark.parametrize(
    ("names", "table"),
    [
        (("table 1",), "table1"),
        (("table 12, parts", "table 12, temperatures", "table 12, difficulties"), "table12"),
    ],
)
def test_published_results_are_the_golden_ones(names: tuple[str, ...], table: str) -> None:
    values = {(column, row): value for name in names for row, column, value in published(name)}
    rows, metrics = TABLES[table]["rows"], [metric["id"] for metric in TABLES["table1"]["metrics"]]
    for row in rows:
        for metric, value in zip(metrics, row["values"], strict=True):
            assert float(values.pop((row["method"], metric))) == value
        for key, shown_as in (("delta_I", "ΔI, %"), ("delta_E", "ΔE, %")):
            value = values.pop((row["method"], shown_as))
            assert value == "" if not row["printed"] else float(value) == row["printed"][key]
    assert not values


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("fine-tuned, 13B", "fine_tuned_13b"),
        ("zero-shot, 7B", "zero_shot_7b"),
        ("zero-shot, 13B", "zero_shot_13b"),
        ("zero-shot, ablation", "zero_shot_ablation"),
        ("chat", "chat"),
        ("large", "large"),
    ],
)
def test_published_results_of_the_later_version_are_the_golden_ones(name: str, table: str) -> None:
    golden = LATER["tables"][table]
    wanted = {}
    for row in golden["rows"]:
        summary = {"ΔI, %": row["printed"]["delta_I"]} if row["printed"] else {}
        summary |= (
            {"ΔE, %": row["printed"]["delta_E"]} if "delta_E" in (row["printed"] or {}) else {}
        )
        values = dict(zip(golden["columns"], row["values_printed"], strict=True)) | summary
        wanted |= {frozenset((row["method"], key)): value for key, value in values.items()}
    assert {
        frozenset((row, column)): value for row, column, value in published(name) if value
    } == wanted


def test_settings_of_the_later_version_are_those_of_the_recipes_and_commands() -> None:
    settings = LATER["settings"]
    recipes = {"academic": ACADEMIC, "chat": CHAT, "large": LARGE}
    written = {name: recipe.settings("7b") for name, recipe in recipes.items()}
    for benchmark, text in written.items():
        command = re.search(
            rf"cotbal compare {benchmark}/recipe.yaml.* balance.temperature=([\d.]+)", PAGE
        )
        used = command or re.search(r"temperature: ([\d.]+)", text)
        assert float(used.group(1)) == settings["temperature"][benchmark], benchmark
    taus = re.search(r"--temperatures ([\d.,]+)", PAGE).group(1)
    assert sorted(map(float, taus.split(","))) == sorted(settings["temperatures_of_the_ablation"])


def test_published_summaries_are_the_golden_ones() -> None:
    values = {(row, column): float(value) for row, column, value in published("table 5")}
    wanted = {
        (row["method"], shown_as): row["printed"][key]
        for row in TABLES["table5"]["rows"]
        for key, shown_as in (("delta_I", "ΔI, %"), ("delta_E", "ΔE, %"))
    }
    assert values == wanted


@pytest.mark.parametrize(("name", "table"), [("table 10", "table10"), ("table 11", "table11")])
def test_published_weights_are_the_golden_ones(name: str, table: str) -> None:
    values = {(row, column): float(value) for row, column, value in published(name)}
    assert values == {
        (u, row["strategy"]): w for row in TABLES[table]["rows"] for u, w in row["weights"].items()
    }


def test_published_inputs_are_the_golden_ones() -> None:
    values = {(row, column): float(value) for row, column, value in published("inputs of table 10")}
    keys = {
        "outward": "outward_contribution",
        "inward": "inward_contribution",
        "mini / full": "mini_over_full_ratio",
    }
    wanted = {
        (t, c): v
        for c, key in keys.items()
        for t, v in zip(INPUTS["tasks"], INPUTS[key], strict=True)
    }
    assert values == wanted


def test_published_sizes_and_instructions_are_the_golden_ones() -> None:
    head, *rows = part("table 8")
    assert head[2] == OWN
    assert [row[2] for row in rows] == [""] * len(rows)
    wanted = [[r["task"], r["size"], r["instruction"] or "none"] for r in TABLES["table8"]["rows"]]
    assert [[task, size, text] for task, size, _, text in rows] == wanted
    wanted = [[", ".join(r["tasks"]), r["instruction"] or "none"] for r in TABLES["table9"]["rows"]]
    assert part("table 9")[1:] == wanted


def test_the_cost_is_the_formula_of_the_page() -> None:
    """By hand: one training of 1,000 records of one image and 124 tokens of text each."""
    n = re.search(r"\(([\d,]+) for 7B", PAGE).group(1)
    parameters = int(n.replace(",", ""))
    data = {"a": gpu_hours.Data(1_000, 1_000, 33, 33)}
    tokens = 1_000 * (576 + 50 + 33 + 33 + 8)
    flops = 6 * parameters * tokens + 2 * 0.304e9 * 577 * 1_000
    costs = gpu_hours.trained(data, {"a": 1_000}, gpu_hours.MODELS["7B"], 1)
    assert costs.trained == tokens
    assert costs.training == pytest.approx(flops / (312e12 * 0.25 * 3600))
    twice = gpu_hours.trained(data, {"a": 1_000}, gpu_hours.MODELS["7B"], 2)
    assert twice.training == pytest.approx(2 * costs.training)
    assert f"{gpu_hours.MODELS['13B'].parameters:,} for 13B" in PAGE


def test_the_assumed_utilisation_fits_the_time_that_llava_reports() -> None:
    formula, reported = gpu_hours.anchor()
    assert 0.8 < formula / reported < 1.25


def test_costs_follow_from_the_plans() -> None:
    costs = gpu_hours.items()
    sizes = {name: d.records for name, d in gpu_hours.ACADEMIC.items() if d.balanced}
    probes = costs["Table 10: probes and weights, 7B"]
    assert probes.trainings == len(sizes) + 1
    # Every probe j sees all of j and 1/32 of the others, the first one 1/32 of everything: (1 +
    # 7/32) of the mixture.
    whole = sum(n * gpu_hours.ACADEMIC[name].tokens for name, n in sizes.items())
    assert probes.trained == pytest.approx((1 + 7 / 32) * whole, rel=1e-3)
    assert costs["the same with 13B"].training > 1.9 * costs["Table 1: seven methods, 7B"].training
    assert costs["Table 2: zero-shot, six models, 7B"].training == 0


def test_what_test_dev_costs_is_the_formula_of_the_page() -> None:
    """By hand: prompts of an image and 8 tokens of question, answers of 2."""
    n = gpu_hours.MODELS["7B"].parameters
    prompt = (2 * n * (576 + 50 + 8) + 2 * 0.304e9 * 577) / (312e12 * 0.25 * 3600)
    per_answer = prompt + 2 * n * 2 / (312e12 * 0.02 * 3600)
    costs = gpu_hours.items()
    of_table_1, of_table_12 = (
        costs[f"VQAv2 test-dev: seven models of Table {number}, 7B"] for number in (1, 12)
    )
    assert (of_table_1.trainings, of_table_1.training, of_table_1.answers) == (0, 0, 7 * 107_394)
    assert of_table_1.evaluation == pytest.approx(7 * 107_394 * per_answer)
    assert of_table_12 == of_table_1
    assert costs["VQAv2 test-dev: three models, 13B"].answers == 3 * 107_394


def test_the_script_is_bash(tmp_path: Path) -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    assert os.access(SCRIPT, os.X_OK)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {
            "SIZE": "13b",
            "SEEDS": "1,2",
            "RAW": "my data",
            "OPENAI_API_KEY": "x",
            "RESOURCES": "resources.gpus=8",
        },
    ],
)
def test_every_command_of_the_script_parses(tmp_path: Path, variables: dict[str, str]) -> None:
    (tmp_path / "work").mkdir()
    lines = dry_run(tmp_path / "work", **variables)
    of_cotbal = [line for line in lines if line.startswith("cotbal ")]
    assert {line.split()[0] for line in lines} == {"hf", "cotbal", "python3", "lmms/bin/pip"}
    assert [parsed(line)[0] for line in of_cotbal] == [
        "prepare llava-base",
        "prepare academic",
        "check",
        "balance",
        "compare",
        "ablate",
        "curve",
        "zeroshot",
    ]
    for number, line in enumerate(of_cotbal):
        check_values(parsed(line)[1], tmp_path / str(number))
    if variables:
        assert str(parsed(of_cotbal[1])[1]["raw"]) == "my data"
        assert parsed(of_cotbal[4])[1]["overrides"] == [
            "model.checkpoint=llava-1.5-13b-base",
            "resources.gpus=8",
        ]
        assert "runs/academic-13b/seed-1/final/ew/checkpoint" in of_cotbal[-1]
        assert parsed(of_cotbal[-1])[1]["columns"] == "all"


def test_the_script_answers_test_dev_where_its_images_are(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "raw/images/coco/test2015").mkdir(parents=True)
    lines = dry_run(tmp_path / "work", RAW=str(tmp_path / "raw"))
    verb, parameters = parsed(next(line for line in lines if line.startswith("cotbal submission")))
    assert verb == "submission"
    methods = {"ew", "tla", "rlw", "dwa", "igbv1", "cotbal"}
    assert {Path(run).name for run in parameters["runs"]} == methods


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    """Stand-ins for every program: a second run does not fetch or assemble the base again, and a
    error ends it.
    """
    (tmp_path / "bin").mkdir()
    for name in ("cotbal", "hf", "python3"):
        stub = tmp_path / "bin" / name
        stub.write_text(
            '#!/bin/bash\n[[ "$*" == *llava-base* ]] && mkdir -p academic/llava-1.5-7b-base\nif [['
            ' $1 == -m ]]; then mkdir -p lmms/bin; cp "$0" lmms/bin/pip; cp "$0" lmms/bin/python;'
            ' fi\n[[ "$1" != "${FAIL:-}" ]]\n'
        )
        stub.chmod(0o755)
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "HOME": str(tmp_path)}

    def run(**more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [shutil.which("bash") or "bash", str(SCRIPT)],
            cwd=tmp_path,
            env={**environment, **more},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    broken = run(FAIL="compare")
    assert broken.returncode != 0
    assert "cotbal ablate" not in broken.stdout
    again = run()
    assert again.returncode == 0, again.stderr
    assert not re.search(r"^hf |llava-base ", again.stdout, re.MULTILINE)
    assert "cotbal zeroshot" in again.stdout
