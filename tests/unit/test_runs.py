from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotbal.balance.probes import full_run
from cotbal.recipe.mixture import Mixture, Task
from cotbal.recipe.runs import (
    cost,
    curve_runs,
    final_run,
    place_on_curve,
    plan_probes,
    portion_size,
    seen,
    single_task_runs,
)


def task(name: str, group: str | None = None, balanced: bool = True) -> Task:
    return Task(
        name, Path(f"{name}.jsonl"), Path("v.jsonl"), {}, "exact_match", (), None, group, balanced
    )


MIXTURE = Mixture((task("ocr"), task("vqa"), task("chat", balanced=False), task("caption")))
GROUPED = Mixture(
    (
        task("vqa", "questions"),
        task("caption"),
        task("gqa", "questions"),
        task("chat", balanced=False),
    )
)


def test_one_probe_on_minis_and_one_a_unit() -> None:
    plan = plan_probes(MIXTURE)
    assert [run.name for run in plan.runs] == ["mini", "full:ocr", "full:vqa", "full:caption"]
    assert plan.named("mini").portions == {"ocr": "mini", "vqa": "mini", "caption": "mini"}
    assert plan.named("full:vqa").portions == {"ocr": "mini", "vqa": "large", "caption": "mini"}


def test_probes_weigh_equally_and_look_at_the_validation_sets() -> None:
    for run in plan_probes(MIXTURE, seeds=(7,)).runs:
        assert (run.weighting, run.validation, run.test, run.seed) == (
            "ew",
            ("ocr", "vqa", "caption"),
            (),
            7,
        )


def test_a_task_that_is_not_balanced_takes_no_part() -> None:
    assert all("chat" not in run.portions for run in plan_probes(MIXTURE).runs)
    assert final_run(MIXTURE, "cotbal").portions["chat"] == "full"


def test_a_group_is_probed_as_one() -> None:
    plan = plan_probes(GROUPED)
    assert [run.name for run in plan.runs] == ["mini", "full:questions", "full:caption"]
    assert plan.named("full:questions").portions == {
        "vqa": "large",
        "caption": "mini",
        "gqa": "large",
    }


def test_final_run() -> None:
    run = final_run(MIXTURE, "tla", seed=3)
    assert (run.name, run.weighting, run.seed) == ("tla", "tla", 3)
    assert (run.validation, run.test) == ((), ("ocr", "vqa", "chat", "caption"))
    assert run.portions == dict.fromkeys(("ocr", "vqa", "chat", "caption"), "full")
    assert final_run(MIXTURE, "cotbal", name="cotbal-inter").name == "cotbal-inter"


def test_named() -> None:
    plan = plan_probes(MIXTURE)
    assert plan.named("full:ocr") is plan.runs[1]
    assert full_run("ocr") == "full:ocr"
    with pytest.raises(StopIteration):
        plan.named("full:chat")


@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 50), st.integers(1, 50))
def test_probes_cost_large_plus_tasks_times_mini(
    tasks: int, size: int, first: int, second: int
) -> None:
    """`r_large + T * r_mini` of a final run, where all tasks are balanced; sizes may differ."""
    mini, large = sorted((Fraction(first, 50), Fraction(second, 50)))
    mixture = Mixture(tuple(task(f"t{i}") for i in range(tasks)))
    full = {f"t{i}": 50 * size * (i + 1) for i in range(tasks)}
    sizes = {
        t: {"none": 0, "mini": int(n * mini), "large": int(n * large), "full": n}
        for t, n in full.items()
    }
    probes = sum(cost(run, sizes) for run in plan_probes(mixture).runs)
    assert Fraction(probes, cost(final_run(mixture, "ew"), sizes)) == large + tasks * mini


def test_what_is_not_seen_costs_nothing() -> None:
    sizes = {"ocr": {"none": 0, "mini": 1, "large": 5, "full": 9}}
    run = final_run(Mixture((task("ocr"),)), "ew")
    assert cost(run, sizes) == 9
    assert cost(type(run)("x", {"ocr": "none"}, "ew", (), ("ocr",), 0), {"ocr": {}}) == 0


def test_the_simple_form_looks_at_the_base_and_at_models_of_one_unit() -> None:
    plan = plan_probes(GROUPED, "simple")
    assert [run.name for run in plan.runs] == [
        "base",
        "solo:questions",
        "solo-mini:questions",
        "solo:caption",
        "solo-mini:caption",
    ]
    base, solo, small = plan.runs[:3]
    assert (base.portions, base.validation) == ({}, ("vqa", "caption", "gqa"))
    assert solo.portions == {"vqa": "large", "gqa": "large"}
    assert solo.validation == ("vqa", "caption", "gqa"), "what it gives to the others is measured"
    assert (small.portions, small.validation) == ({"vqa": "mini", "gqa": "mini"}, ("vqa", "gqa"))


