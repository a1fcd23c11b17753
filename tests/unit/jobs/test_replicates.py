"""Replicates of the cheapest probe: trained by the same commands, rows of the score matrix, resumed
from whole sets of probes and by them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cotbal.data.files import read_json, read_jsonl, write_sealed_rows
from cotbal.errors import RunError
from cotbal.jobs import pipeline
from cotbal.jobs.execute import Options
from cotbal.jobs.plan import Prepared
from cotbal.jobs.rescoring import rescore
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.status import status
from cotbal.jobs.weigh import agree, matrices_of, weigh
from cotbal.recipe.recipe import load_recipe
from cotbal.report import write_report
from cotbal.scores.matrix import read_scores
from helpers.errors import raises
from helpers.pipeline_fakes import EXECUTOR, TASKS

OPTIONS = Options(executor=EXECUTOR)
STANDARD = ("mini", *(f"full:{task}" for task in TASKS))
SOLO = tuple(f"{kind}:{task}" for task in TASKS for kind in ("solo", "solo-mini"))
GROUPS = ("tasks.ocr.group=reading", "tasks.vqa.group=reading")


def job(path: Path, *overrides: str) -> Prepared:
    return pipeline.plan(load_recipe(path, overrides), RunDir(path.parent / "run"))


@pytest.mark.parametrize(
    ("overrides", "rows"),
    [
        ((), (*STANDARD, "mini#2", "mini#3")),
        (("balance.replicates=1",), STANDARD),
        (("balance.difficulty=precise",), (*STANDARD, *SOLO, "mini#2", "mini#3")),
        (GROUPS, ("mini", "full:reading", "full:count", "mini#2", "mini#3")),
        (
            ("balance.form=simple", *GROUPS),
            (
                "base",
                "solo:reading",
                "solo-mini:reading",
                "solo:count",
                "solo-mini:count",
                "solo-mini:reading#2",
                "solo-mini:count#2",
                "solo-mini:reading#3",
                "solo-mini:count#3",
            ),
        ),
        (("balance.seeds=[0, 1]",), STANDARD),
        (("balance.seeds=[5]",), (*STANDARD, "mini#2", "mini#3")),
    ],
    ids=["standard", "off", "precise", "groups", "simple", "seeds", "one other seed"],
)
def test_the_score_matrix_holds_the_replicates(
    recipe_path: Path, overrides: tuple[str, ...], rows: tuple[str, ...]
) -> None:
    result = pipeline.balance(job(recipe_path, *overrides), OPTIONS)
    root = RunDir(recipe_path.parent / "run")
    assert read_scores(root.score_table).runs == rows
    assert sum(result.weights.values()) == pytest.approx(len(result.units))
    assert weigh(root).to_json() == result.to_json()
    assert {state.state for state in status(root) if state.kind == "probe"} == {"done"}


def test_a_replicate_is_scored_on_its_own_answers(recipe_path: Path) -> None:
    pipeline.balance(job(recipe_path, "balance.form=simple"), OPTIONS)
    root = RunDir(recipe_path.parent / "run")
    _, (matrix,) = matrices_of(root)
    row = matrix.values[matrix.row("solo-mini:vqa#3")]
    file = root.seeded(2).probe("solo-mini:vqa").scores("vqa", "validation")
    assert row[TASKS.index("vqa")] == read_json(file)["metrics"]["exact_match"]["score"]
    assert np.isnan(np.delete(row, TASKS.index("vqa"))).all()
    first = matrix.samples["vqa"].values[matrix.row("solo-mini:vqa")]
    assert not np.array_equal(matrix.samples["vqa"].values[matrix.row("solo-mini:vqa#3")], first)


def test_a_whole_set_of_probes_finds_its_replicate_done(recipe_path: Path, log: Path) -> None:
    pipeline.balance(job(recipe_path), OPTIONS)
    assert read_jsonl(log).count("mini") == 3
    result = pipeline.balance(job(recipe_path, "balance.seeds=[0, 1]"), OPTIONS)
    done = read_jsonl(log)
    assert done.count("mini") == 3
    assert done.count("full:ocr") == 2
    assert result.seeds == 2
    # And back: what the whole sets trained is not trained again.
    pipeline.balance(job(recipe_path, "balance.replicates=2"), OPTIONS)
    assert read_jsonl(log) == done
    states = {state.run: state.state for state in status(RunDir(recipe_path.parent / "run"))}
    assert states["mini, seed 1"] == states["full:ocr, seed 1"] == "done"


def test_further_replicates_leave_the_others_as_they_are(recipe_path: Path, log: Path) -> None:
    for count in (1, 2, 4):
        pipeline.balance(job(recipe_path, f"balance.replicates={count}"), OPTIONS)
        assert read_jsonl(log).count("mini") == count
        assert read_jsonl(log).count("full:ocr") == 1


def test_a_replicate_that_failed_is_named_and_resumed(
    recipe_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COTBAL_FAKE_FAIL", "mini, seed 2")
    with raises(RunError, "runs-failed", "mini, seed 2"):
        pipeline.balance(job(recipe_path), OPTIONS)
    root = RunDir(recipe_path.parent / "run")
    with raises(RunError, "unfinished-probes", "mini, seed 2"):
        matrices_of(root)
    monkeypatch.setenv("COTBAL_FAKE_FAIL", "")
    done = read_jsonl(log)
    pipeline.balance(job(recipe_path), OPTIONS)
    assert read_jsonl(log)[len(done) :] == ["mini"]


def test_rescoring_scores_the_answers_of_replicates(recipe_path: Path) -> None:
    pipeline.balance(job(recipe_path), OPTIONS)
    root = RunDir(recipe_path.parent / "run")
    paths = root.seeded(1).probe("mini")
    rows = read_jsonl(paths.generations("ocr", "validation"))
    write_sealed_rows(
        paths.generations("ocr", "validation"), [{**row, "answer": "no"} for row in rows]
    )
    rescoring = rescore(root, lambda *_: None)
    (changed,) = (score for score in rescoring.scores if score.before != score.after)
    assert (changed.run, changed.task, changed.after) == ("seed-1/probes/mini", "ocr", 0)
    matrix = read_scores(root.score_table)
    assert matrix.values[matrix.row("mini#2"), matrix.tasks.index("ocr")] == 0


def test_runs_with_and_without_replicates_agree_on_what_they_share(recipe_path: Path) -> None:
    for name, count in (("one", 1), ("three", 3)):
        recipe = load_recipe(recipe_path, [f"balance.replicates={count}"])
        pipeline.balance(pipeline.plan(recipe, RunDir(recipe_path.parent / name)), OPTIONS)
    one, three = (RunDir(recipe_path.parent / name) for name in ("one", "three"))
    agreement = agree(one, three)
    assert agreement.units == TASKS
    shared = read_scores(one.score_table)
    np.testing.assert_array_equal(
        shared.values, read_scores(three.score_table).rows(shared.runs).values
    )


def test_the_report_shows_replicates_as_probes(recipe_path: Path) -> None:
    pipeline.balance(job(recipe_path), OPTIONS)
    page = write_report(recipe_path.parent / "run").read_text(encoding="utf-8")
    assert "mini, seed 1" in page
    assert "mini, seed 2" in page
