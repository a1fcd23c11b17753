"""Which settings a search measures and chooses, from made-up times."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from cotbal.errors import RunError
from cotbal.jobs.tuning.outcome import Tuned, tuned
from cotbal.jobs.tuning.rows import UNTIMED
from cotbal.jobs.tuning.search import Failed, Measured, Result, Search
from cotbal.jobs.tuning.settings import (
    CHECKPOINTING,
    COMPILE,
    DTYPE,
    MICRO,
    OWN,
    PACKING,
    THREADS,
    WORKERS,
    Changes,
    Space,
    Value,
    named,
)
from helpers.errors import raises

VALUES: dict[str, Value] = {
    MICRO: 8,
    PACKING: False,
    CHECKPOINTING: False,
    COMPILE: False,
    DTYPE: "float32",
    WORKERS: 0,
    THREADS: 1,
}
MEMORY = 1000  # MiB
Times = Callable[[dict[str, Value], int], Result]


def space(**changes: Any) -> Space:
    values = {**VALUES, **changes.pop("values", {})}
    return Space(values, **{"share": 32, "cores": 2, **changes})


def took(seconds: float, once: float = 1.0, loss: float = 2.0, waiting: float = 0.0) -> Measured:
    """Three steps, of which the middle one is the longest for every candidate."""
    steps = (seconds, 2 * seconds, seconds)
    return Measured(steps, once + UNTIMED * seconds, waiting, 500, (2.0, loss))


NO_MEMORY = Failed(True, "worker\nCUDA out of memory")


@dataclass
class Machine:
    """Returns made-up results; `times` receives all values of a candidate and the number of
    measurements before.
    """

    space: Space
    times: Times
    order: list[Changes] = field(default_factory=list)

    def __call__(self, candidates: Sequence[Changes]) -> Iterator[Result]:
        for candidate in candidates:
            result = self.times(dict(self.space.at(candidate).values), len(self.order))
            self.order.append(candidate)
            yield result


def search(
    times: Times, around: Space | None = None, steps: int = 1000, random: bool = False
) -> tuple[Search, Machine]:
    around = around or space()
    machine = Machine(around, times)
    made = Search(around, machine, 3, steps, random)
    made.run()
    return made, machine


def outcome(times: Times, around: Space | None = None, steps: int = 1000) -> Tuned:
    return tuned(search(times, around, steps)[0], MEMORY)


def test_nothing_is_chosen_where_all_take_the_same_time() -> None:
    result = outcome(lambda _, __: took(1.0))
    assert result.overrides == ()
    assert result.ratio is None
    assert result.apart == ()
    assert result.seconds == (1001.0, 1001.0)
    assert {row.ratio.value for row in result.rows[1:] if row.ratio} == {1.0}


def test_a_gain_within_the_noise_is_not_chosen() -> None:
    """Packing is 10 % faster in two of three rounds, and slower in the other."""
    seconds = iter([0.9, 1.1, 0.9] * 9)

    def times(values: dict[str, Value], _: int) -> Result:
        return took(next(seconds) if values[PACKING] else 1.0)

    made, _ = search(times)
    assert made.ratios(((PACKING, True),)) == [0.9, 1.1, 0.9]
    assert made.chosen == OWN


def test_a_gain_of_a_percent_is_not_chosen() -> None:
    assert outcome(lambda values, _: took(0.99 if values[PACKING] else 1.0)).overrides == ()


def test_load_that_comes_and_goes_cancels_within_a_round() -> None:
    """Every round of two processes is slower than the one before, but for both of them."""

    def times(values: dict[str, Value], number: int) -> Result:
        return took((1 + (number + 1) // 2) * (0.8 if values[PACKING] else 1.0))

    made, _ = search(times, space(without=frozenset(VALUES) - {PACKING}))
    assert made.ratios(((PACKING, True),)) == pytest.approx([0.8] * 6)
    assert made.chosen == ((PACKING, True),)


def test_a_slow_first_round_does_not_end_a_candidate_where_the_reference_varies_as_much() -> None:
    seconds = iter([1.5, *[0.8] * 8])

    def times(values: dict[str, Value], number: int) -> Result:
        return took(next(seconds) if values[PACKING] else (1.5 if number == 0 else 1.0))

    made, _ = search(times, space(without=frozenset(VALUES) - {PACKING}))
    assert made.ratios(((PACKING, True),))[:3] == pytest.approx([1.5, 0.8, 0.8])


def test_larger_micro_batches_are_tried_until_memory_ends() -> None:
    """Each doubling saves a fifth; 32 does not fit, so it is tried with recomputed activations."""

    def times(values: dict[str, Value], _: int) -> Result:
        size = int(values[MICRO])
        if size == 32 and not values[CHECKPOINTING]:
            return NO_MEMORY
        return took({4: 1.2, 8: 1.0, 16: 0.8, 32: 0.9}[size])

    made, machine = search(times)
    result = tuned(made, MEMORY)
    assert result.overrides == (f"{MICRO}=16",)
    assert result.ratio is not None
    assert result.ratio.value == pytest.approx(0.8)
    rows = {row.settings: row for row in result.rows}
    assert rows[f"{MICRO}=32"].remark == "out of memory"
    assert rows[f"{MICRO}=32"].seconds is None
    assert rows[f"{MICRO}=16"].remark == "chosen"
    assert not [c for c in machine.order if dict(c).get(MICRO) == 2], "4 is slower than 8"


def test_recomputed_activations_are_tried_where_the_next_size_does_not_fit() -> None:
    def times(values: dict[str, Value], _: int) -> Result:
        size = int(values[MICRO])
        if size > 8 and not values[CHECKPOINTING]:
            return NO_MEMORY
        return took(0.7 if size > 8 else 1.0)

    assert outcome(times).overrides == (f"{CHECKPOINTING}=true", f"{MICRO}=16")


def test_what_does_not_fit_is_replaced_by_what_does() -> None:
    """8 needs too much memory: 4 is the reference, and no time of a run with 8 is claimed."""

    def times(values: dict[str, Value], _: int) -> Result:
        return NO_MEMORY if int(values[MICRO]) > 4 else took(1.0)

    result = outcome(times)
    assert result.reference == f"{MICRO}=4"
    assert result.overrides == (f"{MICRO}=4",)
    assert result.seconds[0] is None
    assert [row.remark for row in result.rows[:2]] == ["out of memory", "reference"]


def test_where_nothing_fits_everything_that_was_tried_is_named() -> None:
    with raises(RunError, "too-little-memory", f"{MICRO}=1", f"{CHECKPOINTING}=true"):
        outcome(lambda _, __: NO_MEMORY)


def test_a_recipe_that_fails_is_an_error_with_its_reason() -> None:
    with raises(RunError, "run-error", "no such layer"):
        outcome(lambda _, __: Failed(False, "no such layer"))


def test_a_candidate_that_fails_is_a_row_with_its_reason() -> None:
    def times(values: dict[str, Value], _: int) -> Result:
        return Failed(False, "log\nno compiler") if values[COMPILE] else took(1.0)

    (row,) = [row for row in outcome(times).rows if row.settings == f"{COMPILE}=true"]
    assert row.remark == "failed: no compiler"
    assert row.ratio is None


def test_gains_are_joined_where_they_add_up() -> None:
    def times(values: dict[str, Value], _: int) -> Result:
        return took((0.8 if values[PACKING] else 1.0) * (0.7 if int(values[MICRO]) == 4 else 1.0))

    result = outcome(times)
    assert result.overrides == (f"{MICRO}=4", f"{PACKING}=true")
    assert result.ratio is not None
    assert result.ratio.value == pytest.approx(0.56)


def test_a_gain_that_another_takes_away_is_left_out() -> None:
    """Packing gains nothing with micro-batches of 4, which are faster."""

    def times(values: dict[str, Value], _: int) -> Result:
        if int(values[MICRO]) == 4:
            return took(0.7)
        return took(0.8 if values[PACKING] else 1.0)

    assert outcome(times).overrides == (f"{MICRO}=4",)


def test_settings_that_change_numbers_are_named_and_not_chosen() -> None:
    def times(values: dict[str, Value], _: int) -> Result:
        halved = values[DTYPE] == "bfloat16"
        return took(0.5 if halved else 1.0, loss=2.002 if halved else 2.0)

    result = outcome(times)
    assert result.overrides == ()
    (sentence,) = result.apart
    assert f"{DTYPE}=bfloat16" in sentence
    assert "1.0e-03" in sentence


@pytest.mark.parametrize(("random", "chosen"), [(False, ()), (True, (f"{PACKING}=true",))])
def test_more_than_rounding_is_not_chosen_unless_dropout_explains_it(
    random: bool, chosen: tuple[str, ...]
) -> None:
    def times(values: dict[str, Value], _: int) -> Result:
        return took(0.8, loss=2.01) if values[PACKING] else took(1.0)

    made, _ = search(times, random=random)
    assert tuned(made, MEMORY).overrides == chosen
    assert made.effect(((PACKING, True),)) == ("rounding" if random else "numbers")


@pytest.mark.parametrize(("steps", "chosen"), [(100, ()), (1000, (f"{COMPILE}=true",))])
def test_compiling_has_to_pay_within_a_run(steps: int, chosen: tuple[str, ...]) -> None:
    """It saves 0.2 s per step, and takes 60 s more: repaid after 300 steps."""

    def times(values: dict[str, Value], _: int) -> Result:
        return took(0.8, once=60.99) if values[COMPILE] else took(1.0)

    made, machine = search(times, steps=steps)
    compiling = ((COMPILE, True),)
    assert made.repaid_after(compiling) == 300
    assert tuned(made, MEMORY).overrides == chosen
    assert (machine.order.count(compiling) == 1) == (steps == 100), "hopeless after one round"


def test_threads_are_judged_by_the_cores_that_they_take() -> None:
    result = outcome(lambda values, _: took(0.9 if values[THREADS] == 2 else 1.0))
    assert result.overrides == ()
    (sentence,) = result.apart
    assert "--threads 2" in sentence
    assert "1.80" in sentence


def test_hopeless_candidates_are_measured_once_and_the_reference_in_every_round() -> None:
    made, machine = search(lambda values, _: took(8.0 if values[DTYPE] == "bfloat16" else 1.0))
    assert machine.order.count(((DTYPE, "bfloat16"),)) == 1
    assert machine.order.count(((PACKING, True),)) == 3
    assert machine.order.count(OWN) == 4
    assert len(made.ratios(((PACKING, True),))) == 3


@pytest.mark.parametrize(("waiting", "tried"), [(0.02, False), (0.1, True)])
def test_processes_for_batches_are_tried_where_a_training_waits(
    waiting: float, tried: bool
) -> None:
    _, machine = search(lambda _, __: took(1.0, waiting=waiting))
    assert (((WORKERS, 1),) in machine.order) == tried


@pytest.mark.parametrize(
    ("around", "expected"),
    [
        (space(values={MICRO: 32}), {MICRO: [16], PACKING: [True], THREADS: [2]}),
        (space(values={MICRO: 1}), {MICRO: [2], THREADS: [2]}),
        (space(share=12, values={MICRO: 4}), {MICRO: [12, 2], PACKING: [True], THREADS: [2]}),
        (space(by_micro_batch=True), {PACKING: [True], THREADS: [2]}),
        (space(gpu=True), {MICRO: [16, 4], PACKING: [True]}),
        (space(alone=False), {MICRO: [16, 4], PACKING: [True]}),
        (
            space(values={CHECKPOINTING: True, THREADS: 2}),
            {MICRO: [16, 4], PACKING: [True], CHECKPOINTING: [False], THREADS: [1]},
        ),
        (space(without=frozenset({MICRO, PACKING, THREADS})), {}),
    ],
)
def test_candidates_are_what_the_recipe_and_the_machine_allow(
    around: Space, expected: dict[str, list[Value]]
) -> None:
    offered: dict[str, list[Value]] = {}
    for name, value in around.candidates(0.0):
        offered.setdefault(name, []).append(value)
    assert offered.pop(DTYPE) == ["bfloat16"]
    assert offered.pop(COMPILE) == [True]
    assert offered == expected


def test_a_little_memory_left_is_remarked() -> None:
    full = Measured((1.0,), 2.0, 0.0, 970, (2.0,))
    (row, *_) = outcome(lambda _, __: full).rows
    assert "hardly fits" in row.remark


def test_changes_are_named_as_commands_take_them() -> None:
    assert named(OWN) == "recipe"
    assert named(((COMPILE, True), (MICRO, 4), (THREADS, 2))) == (
        "model.compile=true optimization.micro_batch_size=4 --threads 2"
    )
