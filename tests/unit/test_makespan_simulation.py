"""The simulation of 64 GPUs, on cases whose answer is known by hand."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest

from helpers.scripts import BENCHMARKS, loaded

SCRIPT = BENCHMARKS / "makespan_simulation.py"


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    return loaded(SCRIPT)


def test_without_chance_it_is_the_schedule(simulation: ModuleType) -> None:
    """Longest first: 7 + 2 on one GPU, 4 + 3 on the other. As planned: 3 + 6 beside 4 + 4 + 3."""
    world = simulation.World(gpus=2, a_run=1, spread=0.0, preempted=0.0)
    drawn = simulation.draw([2.0, 3.0, 7.0, 4.0], world, np.random.default_rng(0))
    assert drawn.bound == pytest.approx(8)
    assert drawn.spans["longest first"] == pytest.approx(9)
    drawn = simulation.draw([3.0, 4.0, 6.0, 4.0, 3.0], world, np.random.default_rng(0))
    assert drawn.bound == pytest.approx(10)
    assert drawn.spans["as planned"] == pytest.approx(11)


def test_a_preemption_costs_what_was_not_saved_and_the_delay(simulation: ModuleType) -> None:
    assert simulation.cut(10.0, 0.45, 2.0) == pytest.approx((4.5, 6.0))
    world = simulation.World(gpus=1, a_run=1, spread=0.0, preempted=1.0, checkpoint=2.0, delay=5.0)
    first, rest = simulation.pieces_of([10.0], world, np.random.default_rng(0))
    assert 10 <= first.seconds + rest.seconds <= 12
    assert rest.seconds == pytest.approx(10 - first.seconds // 2 * 2)
    drawn = simulation.draw([10.0], world, np.random.default_rng(0))
    assert drawn.spans["by chance"] == pytest.approx(first.seconds + 5 + rest.seconds)
    assert drawn.bound == drawn.spans["by chance"]


def test_the_plan_is_that_of_the_large_benchmark(simulation: ModuleType) -> None:
    tasks, groups, seeds = (
        simulation.plan(False),
        simulation.plan(True),
        simulation.plan(False, (0, 1)),
    )
    assert [len(planned) for planned in (tasks, groups, seeds)] == [18, 6, 36]
    coco = next(planned for planned in tasks if planned.run.name == "full:COCO")
    minis = next(planned for planned in tasks if planned.run.name == "mini").records
    assert coco.records == minis - 566_747 // 32 + 566_747 // 4
    assert coco.answers == tasks[0].answers > 0


def test_it_prints_its_table() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--draws", "2"], capture_output=True, text=True, check=True
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("| one weight")]
    assert len(lines) == 3 * 6 + 5
    assert {line.count("|") for line in lines} == {8}
