from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotbal.mixture import Mixture, Task
from cotbal.runs import cost, final_run, full_run, plan_probes


def task(name: str, group: str | None = None, balanced: bool = True) -> Task:
    return Task(name, Path(f"{name}.jsonl"), Path("v.jsonl"), {}, "exact_match", (), None, group, balanced)


MIXTURE = Mixture((task("ocr"), task("vqa"), task("chat", balanced=False), task("caption")))
GROUPED = Mixture((task("vqa", "questions"), task("caption"), task("gqa", "questions"), task("chat", balanced=False)))


def test_one_probe_on_minis_and_one_a_unit() -> None:
    plan = plan_probes(MIXTURE)
    assert [run.name for run in plan.runs] == ["mini", "full:ocr", "full:vqa", "full:caption"]
    assert plan.mini.portions == {"ocr": "mini", "vqa": "mini", "caption": "mini"}
    assert plan.full("vqa").portions == {"ocr": "mini", "vqa": "large", "caption": "mini"}


def test_probes_weigh_equally_and_look_at_the_validation_sets() -> None:
    for run in plan_probes(MIXTURE, seed=7).runs:
        assert (run.weighting, run.split, run.seed) == ("equal", "validation", 7)


def test_a_task_that_is_not_balanced_takes_no_part() -> None:
    assert all("chat" not in run.portions for run in plan_probes(MIXTURE).runs)
    assert final_run(MIXTURE, "fixed").portions["chat"] == "full"


def test_a_group_is_probed_as_one() -> None:
    plan = plan_probes(GROUPED)
    assert [run.name for run in plan.runs] == ["mini", "full:questions", "full:caption"]
    assert plan.full("questions").portions == {"vqa": "large", "caption": "mini", "gqa": "large"}


def test_final_run() -> None:
    run = final_run(MIXTURE, "task_level", seed=3)
    assert (run.name, run.weighting, run.split, run.seed) == ("task_level", "task_level", "test", 3)
    assert run.portions == dict.fromkeys(("ocr", "vqa", "chat", "caption"), "full")


def test_named() -> None:
    plan = plan_probes(MIXTURE)
    assert plan.named("full:ocr") is plan.full("ocr")
    assert full_run("ocr") == "full:ocr"
    with pytest.raises(StopIteration):
        plan.named("full:chat")


@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 50), st.integers(1, 50))
def test_probes_cost_large_plus_tasks_times_mini(tasks: int, size: int, first: int, second: int) -> None:
    """`r_large + T * r_mini` of a final run, where all tasks are balanced; sizes may differ."""
    mini, large = sorted((Fraction(first, 50), Fraction(second, 50)))
    mixture = Mixture(tuple(task(f"t{i}") for i in range(tasks)))
    full = {f"t{i}": 50 * size * (i + 1) for i in range(tasks)}
    sizes = {t: {"none": 0, "mini": int(n * mini), "large": int(n * large), "full": n} for t, n in full.items()}
    probes = sum(cost(run, sizes) for run in plan_probes(mixture).runs)
    assert Fraction(probes, cost(final_run(mixture, "equal"), sizes)) == large + tasks * mini


def test_what_is_not_seen_costs_nothing() -> None:
    sizes = {"ocr": {"none": 0, "mini": 1, "large": 5, "full": 9}}
    run = final_run(Mixture((task("ocr"),)), "equal")
    assert cost(run, sizes) == 9
    assert cost(type(run)("x", {"ocr": "none"}, "equal", "test", 0), {"ocr": {}}) == 0
