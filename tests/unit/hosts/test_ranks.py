"""The update of a step is the same on two ranks, with data parallelism and with sharded parameters (FSDP2)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from rank_cases import PICTURED, SEVERAL, cases, sensitive
from trainer_cases import EQUAL, TASK_LEVEL, TASKS, distance, grouped, rows, update, with_pictures

from cotbal.weightings import random_loss

HERE = Path(__file__).parent
Results = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def ranks(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Results]:
    """What rank 0 and rank 1 found, from a single launch of two processes: each costs the imports of transformers."""
    out = tmp_path_factory.mktemp("ranks")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
        str(HERE / "rank_cases.py"), str(checkpoint), str(out),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(out / "rank0.pt"), torch.load(out / "rank1.pt")


@pytest.fixture(scope="module")
def alone(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The same steps in one process and one micro-batch."""
    out = tmp_path_factory.mktemp("alone")
    partial = {"data": rows()[:12], "max_steps": -1, "num_train_epochs": 1}
    return {
        "fixed": update(checkpoint, out, 16, 1),
        "task_level": update(checkpoint, out, 16, 1, TASK_LEVEL),
        "dynamic": update(checkpoint, out, 16, 1, sensitive(), **SEVERAL),
        "grouped": update(checkpoint, out, 16, 1, data=grouped()),
        "pictures": update(checkpoint, out, 16, 1, data=with_pictures(PICTURED)),
        "per_device": update(checkpoint, out, 4, 4, normalizer="per_device"),
        "random": update(checkpoint, out, 16, 1, random_loss.build(TASKS, None, seed=5), **SEVERAL),
        "partial": update(checkpoint, out, 8, 1, **partial),
    }


@pytest.mark.parametrize("case", cases())
def test_two_ranks_make_the_same_update(ranks: tuple[Results, Results], alone: Results, case: str) -> None:
    found, expected = ranks[0][case], alone[case.split(maxsplit=1)[0]]
    assert distance(found, expected) < 1e-5 * (10 if len(expected["log"]) > 2 else 1)
    for line, single in zip(found["log"][:-1], expected["log"][:-1], strict=True):
        assert line["loss"] == pytest.approx(single["loss"], rel=1e-5)
        assert line["task_losses"] == pytest.approx(single["task_losses"], rel=1e-5)
        assert line["task_tokens"] == single["task_tokens"]
        assert line["weights"] == pytest.approx(single["weights"], rel=1e-3)


def test_the_cases_could_tell_a_wrong_update(checkpoint: Path, tmp_path: Path, alone: Results) -> None:
    """Weights move each of the updates by far more than the tolerance, and DWA has moved its weights."""
    assert distance(alone["fixed"], update(checkpoint, tmp_path, 16, 1, EQUAL)) > 0.05
    assert distance(alone["fixed"], alone["per_device"]) > 0.05
    assert distance(alone["fixed"], alone["task_level"]) > 0.05
    assert distance(alone["dynamic"], update(checkpoint, tmp_path, 16, 1, EQUAL, **SEVERAL)) > 0.01
    assert any(line["masked_rows"] for line in alone["fixed"]["log"][:-1])
    lines = alone["dynamic"]["log"][:-1]
    assert [set(line["weights"].values()) == {1.0} for line in lines] == [True, True, False, False]


@pytest.mark.parametrize("case", ["dynamic 4 2", "dynamic 4 2 sharded", "random"])
def test_every_rank_uses_the_same_weights(ranks: tuple[Results, Results], case: str) -> None:
    used = [[line["weights"] for line in rank[case]["log"] if "weights" in line] for rank in ranks]
    assert used[0] == used[1]
    assert used[0][-1] != used[0][-2]
