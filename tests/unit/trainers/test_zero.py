"""Under DeepSpeed ZeRO, in every stage, the update of a step is the same, and resuming is exact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cotbal.errors import CotbalError
from cotbal.training.trainers.checkpoints import check_zero, save_zero
from helpers import zero_cases
from helpers.errors import raises
from helpers.launched_ranks import Results, launch
from helpers.rank_cases import SEVERAL, WITH_IMAGE, sensitive
from helpers.trainer_cases import EQUAL, distance, update, with_images


@pytest.fixture(scope="module")
def two(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Results]:
    return launch(zero_cases.__file__, 2, checkpoint, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def one(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    return launch(zero_cases.__file__, 1, checkpoint, tmp_path_factory.mktemp("one"))[0]


@pytest.fixture(scope="module")
def plain(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The same steps in one process without DeepSpeed, and in one micro-batch."""
    out = tmp_path_factory.mktemp("plain")
    return {
        "cotbal": update(checkpoint, out, 16, 1),
        "clipped": update(checkpoint, out, 16, 1, max_grad_norm=zero_cases.CLIP),
        "images": update(checkpoint, out, 16, 1, data=with_images(WITH_IMAGE)),
    }


def is_the_update(actual: dict[str, Any], expected: dict[str, Any], blanks: int = 0) -> None:
    assert distance(actual, expected) < 1e-5
    for line, single in zip(actual["log"][:-1], expected["log"][:-1], strict=True):
        assert line["loss"] == pytest.approx(single["loss"], rel=1e-5)
        assert line["grad_norm"] == pytest.approx(single["grad_norm"], rel=1e-5)
        assert line["task_losses"] == pytest.approx(single["task_losses"], rel=1e-5)
        assert line["task_tokens"] == single["task_tokens"]
        assert line["masked_rows"] == single["masked_rows"] + blanks


@pytest.mark.extended
@pytest.mark.parametrize("case", zero_cases.of_two())
def test_two_ranks_make_the_same_update(two: list[Results], plain: Results, case: str) -> None:
    """Whatever DeepSpeed divides by, and with its own clipping; `images`: rank 1 has text
    alone."""
    blanks = 2 if case.startswith("images") else 0
    is_the_update(two[0][case], plain[case.split(maxsplit=1)[0]], blanks)
    assert distance(two[1][case], two[0][case]) < 1e-6


@pytest.mark.extended
@pytest.mark.parametrize("case", zero_cases.of_one())
def test_one_rank_makes_the_same_update(one: Results, plain: Results, case: str) -> None:
    is_the_update(one[case], plain[case.split(maxsplit=1)[0]])


@pytest.mark.extended
def test_the_cases_could_tell_a_wrong_update(
    checkpoint: Path, tmp_path: Path, plain: Results
) -> None:
    assert distance(plain["cotbal"], update(checkpoint, tmp_path, 16, 1, EQUAL)) > 0.05
    assert distance(plain["clipped"], plain["cotbal"]) > 0.5


@pytest.mark.extended
@pytest.mark.parametrize("case", zero_cases.of_two())
def test_the_weights_are_checked_first(two: list[Results], case: str) -> None:
    """By each rank alone, and in stage 3, where all ranks must run the same modules, by all
    together.
    """
    checks = [rank[case]["check"] for rank in two]
    assert all(check["error"] < 1e-3 for check in checks)
    assert all(check["predicted"] > 0.01 for check in checks)
    assert checks[0] == checks[1] or " 3 " not in case


@pytest.mark.extended
def test_stage_3_shards_parameters(two: list[Results]) -> None:
    for case, result in two[0].items():
        if case.startswith("cotbal"):
            assert (result["split"] > 0.9) == (" 3 " in case)


@pytest.mark.extended
@pytest.mark.parametrize("stage", zero_cases.STAGES)
def test_resuming_is_exact(
    two: list[Results], checkpoint: Path, tmp_path: Path, stage: int
) -> None:
    """Weights, momentum and the windows of DWA all come back, beside a frozen vision tower."""
    straight, resumed = (two[0][f"resuming {stage}"][way] for way in ("straight", "resumed"))
    assert distance(resumed, straight) < 1e-6
    used = [
        [line["weights"] for line in one["log"] if "weights" in line] for one in (straight, resumed)
    ]
    assert used[0] == used[1]
    assert used[0][-1] != used[0][-2]
    assert len(used[0]) == SEVERAL["max_steps"]
    assert sensitive().starts == 2


def test_files_of_another_launch_are_not_read(tmp_path: Path) -> None:
    with raises(CotbalError, "incomplete-checkpoint", tmp_path, "zero.json"):
        check_zero(tmp_path, 2, 8)
    save_zero(tmp_path, 3, 4)
    assert json.loads((tmp_path / "zero.json").read_text()) == {"stage": 3, "ranks": 4}
    check_zero(tmp_path, 3, 4)
    for stage, ranks in ((2, 4), (3, 8)):
        with raises(CotbalError, "other-sharding", tmp_path, f"stage {stage}", ranks, "stage 3"):
            check_zero(tmp_path, stage, ranks)
