"""`cotbal plan --next`: what further runs cost, and how far they would narrow the weights."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest

from cotbal.errors import RunError
from cotbal.jobs import pipeline
from cotbal.jobs.execute import Options
from cotbal.jobs.next_step import Advice, NextStep, advise, expected
from cotbal.jobs.plan import Prepared
from cotbal.jobs.rundir import RunDir
from cotbal.recipe.recipe import load_recipe
from helpers.errors import raises
from helpers.pipeline_fakes import EXECUTOR, TASKS, TRAIN

FINAL = 4 * TRAIN  # records of a final run; `chat` is part of it


def planned(path: Path, *overrides: str, weightings: tuple[str, ...] = ("cotbal",)) -> Prepared:
    return pipeline.plan(load_recipe(path, overrides), RunDir(path.parent / "run"), weightings)


def advice(path: Path, *overrides: str) -> Advice:
    prepared = planned(path, *overrides)
    pipeline.balance(prepared, Options(executor=EXECUTOR, restart_changed=True))
    return advise(prepared)


def steps(advised: Advice) -> dict[str, NextStep]:
    return {step.step: step for step in advised.steps}


def test_every_step_has_the_cost_of_its_runs(recipe_path: Path) -> None:
    by_step = steps(advice(recipe_path))
    assert list(by_step) == ["replicate", "seed", "mini", "samples"]
    mini, probes = 3 * TRAIN // 8, 3 * (TRAIN + 2 * TRAIN // 8)
    assert by_step["replicate"].cost == pytest.approx(mini / FINAL)
    assert by_step["replicate"].change == "balance.replicates=4"
    assert by_step["seed"].cost == pytest.approx(probes / FINAL), "its mini is a replicate already"
    assert by_step["seed"].change == "balance.seeds=[0, 1]"
    larger = 3 * TRAIN // 4 * 3 + 3 * (TRAIN + 2 * TRAIN // 4)
    assert by_step["mini"].cost == pytest.approx(larger / FINAL)
    assert load_recipe(recipe_path, [by_step["mini"].change]).file.portions.mini == Fraction(1, 4)
    assert by_step["samples"].cost == pytest.approx((3 * mini + probes) / FINAL)


def test_the_cost_is_what_the_plan_with_the_change_adds(recipe_path: Path) -> None:
    by_step = steps(advice(recipe_path))
    for step in ("replicate", "seed"):
        after = planned(recipe_path, by_step[step].change).plan
        added = sum(p.share for p in after.runs if p.kind == "probe" and not p.paths.done)
        assert by_step[step].cost == pytest.approx(added)
    for change, step in (("mini", by_step["mini"].change), ("samples", "portions.mini=1/8")):
        assert by_step[change].cost == pytest.approx(planned(recipe_path, step).plan.probe_share)


def test_only_what_the_recipe_can_do_is_offered(recipe_path: Path) -> None:
    several = steps(advice(recipe_path, "balance.seeds=[0, 1]"))
    assert list(several) == ["seed", "mini", "samples"], "several seeds take no replicates"
    assert several["seed"].change == "balance.seeds=[0, 1, 2]"
    small = steps(advice(recipe_path, "portions.mini=1/4", "portions.large=1/2"))
    assert "mini" not in small, "twice the mini is as large as the large portion"


def test_gain_is_what_the_half_width_shrinks_by_per_cost(recipe_path: Path) -> None:
    advised = advice(recipe_path, "balance.bootstrap=2000")
    assert advised.half_width is not None
    for step in advised.steps:
        assert step.half_width is not None
        assert step.gain == pytest.approx((advised.half_width - step.half_width) / step.cost)
        assert set(step.decides) <= set(advised.doubtful) <= set(TASKS)
    assert steps(advised)["samples"].half_width < advised.half_width
    assert not advised.assumed_noise
    assert json.loads(json.dumps(advised.to_json()))["steps"][0]["step"] == "replicate"


def test_the_simple_form_replicates_the_minis_of_all_units(recipe_path: Path) -> None:
    by_step = steps(advice(recipe_path, "balance.form=simple"))
    assert by_step["replicate"].cost == pytest.approx(3 * TRAIN // 8 / FINAL)
    assert by_step["seed"].cost == pytest.approx(3 * TRAIN / FINAL)


def test_without_a_second_training_the_noise_is_assumed(recipe_path: Path) -> None:
    advised = advice(recipe_path, "balance.replicates=1")
    assert advised.assumed_noise
    assert steps(advised)["replicate"].change == "balance.replicates=2"


def test_it_needs_finished_probes(recipe_path: Path) -> None:
    with raises(RunError, "unfinished-probes", "mini, seed 2"):
        advise(planned(recipe_path))


def test_expected_half_widths_before_anything_is_spent(recipe_path: Path) -> None:
    settings = ("balance.bootstrap=1000",)
    widths = [
        expected(planned(recipe_path, *settings, override))
        for override in ("balance.replicates=2", "balance.seeds=[0, 1]", "balance.seeds=[0, 1, 2]")
    ]
    assert None not in widths
    assert widths == sorted(widths, reverse=True)
    grouped = planned(recipe_path, "tasks.ocr.group=g", "tasks.vqa.group=g", *settings)
    assert expected(grouped) != expected(planned(recipe_path, *settings))
    whole = planned(recipe_path)
    finals = [(p.run, p.kind) for p in whole.plan.runs if p.kind == "final"]
    assert expected(pipeline.prepare(whole.recipe, whole.root, finals)) is None
