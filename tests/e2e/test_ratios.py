"""A real training with sampling ratios: the same as on hand-made records, whether it is killed,
and on two ranks.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cotbal.data.batches.repeats import repeats
from helpers.shell import LIMIT, cotbal, start
from helpers.tiny_vlm import copy, mixture

pytestmark = pytest.mark.extended
RECORDS = 27  # of each of two tasks
COUNTS = {"color": 40, "paint": 14}
ONE_STEP = (
    f"optimization={{batch_size: {2 * RECORDS}, micro_batch_size: {RECORDS}, warmup_ratio: 0,"
    " learning_rate: 1.0e-2}"
)
MODEL = "checkpoint/model.safetensors"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixture") / "a"
    recipe = mixture(folder, {"color": 1, "paint": 2}, train=RECORDS)
    (folder / "weights-color.json").write_text(json.dumps(COUNTS))
    return recipe


def sampled(recipe: Path, root: Path, *more: str) -> tuple[str | Path, ...]:
    return (
        "train",
        recipe,
        *more,
        "--ratios",
        recipe.with_name("weights-color.json"),
        "--out",
        root,
    )


def distances(base: Path, one: Path, other: Path) -> tuple[float, float]:
    """How far `one` moved from the base, and how far it is from `other`."""
    first, second, third = map(load_file, (base, one, other))
    moved, apart = (
        torch.cat([(values - models[name]).flatten() for name, values in second.items()]).norm()
        for models in (first, third)
    )
    return float(moved), float(apart)


def by_hand(recipe: Path, counts: dict[str, int]) -> Path:
    """Files of records in which rows are left out and repeated."""
    times = repeats(dict.fromkeys(counts, RECORDS), counts, seed=0).times(0).reshape(2, RECORDS)
    for task, of_task in zip(counts, times, strict=True):
        file = recipe.parent / "data" / f"{task}_train.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        shown = [
            {**rows[i], "id": str(n)} for n, i in enumerate(np.repeat(range(RECORDS), of_task))
        ]
        assert len(shown) == counts[task]
        file.write_text("".join(json.dumps(row) + "\n" for row in shown))
    return recipe


def test_ratios_train_as_records_repeated_by_hand(source: Path, tmp_path: Path) -> None:
    """In one step over all rows, in which their order does not matter."""
    cotbal(*sampled(source, tmp_path / "run", ONE_STEP), "--on", "inline")
    recipe = by_hand(copy(source.parent, tmp_path / "repeated"), COUNTS)
    for name, path in (("by-hand", recipe), ("plain", source)):
        root = tmp_path / name
        cotbal("train", path, ONE_STEP, "--weighting", "ew", "--out", root, "--on", "inline")
    runs = [tmp_path / name for name in ("run/final/ratios-color", "by-hand/final/ew")]
    root, in_recipe = tmp_path / "in-recipe", ONE_STEP[:-1] + f", sampling: {COUNTS}}}"
    cotbal("train", source, in_recipe, "--weighting", "ew", "--out", root, "--on", "inline")
    assert (root / "final/ew" / MODEL).read_bytes() == (runs[0] / MODEL).read_bytes()
    base = source.parent / "base" / "model.safetensors"
    moved, apart = distances(base, *(run / MODEL for run in runs))
    assert moved > 0.1
    assert apart / moved < 1e-3
    sampled_step, by_hand_step, plain_step = (
        json.loads((run / "training.jsonl").read_text())
        for run in (*runs, tmp_path / "plain/final/ew")
    )
    assert sampled_step["step"] == plain_step["step"] == 1
    assert sampled_step["task_tokens"] == by_hand_step["task_tokens"] != plain_step["task_tokens"]
    for key in ("loss", "grad_norm"):
        assert sampled_step[key] == pytest.approx(by_hand_step[key], rel=1e-5)
        assert sampled_step[key] != pytest.approx(plain_step[key], rel=1e-3)
    assert json.loads((runs[0] / "outcome.json").read_text())["records"] == 2 * RECORDS


def test_killed_or_on_two_ranks_it_ends_the_same(source: Path, tmp_path: Path) -> None:
    """Over epochs that show different rows, the last batch of which is not whole."""
    epochs = "optimization.epochs=3"
    whole, killed, ranks = (tmp_path / name for name in ("whole", "killed", "ranks"))
    cotbal(*sampled(source, whole, epochs), "--on", "inline")
    process = start(tmp_path / "printed.txt", *sampled(source, killed, epochs), "--on", "inline")
    deadline = time.monotonic() + LIMIT
    while not any(killed.glob("final/*/partial/checkpoint-1*/complete")):
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.join()
    assert not (killed / "final/ratios-color/trained.json").exists()
    cotbal(*sampled(source, killed, epochs), "--on", "inline")
    models = [root / "final/ratios-color" / MODEL for root in (whole, killed, ranks)]
    assert models[0].read_bytes() == models[1].read_bytes()
    layout = ("resources={gpus: 0, ranks: 2}", "optimization.packing=true")
    cotbal(*sampled(source, ranks, epochs, *layout))
    moved, apart = distances(source.parent / "base" / "model.safetensors", models[0], models[2])
    assert moved > 0.1
    assert apart / moved < 1e-5
