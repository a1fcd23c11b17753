"""Whatever a user gets wrong: exit code 2, a message that says what to do, no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

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
        "semicolons.csv": SCORES.replace(",", ";"),
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
PROBLEMS = [
    ("overall --results none.csv", "expected a CSV table of results"),
    ("overall --results good.csv", "expected a header `method,<task>:<metric>,...`"),
    (
        "overall --results results.csv --baseline TLA",
        "expected one of the methods STL, EW; found 'TLA'",
    ),
    ("overall --results zero.csv", "STL: expected scores above 0"),
    ("overall --results negative.csv", "found a:em (-2); leave these columns out"),
    ("weights --scores good.csv --difficulty precise", "missing solo:a, solo:b"),
    ("weights --scores good.csv --form simple", "expected the rows base, solo:a"),
    ("weights --scores good.csv --scores no_mini.csv", "expected the rows mini"),
    (f"compare {RECIPE} --methods ew,gradnorm", "found 'gradnorm'"),
    (f"compare {RECIPE} --seeds 0,0", "--seeds: expected different numbers"),
    (f"compare {RECIPE} --seeds 1.5", "--seeds: expected whole numbers"),
    (
        f"compare {RECIPE} --methods ew weightings.rlw.window=3",
        "rlw: expected no options",
    ),
    (f"plan {RECIPE} weightings.dwa.window=0", "dwa: expected a window"),
    (f"plan {RECIPE} weightings.gradnorm.window=3", "found 'gradnorm'"),
    (
        f"curve {RECIPE} --fractions 1/8,half",
        "--fractions: expected different fractions above 0 and up to 1",
    ),
    (f"curve {RECIPE} --fractions 1/8,3/2", "found '1/8,3/2'"),
    (f"curve {RECIPE} --fractions 1/2,0.5", "--fractions: expected different fractions"),
    (f"curve {RECIPE} --fractions=-1/2", "--fractions: expected different fractions"),
    (f"curve {RECIPE} --seeds 0,0", "--seeds: expected different numbers"),
    (f"curve {RECIPE} --on slurmy", "executors: expected one of"),
    (f"curve {RECIPE} model=null", "section `model`"),
    (f"ablate {RECIPE} --temperatures 0.5,hot", "--temperatures: expected different numbers"),
    (f"plan {RECIPE} probes.optimization.learning=1", "probes.optimization.learning"),
    (f"plan {RECIPE} probes.model.vision=thawed", "probes.model.vision"),
    (f"plan {RECIPE} balance.seeds=[1,1]", "seeds must be different numbers"),
    ("plan mixture/tab.yaml", "tab.yaml, line 2, column 1: not readable as YAML"),
    ("plan mixture/tab.yaml", "indent with spaces, not tabs"),
    ("plan mixture", "found a directory"),
    ("plan empty.csv", "found an empty file"),
    (f"plan {RECIPE} tasks.ocr.metric=exactmatch", "task ocr: metrics: expected one of"),
    (
        f"plan {RECIPE} tasks.ocr.metric=exactmatch",
        "found 'exactmatch'; did you mean 'exact_match'?",
    ),
    ("weights --scores empty.csv", "found an empty file"),
    ("weights --scores semicolons.csv", "columns are parted by commas here, not by ';'"),
    (
        "weights --scores good.csv --out good.csv",
        "good.csv: File exists; expected a directory there",
    ),
    ("weights --scores good.csv --out good.csv/deeper", "good.csv/deeper: Not a directory"),
    ("weights --scores empty", "empty: expected a CSV table of scores; found: Is a directory"),
    ("init exists.yaml", "exists already"),
    ("check none.yaml", "cotbal init"),
    ("check broken.yaml", "not readable as YAML"),
    ("check typo.yaml", "did you mean 'optimization'?"),
    ("check mixture/bad_data.yaml", "vqa_trian.jsonl"),
    ("check mixture/damaged.yaml", "ocr_damaged.jsonl"),
    (f"check {RECIPE} epochs", "expected key=value"),
    (f"check {RECIPE} optimization.epochs=[", "not readable as YAML"),
    (f"check {RECIPE} portions.mini=1/0", "portions.mini"),
    ("plan none.yaml", "cotbal init"),
    ("plan mixture/bad_data.yaml", "vqa_trian.jsonl"),
    ("plan mixture/damaged.yaml", "ocr_damaged.jsonl"),
    ("plan mixture/bad_metric.yaml", "metrics: expected one of"),
    (f"plan {RECIPE} --weighting fixd", "weightings: expected one of"),
    (f"plan {RECIPE} balance.form=other", "balance.form"),
    ("balance typo.yaml", "optimisation: unknown key"),
    (f"balance {RECIPE} --on slurmy", "executors: expected one of"),
    (f"balance {RECIPE} --on ./mine.py", "executors: expected one of"),
    (f"balance {RECIPE} --workers 0", "--workers"),
    ("balance mixture/bad_data.yaml", "vqa_trian.jsonl"),
    (f"balance {RECIPE} model=null", "section `model`"),
    (f"train {RECIPE}", "cotbal balance"),
    (f"train {RECIPE} --weights none.json", "expected weights as JSON"),
    (f"train {RECIPE} --weights broken.json", "expected weights as JSON"),
    (f"train {RECIPE} --weights weights.json", "none for vqa, count"),
    (f"train {RECIPE} --weighting fixd", "weightings: expected one of"),
    ("run none.yaml", "cotbal init"),
    (f"run {RECIPE} --weighting fixd", "weightings: expected one of"),
    ("weights", "--scores"),
    ("weights --scores none.csv", "expected a CSV table of scores"),
    ("weights --scores no_mini.csv", "missing mini"),
    ("weights --scores broken.csv", "expected a finite number; found 'high'"),
    (
        "weights --scores good.csv --temperature warm",
        "--temperature: expected a positive number or auto",
    ),
    (
        "weights --scores good.csv --temperature 0",
        "--temperature: expected a positive number or auto",
    ),
    ("weights --scores good.csv --temperature auto --low 2", "0 < low < 1 < high"),
    ("status empty", "plan.json"),
    ("status none", "plan.json"),
    ("cancel none", "plan.json"),
    (f"plan {RECIPE} --gpus 4 resources.gpus=8", "one needs 8, and there are 4"),
    (f"plan {RECIPE} --gpus 4 --on slurmy", "executors: expected one of"),
    (f"plan {RECIPE} resources.gpus=3 resources.nodes=2", "gpus must be a multiple of nodes"),
    (f"balance {RECIPE} --on processes resources.gpus=2 resources.nodes=2", "--on slurm"),
    ("report empty", "empty"),
    ("report none", "none"),
    ("demo --size huge", "huge"),
    ("prepare pocket somewhere --size huge", "huge"),
    ("prepare stamps somewhere --size huge", "huge"),
    ("prepare", "Usage"),
    ("frobnicate", "No such command"),
    ("check", "Missing argument"),
]


@pytest.mark.parametrize(("line", "message"), PROBLEMS, ids=[line for line, _ in PROBLEMS])
def test_a_problem_is_one_clear_message_and_leaves_no_run_behind(
    cotbal: object, folder: Path, monkeypatch: pytest.MonkeyPatch, line: str, message: str
) -> None:
    monkeypatch.chdir(folder)
    ended = cotbal(*line.split())  # type: ignore[operator]
    told = ended.err + ended.out
    assert ended.code == 2, told
    assert message in " ".join(told.split()), told
    assert "Traceback" not in told
    written = {path.name for path in (folder / "runs").rglob("*.json")}
    assert not written & {"job.json", "weights.json"}


def test_the_message_goes_to_the_error_stream(cotbal: object) -> None:
    ended = cotbal("check", "none.yaml")  # type: ignore[operator]
    assert ended.err.startswith("cotbal: none.yaml: expected a recipe")
    assert ended.out == ""
