"""The update of a step is the same on several ranks, with data parallelism and with sharded
parameters (FSDP2).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cotbal.weightings import rlw
from helpers import rank_cases
from helpers.launched_ranks import Results, launch
from helpers.rank_cases import (
    PARTIAL,
    SEVERAL,
    WITH_IMAGE,
    masked,
    of_four,
    of_two,
    of_two_extended,
    sensitive,
)
from helpers.trainer_cases import EQUAL, TASK_LEVEL, TASKS, distance, grouped, update, with_images


@pytest.fixture(scope="module")
def ranks(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Results]:
    return launch(rank_cases.__file__, 2, checkpoint, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def extended(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Results]:
    """Two ranks again, with the cases that `make test` leaves out."""
    out = tmp_path_factory.mktemp("extended")
    return launch(rank_cases.__file__, 2, checkpoint, out, "extended")


@pytest.fixture(scope="module")
def four(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Results]:
    return launch(rank_cases.__file__, 4, checkpoint, tmp_path_factory.mktemp("four"))


@pytest.fixture(scope="module")
def alone(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The same steps in one process and one micro-batch."""
    out = tmp_path_factory.mktemp("alone")
    return {
        "cotbal": update(checkpoint, out, 16, 1),
        "tla": update(checkpoint, out, 16, 1, TASK_LEVEL),
        "dynamic": update(checkpoint, out, 16, 1, sensitive(), **SEVERAL),
        "grouped": update(checkpoint, out, 16, 1, data=grouped()),
        "images": update(checkpoint, out, 16, 1, data=with_images(WITH_IMAGE)),
        "per_device": update(checkpoint, out, 4, 4, normalizer="per_device"),
        "random": update(checkpoint, out, 16, 1, rlw.build(TASKS, seed=5), **SEVERAL),
        "partial": update(checkpoint, out, 8, 1, **PARTIAL),
        "masked": update(checkpoint, out, 16, 1, data=masked(range(4, 8))),
    }


def is_the_update(actual: dict[str, Any], expected: dict[str, Any], blanks: int = 0) -> None:
    assert distance(actual, expected) < 1e-5 * (10 if len(expected["log"]) > 2 else 1)
    for line, single in zip(actual["log"][:-1], expected["log"][:-1], strict=True):
        assert line["loss"] == pytest.approx(single["loss"], rel=1e-5)
        assert line["task_losses"] == pytest.approx(single["task_losses"], rel=1e-5)
        assert line["task_tokens"] == single["task_tokens"]
        assert line["masked_rows"] == single["masked_rows"] + blanks
        assert line["weights"] == pytest.approx(single["weights"], rel=1e-3)


@pytest.mark.parametrize("case", of_two())
def test_two_ranks_make_the_same_update(ranks: list[Results], alone: Results, case: str) -> None:
    blanks = 2 if case == "images sharded" else 0  # one for each micro-batch of rank 1
    is_the_update(ranks[0][case], alone[case.split(maxsplit=1)[0]], blanks)


@pytest.mark.extended
@pytest.mark.parametrize("case", of_two_extended())
def test_two_ranks_make_the_same_update_in_more_cases(
    extended: list[Results], alone: Results, case: str
) -> None:
    is_the_update(extended[0][case], alone[case.split(maxsplit=1)[0]])


@pytest.mark.extended
@pytest.mark.parametrize("case", of_four())
def test_four_ranks_make_the_same_update(four: list[Results], alone: Results, case: str) -> None:
    """One rank holds the row without labels, in `masked` nothing but such rows."""
    is_the_update(four[0][case], alone[case])


def test_resuming_on_two_ranks_is_exact(ranks: list[Results]) -> None:
    """Weights, momentum and the windows of DWA all come back."""
    is_resumed_exactly(ranks[0]["resuming"])


@pytest.mark.extended
def test_resuming_with_accelerate_s_fsdp2_is_exact(extended: list[Results]) -> None:
    is_resumed_exactly(extended[0]["resuming sharded"], sharded=True)


def is_resumed_exactly(results: Results, sharded: bool = False) -> None:
    straight, resumed = results["straight"], results["resumed"]
    assert straight["sharded"] == resumed["sharded"] == sharded
    assert distance(resumed, straight) < 1e-6
    used = weights_of(straight)
    assert weights_of(resumed) == used
    assert used[-1] != used[-2]


def weights_of(result: dict[str, Any]) -> list[dict[str, float]]:
    """The weights of every step."""
    return [line["weights"] for line in result["log"] if "weights" in line]


@pytest.mark.extended
def test_accelerate_s_fsdp2_makes_the_same_update(extended: list[Results]) -> None:
    parallel, sharded = (extended[0][case]["straight"] for case in ("resuming", "resuming sharded"))
    assert distance(sharded, parallel) < 1e-5


def test_the_cases_could_tell_a_wrong_update(
    checkpoint: Path, tmp_path: Path, alone: Results
) -> None:
    """Weights move each of the updates by far more than the tolerance, and DWA has moved its
    weights.
    """
    assert distance(alone["cotbal"], update(checkpoint, tmp_path, 16, 1, EQUAL)) > 0.05
    assert distance(alone["cotbal"], alone["per_device"]) > 0.05
    assert distance(alone["cotbal"], alone["tla"]) > 0.05
    assert distance(alone["dynamic"], update(checkpoint, tmp_path, 16, 1, EQUAL, **SEVERAL)) > 0.01
    assert any(line["masked_rows"] for line in alone["cotbal"]["log"][:-1])
    lines = alone["dynamic"]["log"][:-1]
    assert [set(line["weights"].values()) == {1.0} for line in lines] == [True, True, False, False]


@pytest.mark.parametrize("case", ["dynamic 4 2", "random"])
def test_every_rank_uses_the_same_weights(ranks: list[Results], case: str) -> None:
    are_the_same([rank[case] for rank in ranks])


@pytest.mark.extended
def test_every_rank_of_a_sharded_model_uses_the_same_weights(extended: list[Results]) -> None:
    are_the_same([rank["dynamic 4 2 sharded"] for rank in extended])


def are_the_same(results: list[dict[str, Any]]) -> None:
    first, second = map(weights_of, results)
    assert first == second
    assert first[-1] != first[-2]
