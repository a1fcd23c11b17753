from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotbal.balance.probes import Difficulty, Form
from cotbal.recipe.mixture import Mixture, Task
from cotbal.recipe.runs import (
    Run,
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


DIFFICULTIES: tuple[Difficulty, ...] = get_args(Difficulty)
MIXTURE = Mixture((task("ocr"), task("vqa"), task("chat", balanced=False), task("caption")))
GROUPED = Mixture(
    (
        task("vqa", "questions"),
        task("caption"),
        task("gqa", "questions"),
        task("chat", balanced=False),
    )
)


def named(runs: tuple[Run, ...], name: str) -> Run:
    """The first run of this name."""
    return next(run for run in runs if run.name == name)


def test_one_probe_on_minis_and_one_per_unit() -> None:
    runs = plan_probes(MIXTURE)
    assert [run.name for run in runs] == ["mini", "full:ocr", "full:vqa", "full:caption"]
    assert named(runs, "mini").portions == {"ocr": "mini", "vqa": "mini", "caption": "mini"}
    assert named(runs, "full:vqa").portions == {"ocr": "mini", "vqa": "large", "caption": "mini"}


def test_probes_weigh_equally_and_look_at_the_validation_sets() -> None:
    for run in plan_probes(MIXTURE, seeds=(7,)):
        assert (run.weighting, run.validation, run.test, run.seed) == (
            "ew",
            ("ocr", "vqa", "caption"),
            (),
            7,
        )


def test_a_task_that_is_not_balanced_takes_no_part() -> None:
    assert all("chat" not in run.portions for run in plan_probes(MIXTURE))
    assert final_run(MIXTURE, "cotbal").portions["chat"] == "full"


def test_a_group_is_probed_as_one() -> None:
    runs = plan_probes(GROUPED)
    assert [run.name for run in runs] == ["mini", "full:questions", "full:caption"]
    assert named(runs, "full:questions").portions == {
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
    probes = sum(cost(run, sizes) for run in plan_probes(mixture))
    assert Fraction(probes, cost(final_run(mixture, "ew"), sizes)) == large + tasks * mini


def test_what_is_not_seen_costs_nothing() -> None:
    sizes = {"ocr": {"none": 0, "mini": 1, "large": 5, "full": 9}}
    run = final_run(Mixture((task("ocr"),)), "ew")
    assert cost(run, sizes) == 9
    assert cost(type(run)("x", {"ocr": "none"}, "ew", (), ("ocr",), 0), {"ocr": {}}) == 0


def test_the_simple_form_looks_at_the_base_and_at_models_of_one_unit() -> None:
    runs = plan_probes(GROUPED, "simple")
    assert [run.name for run in runs] == [
        "base",
        "solo:questions",
        "solo-mini:questions",
        "solo:caption",
        "solo-mini:caption",
    ]
    base, solo, small = runs[:3]
    assert (base.portions, base.validation) == ({}, ("vqa", "caption", "gqa"))
    assert solo.portions == {"vqa": "large", "gqa": "large"}
    assert solo.validation == ("vqa", "caption", "gqa"), "what it gives to the others is measured"
    assert (small.portions, small.validation) == ({"vqa": "mini", "gqa": "mini"}, ("vqa", "gqa"))


def test_the_simple_form_costs_large_plus_mini() -> None:
    sizes = {t.name: {"none": 0, "mini": 1, "large": 8, "full": 8} for t in MIXTURE.tasks}
    balanced = 3 * 8
    assert sum(cost(run, sizes) for run in plan_probes(MIXTURE, "simple")) == balanced + 3


def test_precise_difficulty_adds_models_of_one_unit_to_the_probes() -> None:
    runs = plan_probes(MIXTURE, difficulty="precise")
    assert [run.name for run in runs[:4]] == [run.name for run in plan_probes(MIXTURE)]
    assert [run.name for run in runs[4:6]] == ["solo:ocr", "solo-mini:ocr"]
    assert named(runs, "solo:vqa").validation == ("vqa",)


def test_every_seed_has_its_own_probes() -> None:
    runs = plan_probes(MIXTURE, seeds=(3, 1))
    assert [run.seed for run in runs] == [3] * 4 + [1] * 4
    assert named(runs, "mini").seed == 3


def test_replicates_of_the_cheapest_run_have_the_seeds_that_follow() -> None:
    further = plan_probes(MIXTURE, seeds=(5,), replicates=3)[4:]
    assert [(run.name, run.seed) for run in further] == [("mini", 6), ("mini", 7)]
    other_seed = plan_probes(MIXTURE, seeds=(5, 6))
    assert further[0] in other_seed, "a whole set of probes with that seed has it already"


def test_replicates_do_not_depend_on_the_difficulty() -> None:
    real, precise = (
        plan_probes(GROUPED, difficulty=difficulty, replicates=2) for difficulty in DIFFICULTIES
    )
    assert real[-1] == precise[-1] == replace(real[0], seed=1)
    assert len(real) == 1 + 2 + 1
    assert len(precise) == 1 + 2 + 2 * 2 + 1


def test_the_simple_form_replicates_the_minis_of_all_units() -> None:
    further = plan_probes(GROUPED, "simple", replicates=3)[5:]
    assert [(run.name, run.seed) for run in further] == [
        ("solo-mini:questions", 1),
        ("solo-mini:caption", 1),
        ("solo-mini:questions", 2),
        ("solo-mini:caption", 2),
    ]
    assert further[0].validation == ("vqa", "gqa")


@pytest.mark.parametrize("form", ["standard", "simple"])
def test_replicates_of_either_form_cost_as_many_minis(form: Form) -> None:
    sizes = {t.name: {"none": 0, "mini": 3, "large": 8, "full": 8} for t in MIXTURE.tasks}
    one, four = (
        sum(cost(run, sizes) for run in plan_probes(MIXTURE, form, replicates=n)) for n in (1, 4)
    )
    assert four - one == 3 * 3 * 3


def test_several_seeds_take_precedence_over_replicates() -> None:
    assert plan_probes(MIXTURE, seeds=(0, 1), replicates=3) == plan_probes(MIXTURE, seeds=(0, 1))


def test_single_task_models_are_those_of_the_probes_where_they_are_the_same_training() -> None:
    names = [run.name for run in single_task_runs(MIXTURE, whole=True)]
    assert names == ["solo:ocr", "solo:vqa", "solo:caption"]
    assert single_task_runs(MIXTURE, True)[0] in plan_probes(MIXTURE, difficulty="precise")
    assert single_task_runs(MIXTURE, True, "simple")[0] in plan_probes(MIXTURE, "simple")
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
        run.by_fraction for run in (*plan_probes(MIXTURE, "simple"), final_run(MIXTURE, "ew"))
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
