"""Whatever a user gets wrong: exit code 2, a message that says what to do, no traceback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cotbal.errors import CotbalError, DataError, RecipeError, RunError, ScoresError
from helpers.commands import Command
from helpers.pipeline_fakes import write_mixture

SCORES = "run,a,b\nmini,0.2,0.3\nfull:a,0.7,0.4\nfull:b,0.3,0.8\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that are wrong in all the usual ways, in the directory that the commands run in."""
    tmp_path = tmp_path_factory.mktemp("errors")
    recipe_path = write_mixture(tmp_path / "mixture")
    good = recipe_path.read_text()
    files = {
        "exists.yaml": "mine",
        "broken.yaml": "name: [",
        "mixture/tab.yaml": "name: a\n\ttasks: {}\n",
        "empty.csv": "",
        "bars.csv": SCORES.replace(",", "|"),
        "typo.yaml": good.replace("optimization:", "optimisation:"),
        "good.csv": SCORES,
        "no_mini.csv": SCORES.replace("mini", "maxi"),
        "broken.csv": SCORES.replace("0.7", "high"),
        "results.csv": "method,a:em\nSTL,0.5\nEW,0.6\n",
        "zero.csv": "method,a:em\nSTL,0\nEW,0.6\n",
        "negative.csv": "method,a:em\nSTL,-2\nEW,-1\n",
        "weights.json": '{"ocr": 1.0}',
        "broken.json": "{",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (recipe_path.parent / "bad_data.yaml").write_text(good.replace("vqa_train", "vqa_trian"))
    (recipe_path.parent / "bad_metric.yaml").write_text(
        good.replace(
            "model:",
            "  extra: {train: vqa_train.jsonl, validation: vqa_validation.jsonl, metric:"
            " exact}\nmodel:",
        )
    )
    lines = (recipe_path.parent / "ocr_train.jsonl").read_text().splitlines(keepends=True)
    (recipe_path.parent / "ocr_damaged.jsonl").write_text(
        "".join([*lines[:5], "{broken\n", *lines[5:]])
    )
    (recipe_path.parent / "damaged.yaml").write_text(good.replace("ocr_train", "ocr_damaged"))
    (tmp_path / "empty").mkdir()
    return tmp_path


RECIPE = "mixture/recipe.yaml"
# Errors of the command line itself; the code is tested here.
OPTIONS = [
    (f"compare {RECIPE} --seeds 0,0", "invalid-option", "--seeds", "'0,0'"),
    (f"compare {RECIPE} --seeds 1.5", "invalid-option", "--seeds", "'1.5'"),
    (f"compare {RECIPE} --seeds 4294967296", "invalid-option", "--seeds", "4294967295"),
    (f"curve {RECIPE} --seeds 0,0", "invalid-option", "--seeds", "'0,0'"),
    (f"ablate {RECIPE} --temperatures 0.5,hot", "invalid-option", "--temperatures", "'0.5,hot'"),
    ("weights --scores good.csv --temperature warm", "invalid-option", "--temperature", "'warm'"),
    ("weights --scores good.csv --temperature 0", "invalid-option", "--temperature", "'0'"),
    (
        "weights --scores good.csv --temperature auto --low 2",
        "invalid-option",
        "--low",
        "--high",
        "2.0",
    ),
    ("import lmms-eval mini=empty --out scores.txt", "invalid-option", "--out", "scores.txt"),
    ("import vlmevalkit empty --out scores.csv", "invalid-option", "RUN=DIRECTORY", "empty"),
    (
        "import vlmevalkit mini=empty mini=empty --out scores.csv",
        "invalid-option",
        "RUN=DIRECTORY",
    ),
    (
        "prepare custom mixture made --metric ocr",
        "invalid-option",
        "--metric",
        "TASK=METRIC",
        "'ocr'",
    ),
    (f"balance {RECIPE} --on slurm --address a:1", "conflicting-options", "--address", "slurm"),
    (f"run {RECIPE} --address a:1", "conflicting-options", "--address", "processes"),
    ("zeroshot mixture --out out", "missing-option", "--python", "lmms-eval"),
    ("zeroshot --out empty", "missing-results", "empty"),
    ("init exists.yaml", "existing-output", "exists.yaml"),
]
# Errors of the rooms below, which test the codes.
INPUTS = [
    ("overall --results none.csv", ScoresError, "none.csv"),
    ("overall --results good.csv", ScoresError, "good.csv", "method,<task>:<metric>", "run,a,b"),
    ("overall --results results.csv --baseline TLA", ScoresError, "STL, EW", "'TLA'"),
    ("overall --results zero.csv", ScoresError, "STL", "a:em (0)"),
    ("overall --results negative.csv", ScoresError, "STL", "a:em (-2)"),
    ("weights --scores good.csv --difficulty precise", ScoresError, "missing solo:a, solo:b"),
    ("weights --scores good.csv --form simple", ScoresError, "base, solo:a"),
    ("weights --scores good.csv --scores no_mini.csv", ScoresError, "missing mini"),
    (f"compare {RECIPE} --methods ew,gradnorm", CotbalError, "'gradnorm'"),
    (f"compare {RECIPE} --methods ew weightings.rlw.window=3", CotbalError, "rlw", "window"),
    (f"plan {RECIPE} weightings.dwa.window=0", CotbalError, "dwa", "window", "found 0"),
    (f"plan {RECIPE} weightings.gradnorm.window=3", CotbalError, "'gradnorm'"),
    (f"curve {RECIPE} --fractions 1/8,half", CotbalError, "--fractions", "'1/8,half'"),
    (f"curve {RECIPE} --fractions 1/8,3/2", CotbalError, "--fractions", "'1/8,3/2'"),
    (f"curve {RECIPE} --fractions 1/2,0.5", CotbalError, "--fractions", "'1/2,0.5'"),
    (f"curve {RECIPE} --fractions=-1/2", CotbalError, "--fractions", "'-1/2'"),
    (f"curve {RECIPE} --on slurmy", CotbalError, "executors", "'slurmy'", "'slurm'"),
    (f"curve {RECIPE} model=null", RecipeError, "recipe.yaml", "`model`"),
    (f"plan {RECIPE} probes.optimization.learning=1", RecipeError, "probes.optimization.learning"),
    (f"plan {RECIPE} probes.model.vision=thawed", RecipeError, "probes.model.vision"),
    (f"plan {RECIPE} balance.seeds=[1,1]", RecipeError, "balance", "seeds", "[1, 1]"),
    ("plan mixture/tab.yaml", RecipeError, "tab.yaml, line 2, column 1", "YAML", "tabs"),
    ("plan mixture", RecipeError, "mixture", "directory"),
    ("plan empty.csv", RecipeError, "empty.csv", "empty file"),
    (
        f"plan {RECIPE} tasks.ocr.metric=exactmatch",
        CotbalError,
        "ocr",
        "metrics",
        "'exactmatch'",
        "'exact_match'",
    ),
    ("weights --scores empty.csv", ScoresError, "empty.csv", "empty file"),
    ("weights --scores bars.csv", ScoresError, "bars.csv", "run|a|b"),
    ("weights --scores empty", ScoresError, "empty", "directory"),
    ("check none.yaml", RecipeError, "none.yaml", "cotbal init"),
    ("check broken.yaml", RecipeError, "broken.yaml, line 1, column 8", "YAML"),
    ("check typo.yaml", RecipeError, "optimisation", "'optimization'"),
    (f"check {RECIPE} epochs", RecipeError, "key=value", "'epochs'"),
    (f"check {RECIPE} optimization.epochs=[", RecipeError, "optimization.epochs=[", "YAML"),
    (f"check {RECIPE} portions.mini=1/0", RecipeError, "portions.mini", "'1/0'"),
    ("plan none.yaml", RecipeError, "none.yaml", "cotbal init"),
    ("plan mixture/bad_data.yaml", DataError, "vqa_trian.jsonl"),
    ("plan mixture/damaged.yaml", DataError, "ocr_damaged.jsonl, record 6", "JSON"),
    ("plan mixture/bad_metric.yaml", CotbalError, "extra", "metrics", "'exact'"),
    (f"plan {RECIPE} --weighting fixd", CotbalError, "weightings", "'fixd'"),
    (f"plan {RECIPE} balance.form=other", RecipeError, "balance.form", "'other'"),
    ("balance typo.yaml", RecipeError, "optimisation", "'optimization'"),
    (f"balance {RECIPE} --on slurmy", CotbalError, "executors", "'slurmy'"),
    (f"balance {RECIPE} --on ./mine.py", CotbalError, "executors", "'./mine.py'"),
    ("balance mixture/bad_data.yaml", DataError, "vqa_trian.jsonl"),
    (f"balance {RECIPE} model=null", RecipeError, "recipe.yaml", "`model`"),
    (f"train {RECIPE}", RunError, "runs/small/weights.json", "cotbal balance", "--weights"),
    (f"train {RECIPE} --weights none.json", CotbalError, "none.json"),
    (f"train {RECIPE} --weights broken.json", CotbalError, "broken.json", "JSON"),
    (f"train {RECIPE} --weights weights.json", CotbalError, "vqa, count"),
    (f"train {RECIPE} --weighting fixd", CotbalError, "weightings", "'fixd'"),
    ("run none.yaml", RecipeError, "none.yaml", "cotbal init"),
    (f"run {RECIPE} --weighting fixd", CotbalError, "weightings", "'fixd'"),
    ("weights --scores none.csv", ScoresError, "none.csv"),
    ("weights --scores no_mini.csv", ScoresError, "missing mini"),
    ("weights --scores broken.csv", ScoresError, "broken.csv, line 3, column 'a'", "'high'"),
    ("status empty", RunError, "empty", "plan.json"),
    ("status none", RunError, "none", "plan.json"),
    ("cancel none", RunError, "none", "plan.json"),
    (f"plan {RECIPE} --gpus 4 resources.gpus=8", CotbalError, "GPUs", "8", "4"),
    (f"plan {RECIPE} --gpus 4 --on slurmy", CotbalError, "executors", "'slurmy'"),
    (f"plan {RECIPE} resources.gpus=3 resources.nodes=2", RecipeError, "resources", "gpus", "3"),
    (
        f"balance {RECIPE} --on processes resources.gpus=2 resources.nodes=2",
        CotbalError,
        "resources.nodes",
        "--on slurm",
    ),
    ("report empty", RunError, "empty", "plan.json"),
    ("report none", RunError, "none", "plan.json"),
    ("demo --size huge", CotbalError, "'huge'"),
    ("prepare pocket somewhere --size huge", CotbalError, "'huge'"),
    ("prepare pocket somewhere --mix odd", CotbalError, "'odd'"),
    ("prepare stamps somewhere --size huge", CotbalError, "size", "'huge'"),
]
# What Typer rejects, what the disk rejects, and what `check` lists in its table.
OTHERS = [
    (f"balance {RECIPE} --workers 0", "--workers"),
    ("weights", "--scores"),
    ("weights --scores good.csv --form other", "--form"),
    ("prepare", "Usage"),
    ("frobnicate", "frobnicate"),
    ("check", "recipe"),
    ("weights --scores good.csv --out good.csv", "good.csv"),
    ("weights --scores good.csv --out good.csv/deeper", "good.csv/deeper"),
    ("check mixture/bad_data.yaml", "vqa_trian.jsonl"),
    ("check mixture/damaged.yaml", "ocr_damaged.jsonl"),
]


@pytest.fixture
def inside(cotbal: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """A command in the folder; none leaves a run behind."""
    monkeypatch.chdir(folder)
    yield cotbal
    written = {path.name for path in (folder / "runs").rglob("*.json")}
    assert not written & {"job.json", "weights.json"}


@pytest.mark.parametrize("case", OPTIONS, ids=lambda case: case[0])
def test_an_invalid_option(inside: Command, case: tuple[str, ...]) -> None:
    line, code, *names = case
    inside(*line.split()).expect(CotbalError, code, *names)


@pytest.mark.parametrize("case", INPUTS, ids=lambda case: case[0])
def test_an_invalid_input(inside: Command, case: tuple[Any, ...]) -> None:
    line, kind, *names = case
    inside(*line.split()).expect(kind, None, *names)


@pytest.mark.parametrize(("line", "name"), OTHERS, ids=[line for line, _ in OTHERS])
def test_other_errors(inside: Command, line: str, name: str) -> None:
    ended = inside(*line.split())
    shown = ended.err + ended.out
    assert (ended.code, ended.error) == (2, None)
    assert name in shown
    assert "Traceback" not in shown


def test_the_message_goes_to_the_error_stream(cotbal: Command) -> None:
    ended = cotbal("check", "none.yaml")
    assert ended.err.startswith("cotbal: none.yaml: ")
    assert ended.out == ""
