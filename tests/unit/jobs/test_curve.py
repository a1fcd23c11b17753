"""`curve`: which trainings it needs, what they see, and what they leave on disk."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from cotbal.data.files import read_json, read_jsonl
from cotbal.data.sampling import read_manifest
from cotbal.errors import CotbalError, RunError, RunsFailed
from cotbal.jobs import pipeline
from cotbal.jobs.curve import fractions_of, plan_curve, run_curve
from cotbal.jobs.execute import Options
from cotbal.jobs.plan import Prepared
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.status import status
from cotbal.recipe.recipe import load_recipe
from cotbal.report import write_curve, write_report
from cotbal.report.contents import read_contents
from cotbal.report.curves import DataCurves
from cotbal.report.models import compare_all
from cotbal.report.summary import summary
from cotbal.scores.matrix import read_scores
from helpers.errors import names_all, raises
from helpers.pipeline_fakes import EXECUTOR, TASKS, TRAIN, VALIDATION

OPTIONS = Options(executor=EXECUTOR)
FRACTIONS = ("1/8", "1/2", "1")


def planned(
    path: Path,
    *overrides: str,
    fractions: tuple[str, ...] = FRACTIONS,
    alone: bool = False,
    seeds: tuple[int, ...] = (0,),
) -> Prepared:
    return plan_curve(
        load_recipe(path, overrides), RunDir(path.parent / "run"), fractions, alone, seeds
    )


def curves(prepared: Prepared, options: Options) -> DataCurves:
    run_curve(prepared, options)
    return write_curve(prepared.root.root)


def reported(prepared: Prepared, options: Options) -> tuple[DataCurves, Path]:
    return curves(prepared, options), write_report(prepared.root.root)


def test_fractions_are_put_into_order_and_lowest_terms() -> None:
    assert fractions_of("1,0.5, 2/16,1e-2") == ("1/100", "1/8", "1/2", "1")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "half",
        "0,1",
        "-1/2",
        "1/2,3/2",
        "1/2,0.5",
        "1/0",
        "1/2,,1",
        "nan",
        "1e-40",
        "1e-9999999",
    ],
)
def test_what_is_no_fraction_is_refused(text: str) -> None:
    with raises(CotbalError, "invalid-fractions", "--fractions", repr(text)):
        fractions_of(text)


def test_every_fraction_is_planned_with_its_cost(recipe_path: Path) -> None:
    plan = planned(recipe_path, alone=True, seeds=(0, 3)).plan
    first = [
        *(f"fraction:{a}" for a in FRACTIONS),
        *(f"alone:{task}:{a}" for task in TASKS for a in FRACTIONS),
    ]
    assert [p.label for p in plan.runs] == [*first, *(f"{name}, seed 3" for name in first)]
    assert [p.records for p in plan.runs[:6]] == [3 * 8, 3 * 32, 3 * 64, 8, 32, 64]
    assert [p.answers for p in plan.runs[2:4]] == [3 * VALIDATION, VALIDATION]
    assert plan.runs[2].share == pytest.approx(3 / 4), "the task that is not balanced takes no part"
    cost = 2 * (8 + 32 + 64) * 6 / (4 * TRAIN)
    assert f"{cost:.2f} x" in plan.sentence()
    assert not (recipe_path.parent / "run").exists()


def test_the_runs_see_nested_records_and_the_mini_is_one_of_them(recipe_path: Path) -> None:
    prepared = planned(recipe_path)
    run_curve(prepared, OPTIONS)
    for task in TASKS:
        manifest = read_manifest(prepared.root.portions(task))
        small, half, whole = (set(manifest.of(fraction).tolist()) for fraction in FRACTIONS)
        assert small < half < whole
        assert small == set(manifest.of("mini").tolist())


def test_what_it_leaves_on_disk(recipe_path: Path) -> None:
    prepared = planned(recipe_path, alone=True)
    result, page = reported(prepared, OPTIONS)
    root = prepared.root
    matrix = read_scores(root.curve_table)
    assert matrix.runs[:4] == ("fraction:1/8", "fraction:1/2", "fraction:1", "alone:ocr:1/8")
    assert matrix.tasks == TASKS
    assert np.isnan(matrix.values[3]).tolist() == [False, True, True]
    kept = read_json(root.curve_numbers)["tasks"]["vqa"]
    assert kept["records"] == {"1/8": 8, "1/2": 32, "1": 64}
    cell = matrix.runs.index("alone:vqa:1/2"), 1
    assert kept["alone"]["1/2"]["value"] == pytest.approx(matrix.values[cell])
    assert kept["mixture"]["1/8"]["value"] < kept["mixture"]["1"]["value"]
    assert [curve.task for curve in result.tasks] == list(TASKS)
    job = read_json(root.curve("fraction:1/8").job)
    assert (job["kind"], job["keep_checkpoint"], job["run"]["test"]) == ("curve", False, [])
    assert '<section id="curve">' in page.read_text()
    assert {state.kind for state in status(root)} == {"curve"}
    assert not root.weights.exists()


def test_several_seeds_are_averaged_and_widen_the_intervals(recipe_path: Path) -> None:
    one = curves(planned(recipe_path), OPTIONS)
    prepared = planned(recipe_path, seeds=(0, 1, 2))
    result = curves(prepared, OPTIONS)
    root = prepared.root
    by_seed = [read_scores(root.seeded(seed).curve_table).values for seed in (0, 1, 2)]
    np.testing.assert_allclose(read_scores(root.curve_table).values, np.mean(by_seed, axis=0))
    assert tuple(result.matrices) == (0, 1, 2)
    assert root.seeded(2).curve("fraction:1/2").done
    assert root.curve("fraction:1/2").done, "the recipe's seed lies where it always does"
    for few, several in zip(one.tasks, result.tasks, strict=True):
        widths = [curves.mixture[Fraction(1, 2)].half_width for curves in (few, several)]
        assert widths[0] < widths[1]


def test_an_fraction_is_trained_once_and_the_mini_may_be_set_after_it(
    recipe_path: Path, log: Path
) -> None:
    run_curve(planned(recipe_path), OPTIONS)
    run_curve(
        planned(recipe_path, "portions.mini=1/2", fractions=("1/8", "1/4", "1"), alone=True),
        OPTIONS,
    )
    done = [str(entry) for entry in read_jsonl(log)]
    assert sorted(set(done)) == sorted(done)
    assert len(done) == 4 + 3 * 3
    with raises(RunError, "changed-settings", "optimization.epochs"):
        run_curve(planned(recipe_path, "optimization.epochs=2"), OPTIONS)


def test_probes_and_curve_leave_each_other_alone(recipe_path: Path) -> None:
    """They share a directory: the cost of the probes is still known, and no fraction is taken for a
    probe or a model.
    """
    recipe = load_recipe(recipe_path, ("probes.optimization={learning_rate: 3.0e-3}",))
    prepared = pipeline.plan(recipe, RunDir(recipe_path.parent / "run"), ("ew", "cotbal"))
    root = prepared.root
    result = pipeline.run(prepared, OPTIONS)
    before = read_json(root.plan)["probe_share"]
    run_curve(plan_curve(recipe, root, FRACTIONS, True, (0,)), OPTIONS)
    assert read_json(root.plan)["probe_share"] == pytest.approx(before) == prepared.plan.probe_share
    assert {state.run for state in status(root)} >= {"mini", "cotbal", "fraction:1", "alone:ocr:1"}
    rates = {
        p: read_json(root.root / p / "job.json")["identity"]
        for p in ("probes/mini", "curve/fraction-1_8")
    }
    assert rates["probes/mini"]["optimization.learning_rate"] == 3e-3
    assert rates["curve/fraction-1_8"]["optimization.learning_rate"] == 2e-5, (
        "fractions are no probes"
    )
    again = pipeline.balance(pipeline.plan(recipe, root), OPTIONS)
    assert again.weights == result.weights
    assert write_report(root.root).read_text().count("<section") == len(SECTIONS)


SECTIONS = (
    "summary",
    "flags",
    "weights",
    "parts",
    "contribution",
    "difficulty",
    "scores",
    "final",
    "curve",
    "losses",
    "examples",
    "cost",
    "made",
)


def test_another_metric_is_scored_from_the_answers_that_are_there(
    recipe_path: Path, log: Path
) -> None:
    run_curve(planned(recipe_path), OPTIONS)
    result = curves(planned(recipe_path, "tasks.vqa.metric=cider"), OPTIONS)
    assert [curve.metric for curve in result.tasks] == ["exact_match", "cider", "exact_match"]
    assert len(read_jsonl(log)) == 3


def test_after_a_failure_the_rest_is_kept_and_shown(
    recipe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COTBAL_FAKE_FAIL", "fraction:1/2")
    with raises(RunsFailed, "runs-failed", "fraction:1/2"):
        run_curve(planned(recipe_path), OPTIONS)
    root = RunDir(recipe_path.parent / "run")
    assert {state.run: state.state for state in status(root)}["fraction:1/2"] == "failed"
    page = write_report(root.root).read_text()
    contents = read_contents(root.root)
    (sentence,) = (line for line in summary(contents, compare_all(contents)) if "2 " in line)
    assert names_all(sentence, 2, 3)
    assert sentence in page
    monkeypatch.delenv("COTBAL_FAKE_FAIL")
    result = curves(planned(recipe_path), OPTIONS)
    assert len(result.fractions) == 3