def test_the_simple_form_costs_large_plus_mini() -> None:
    sizes = {t.name: {"none": 0, "mini": 1, "large": 8, "full": 8} for t in MIXTURE.tasks}
    balanced = 3 * 8
    assert sum(cost(run, sizes) for run in plan_probes(MIXTURE, "simple").runs) == balanced + 3


def test_precise_difficulty_adds_models_of_one_unit_to_the_probes() -> None:
    plan = plan_probes(MIXTURE, difficulty="precise")
    assert [run.name for run in plan.runs[:4]] == [run.name for run in plan_probes(MIXTURE).runs]
    assert [run.name for run in plan.runs[4:6]] == ["solo:ocr", "solo-mini:ocr"]
    assert plan.named("solo:vqa").validation == ("vqa",)


def test_every_seed_has_its_own_probes() -> None:
    plan = plan_probes(MIXTURE, seeds=(3, 1))
    assert [run.seed for run in plan.runs] == [3] * 4 + [1] * 4
    assert plan.named("mini").seed == 3


def test_single_task_models_are_those_of_the_probes_where_they_are_the_same_training() -> None:
    names = [run.name for run in single_task_runs(MIXTURE, whole=True)]
    assert names == ["solo:ocr", "solo:vqa", "solo:caption"]
    assert single_task_runs(MIXTURE, True)[0] in plan_probes(MIXTURE, difficulty="precise").runs
    assert single_task_runs(MIXTURE, True, "simple")[0] in plan_probes(MIXTURE, "simple").runs
    assert [run.name for run in single_task_runs(GROUPED, True)] == [
        "stl:vqa",
        "solo:caption",
        "stl:gqa",
    ]


def test_single_task_models_see_all_of_their_task_and_answer_its_test() -> None:
    for run, name in zip(
        single_task_runs(MIXTURE, whole=False), ("ocr", "vqa", "caption"), strict=True
    ):
        assert run.name == f"stl:{name}"
        assert (run.portions, run.validation, run.test) == ({name: "full"}, (), (name,))


def test_an_fraction_is_trained_on_all_balanced_tasks_alike() -> None:
    half, whole = curve_runs(MIXTURE, ("1/2", "1"), alone=False, seed=4)
    assert (half.name, whole.name) == ("fraction:1/2", "fraction:1")
    assert half.portions == dict.fromkeys(("ocr", "vqa", "caption"), "1/2")
    assert (half.weighting, half.validation, half.test, half.seed) == (
        "ew",
        ("ocr", "vqa", "caption"),
        (),
        4,
    )
    assert half.by_fraction
    assert not any(
        run.by_fraction for run in (*plan_probes(MIXTURE, "simple").runs, final_run(MIXTURE, "ew"))
    )


def test_alone_every_task_is_trained_on_every_fraction_of_itself() -> None:
    runs = curve_runs(MIXTURE, ("1/2", "1"), alone=True)[2:]
    assert [run.name for run in runs] == [
        f"alone:{t}:{a}" for t in ("ocr", "vqa", "caption") for a in ("1/2", "1")
    ]
    assert (runs[0].portions, runs[0].validation, runs[0].test) == ({"ocr": "1/2"}, ("ocr",), ())


def test_the_name_of_a_run_says_where_on_the_curve_it_stands() -> None:
    runs = curve_runs(MIXTURE, ("1/32", "1"), alone=True)
    places = [place_on_curve(run.name) for run in runs]
    assert places[:3] == [(None, Fraction(1, 32)), (None, 1), ("ocr", Fraction(1, 32))]
    assert len(set(places)) == len(runs)


def test_floor_is_exact() -> None:
    assert portion_size(7, Fraction(3, 7)) == 3
    assert portion_size(10, Fraction(1, 32)) == 1
    assert portion_size(0, Fraction(1, 2)) == 0


def test_records_of_portions_and_fractions() -> None:
    sizes = {"none": 0, "mini": 3, "large": 60, "full": 100}
    assert [seen(sizes, portion) for portion in ("none", "mini", "full", "1/8", "1", "1/1000")] == [
        0,
        3,
        100,
        12,
        100,
        1,
    ]
    run = curve_runs(MIXTURE, ("1/8",), alone=False)[0]
    assert cost(run, dict.fromkeys(run.portions, sizes)) == 3 * 12
