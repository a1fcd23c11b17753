"""The whole job on a tiny mixture: it ends, it can be killed at any moment, and it ends the
same."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cotbal.data.sampling import draw_portions
from cotbal.recipe.schema import Portions
from helpers.errors import a_line_names
from helpers.run_directory_page import PAGE, differences, example, tree
from helpers.shell import LIMIT, command, cotbal, start
from helpers.tiny_vlm import copy, mixture

TASKS = {"color": 1, "paint": 2}
REPLICATES = "balance.replicates=2"


def results(root: Path) -> dict[str, str]:
    """Everything that must not depend on interruptions, as bytes."""
    files = [
        "scores.csv",
        "weights.json",
        "balance.json",
        *sorted(str(p.relative_to(root)) for p in root.rglob("scores/*.json")),
    ]
    return {name: (root / name).read_text() for name in files}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixture") / "a"
    mixture(folder, TASKS)
    return folder


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs") / "whole"
    cotbal(
        "run",
        source / "recipe.yaml",
        REPLICATES,
        "--out",
        root,
        "--on",
        "inline",
        "--weighting",
        "ew",
        "--weighting",
        "cotbal",
    )
    return root


def test_the_job_leaves_what_it_promises(undisturbed: Path) -> None:
    weights = json.loads((undisturbed / "weights.json").read_text())["tasks"]
    assert set(weights) == set(TASKS)
    assert sum(weights.values()) == pytest.approx(len(TASKS))
    for run in (
        "probes/mini",
        "probes/full-color",
        "probes/full-paint",
        "seed-1/probes/mini",
        "final/ew",
        "final/cotbal",
    ):
        outcome = json.loads((undisturbed / run / "outcome.json").read_text())
        assert outcome["steps"] > 0
        assert outcome["tokens"] > 0
        assert outcome["self_check"]["error"] < 1e-3
        assert not (undisturbed / run / "partial").exists()
    assert not (undisturbed / "probes/mini/checkpoint").exists()
    assert (undisturbed / "final/cotbal/checkpoint/model.safetensors").exists()
    assert (undisturbed / "report/index.html").stat().st_size > 10_000
    first = json.loads(
        (undisturbed / "probes/mini/generations/color.validation.jsonl").read_text().splitlines()[0]
    )
    assert set(first) == {"id", "images", "question", "references", "details", "answer"}


def rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("plan.json", "plan.json"),
        ("progress.json", "*/*/progress.json"),
        ("training.jsonl", "*/*/training.jsonl"),
        ("generations/<task>.<split>.jsonl", "*/*/generations/*.jsonl"),
        ("scores/<task>.<split>.json", "*/*/scores/*.json"),
        ("outcome.json", "*/*/outcome.json"),
    ],
)
def test_files_are_as_the_page_of_the_run_directory_shows_them(
    undisturbed: Path, file: str, pattern: str
) -> None:
    paths = sorted(undisturbed.glob(pattern))
    assert paths
    shown = example(file)
    for path in paths:
        written = rows(path) if path.suffix == ".jsonl" else [json.loads(path.read_text())]
        assert written
        for content in written:
            assert list(differences(shown, content)) == [], path


def test_the_page_of_the_run_directory_names_every_file(undisturbed: Path) -> None:
    files = [path.relative_to(undisturbed) for path in undisturbed.rglob("*") if path.is_file()]
    patterned = ("checkpoint", "portions", "images", "generations", "scores")  # and after tasks
    names = {path.name for path in files if not set(patterned) & set(path.parts)}
    assert len(names) > 12
    assert sorted(name for name in names if name not in tree()) == []
    assert sorted(folder for folder in patterned if f"{folder}/" not in tree()) == []
    balance = PAGE[PAGE.index("### `balance.json`") :].partition("\n## ")[0]
    written = json.loads((undisturbed / "balance.json").read_text())
    assert sorted(key for key in written if f"`{key}`" not in balance) == []
    identity = PAGE[PAGE.index("## Identity") :].partition("\n\n## ")[0]
    job = json.loads((undisturbed / "probes/full-color/job.json").read_text())["identity"]
    cells = [line.split("|")[1] for line in identity.splitlines() if line.startswith("| `")]
    named = {name.replace("ocr", "color") for name in re.findall(r"`([a-z._]+)`", "".join(cells))}
    assert len(named) > 6
    # No task of this recipe has options to choose among, and all are sampled alike.
    assert named - job.keys() == {"choose", "run.ratios"}


def test_a_finished_job_does_nothing_again(undisturbed: Path, source: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("outcome.json")}
    cotbal(
        "run",
        source / "recipe.yaml",
        REPLICATES,
        "--out",
        undisturbed,
        "--weighting",
        "ew",
        "--weighting",
        "cotbal",
    )
    assert {path: path.stat().st_mtime_ns for path in undisturbed.rglob("outcome.json")} == before


@pytest.mark.extended
def test_a_replicate_is_part_of_a_later_set_of_probes(
    undisturbed: Path, source: Path, tmp_path: Path
) -> None:
    """`balance.seeds=[0, 1]` trains what the replicate of the mini has not trained yet."""
    root = tmp_path / "seeds"
    shutil.copytree(undisturbed, root)
    assert "mini#2," in (root / "scores.csv").read_text()
    before = {path: path.read_bytes() for path in root.rglob("outcome.json")}
    assert root / "seed-1/probes/mini/outcome.json" in before
    both = ("balance", source / "recipe.yaml", "balance.seeds=[0, 1]", "--out", root)
    cotbal(*both, "--on", "inline")
    after = {path: path.read_bytes() for path in root.rglob("outcome.json")}
    assert {path: after[path] for path in before} == before
    new = {str(path.parent.relative_to(root)) for path in after.keys() - before.keys()}
    assert new == {"seed-1/probes/full-color", "seed-1/probes/full-paint"}
    assert json.loads((root / "balance.json").read_text())["seeds"] == 2
    assert "mini," in (root / "seed-1/scores.csv").read_text()
    # Whole sets take the place of replicates.
    assert "#" not in (root / "scores.csv").read_text()
    cotbal("balance", source / "recipe.yaml", REPLICATES, "--out", root)
    assert (root / "scores.csv").read_text() == (undisturbed / "scores.csv").read_text()


def wait_for(ended: Callable[[], int | None], happened: Callable[[], bool]) -> None:
    """Until it happened; `ended` gives the exit code of a job that has ended too soon."""
    deadline = time.monotonic() + LIMIT
    while not happened():
        assert ended() is None, "the job ended before the moment at which it was to be stopped"
        assert time.monotonic() < deadline
        time.sleep(0.002)


def trained(root: Path) -> bool:
    """Partial checkpoints go when a training ends; on a busy machine that may happen between two
    looks.
    """
    return (root / "probes/full-color/trained.json").exists()


MOMENTS: dict[str, Callable[[Path], bool]] = {
    "before the first step": lambda root: (root / "probes/full-color/progress.json").exists(),
    "while a partial checkpoint is written": lambda root: (
        any(root.glob("probes/full-color/partial/checkpoint-2/*")) or trained(root)
    ),
    "after a partial checkpoint": lambda root: (
        (root / "probes/full-color/partial/checkpoint-4/complete").exists() or trained(root)
    ),
    "between training and answers": lambda root: (root / "probes/full-color/trained.json").exists(),
    "between two tasks": lambda root: any(root.glob("probes/full-paint/generations/*.jsonl")),
    "between two runs": lambda root: (root / "probes/full-paint/outcome.json").exists(),
    "in the final training": lambda root: (root / "final/cotbal/training.jsonl").exists(),
}


# `make test` has a killed driver below; damaged partial checkpoints are in
# tests/unit/test_training.py, a job that was stopped between runs in tests/unit/jobs.
@pytest.mark.extended
def test_a_job_that_is_killed_again_and_again_ends_the_same(
    source: Path, undisturbed: Path, tmp_path: Path
) -> None:
    root = tmp_path / "killed"
    recipe = copy(source, tmp_path / "moved")  # identity is content, so the data may lie elsewhere
    arguments = (
        "run",
        recipe,
        REPLICATES,
        "--out",
        root,
        "--on",
        "inline",
        "--weighting",
        "ew",
        "--weighting",
        "cotbal",
    )
    for happened in MOMENTS.values():
        process = start(tmp_path / "printed.txt", *arguments)
        wait_for(lambda job=process: job.exitcode, lambda happened=happened: happened(root))
        process.kill()
        process.join()
    cotbal(*arguments)
    assert results(root) == results(undisturbed)


def balanced_in_processes(recipe: Path, root: Path) -> tuple[str | Path, ...]:
    return ("balance", recipe, "--out", root, "--workers", "2", "--threads", "1")


def test_workers_leave_with_a_killed_driver_and_the_job_resumes(
    source: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """And its runs, which are forked, end as those inside one process do."""
    root = tmp_path / "processes"
    arguments = balanced_in_processes(source / "recipe.yaml", root)
    process = start(tmp_path / "printed.txt", *arguments)
    wait_for(lambda: process.exitcode, lambda: len(list(root.glob("probes/*/progress.json"))) == 2)
    process.kill()
    process.join()
    assert "lock" not in cotbal(*arguments)
    assert "done" in cotbal("status", root)
    probes = [path.parent.name for path in root.glob("probes/*/outcome.json")]
    assert len(probes) == 3
    for probe in probes:
        same_files(root / "probes" / probe, undisturbed / "probes" / probe)


@pytest.mark.extended
def test_a_forked_run_ends_as_a_fresh_process(source: Path, tmp_path: Path) -> None:
    """Answers, scores and every weight; the command itself is a fresh process here, too."""
    root = tmp_path / "processes"
    arguments = balanced_in_processes(source / "recipe.yaml", root)
    subprocess.run(command(*arguments, "--keep-checkpoints"), check=True)
    forked, fresh = root / "probes/full-color", root / "probes/fresh"
    fresh.mkdir()
    shutil.copy(forked / "job.json", fresh)
    subprocess.run(
        [sys.executable, "-m", "cotbal.jobs.worker", fresh / "job.json"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
    )
    same_files(fresh, forked, "checkpoint/*.safetensors")


def same_files(one: Path, other: Path, *more: str) -> None:
    for pattern in ("generations/*.jsonl", "scores/*.json", *more):
        files = [path.relative_to(one) for path in one.glob(pattern)]
        assert files
        assert [(one / name).read_bytes() for name in files] == [
            (other / name).read_bytes() for name in files
        ]
    losses = [
        [line["task_losses"] for line in rows(run / "training.jsonl")] for run in (one, other)
    ]
    assert losses[0]
    assert losses[0] == losses[1]


def test_ctrl_c_stops_cleanly_and_keeps_what_a_training_has_reached(
    source: Path, tmp_path: Path
) -> None:
    root = tmp_path / "saved"
    endless = ("optimization.epochs=1000", "optimization.checkpoint_steps=100000")
    printed = tmp_path / "printed.txt"
    arguments = ("balance", source / "recipe.yaml", *endless, "--out", root, "--workers", "1")
    process = start(printed, *arguments)
    wait_for(
        lambda: process.exitcode,
        lambda: any(
            '"training"' in path.read_text() for path in root.glob("probes/*/progress.json")
        ),
    )
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    process.join(LIMIT)
    assert process.exitcode == 130
    output = printed.read_text()
    assert "cotbal balance" in output, "the command that resumes"
    assert "Traceback" not in output
    assert len(list(root.glob("probes/*/partial/checkpoint-*/complete"))) == 1
    assert a_line_names(cotbal("status", root), "resume"), "what to do next"
    states = {state["state"] for state in json.loads(cotbal("status", root, "--json"))}
    assert states == {"interrupted", "missing"}


@pytest.mark.extended
def test_a_probe_that_fails_leaves_the_others_running(source: Path, tmp_path: Path) -> None:
    """An image that is cut in half after the records were measured passes the quick look at start
    and fails in the runs that draw it.
    """
    recipe = copy(source, tmp_path / "broken")
    whole = (recipe.parent / "images" / "red.png").read_bytes()
    (recipe.parent / "images" / "half.png").write_bytes(whole)
    records = recipe.parent / "data" / "color_train.jsonl"
    rows = [json.loads(line) for line in records.read_text().splitlines()]
    mini = set(
        draw_portions(np.arange(len(rows)), "color", Portions(mini="1/24")).of("mini").tolist()
    )
    for index, row in enumerate(rows):
        row["image"] = "red.png" if index in mini else "half.png"  # only the mini stays whole
    records.write_text("".join(json.dumps(row) + "\n" for row in rows))
    root = tmp_path / "run"
    cotbal("plan", recipe, "portions.mini=1/24")
    (recipe.parent / "images" / "half.png").write_bytes(whole[: len(whole) // 2])
    output = cotbal(
        "balance", recipe, "portions.mini=1/24", "--out", root, "--on", "inline", code=2
    )
    assert a_line_names(output, "1 of 3")
    assert "half.png" in output
    assert a_line_names(output, "cotbal balance", recipe), "the command that resumes"
    assert (root / "probes/full-color/failure.json").exists()
    states = {
        state["run"]: state["state"] for state in json.loads(cotbal("status", root, "--json"))
    }
    assert states == {
        "mini": "done",
        "full:color": "failed",
        "full:paint": "done",
        "cotbal": "missing",
    }


@pytest.mark.extended
def test_a_changed_recipe_names_the_field(undisturbed: Path, source: Path, tmp_path: Path) -> None:
    root = tmp_path / "changed"
    shutil.copytree(undisturbed, root)
    faster = ("balance", source / "recipe.yaml", "optimization.learning_rate=0.02", "--out", root)
    output = cotbal(*faster, code=2)
    assert "optimization.learning_rate: was 0.01, is 0.02" in output
    assert "Traceback" not in output
    cotbal(
        "balance", source / "recipe.yaml", "balance.temperature=5", "--out", root
    )  # no probe depends on it
    assert json.loads((root / "balance.json").read_text())["temperature"] == 5
    cotbal(*faster, "--restart-changed", "--on", "inline")
    assert {path.name for path in (root / "probes").iterdir()} >= {
        "mini",
        "mini.old-1",
        "full-color.old-1",
    }


def test_two_commands_cannot_share_a_directory(source: Path, tmp_path: Path) -> None:
    root = tmp_path / "shared"
    endless = ("balance", source / "recipe.yaml", "optimization.epochs=1000", "--out", root)
    process = start(tmp_path / "printed.txt", *endless, "--on", "inline")
    wait_for(lambda: process.exitcode, lambda: any(root.glob("probes/*/progress.json")))
    assert a_line_names(cotbal(*endless, code=2), "cotbal: ", root)
    process.terminate()
    process.join(LIMIT)
    assert process.exitcode == 128 + signal.SIGTERM


@pytest.mark.extended
def test_the_demo_runs_in_its_small_size(tmp_path: Path) -> None:
    root = tmp_path / "pocket"
    output = cotbal("demo", "--size", "tiny", "--out", root, "--on", "inline")
    assert str(root / "report" / "index.html") in output
    page = (root / "report" / "index.html").read_text()
    assert "grounding" in page
    assert "OpenMoji" in page
    weights = json.loads((root / "weights.json").read_text())
    assert len(weights["weights"]) == 7
    assert weights["tasks"]["chat"] == 1
    for weighting in ("ew", "cotbal"):
        assert len(list((root / "final" / weighting / "scores").glob("*.test.json"))) == 8
