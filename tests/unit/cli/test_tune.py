"""`cotbal tune`: two candidates with a tiny model, and what a user sees."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from cotbal.errors import CotbalError
from cotbal.jobs import inputs
from cotbal.jobs.executors import Job, inline, processes
from cotbal.jobs.tuning import measure, rows, tune
from cotbal.jobs.tuning.measure import OUT_OF_MEMORY
from cotbal.jobs.tuning.outcome import Ratio, Row, Tuned
from helpers.commands import Command
from helpers.shell import cotbal as in_a_process
from helpers.tiny_vlm import mixture

MICRO = "optimization.micro_batch_size"
LEFT_OUT = ("packing", "dataloader_workers", "threads", "dtype", "compile")
WITHOUT = [text for kind in LEFT_OUT for text in ("--without", kind)]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mixture(tmp_path_factory.mktemp("mixture") / "a", {"color": 1, "paint": 2})


def need_two_sizes_beside_the_recipe(content: dict[str, Any], folder: Path) -> None:
    settings = [row["settings"] for row in content["rows"]]
    assert settings[:3] == ["recipe", f"{MICRO}=8", f"{MICRO}=2"]
    plain, *others = content["rows"]
    assert plain["ratio"] is None
    for row in others:
        assert row["seconds"] > 0
        assert row["memory_mib"] > 100
        assert row["ratio"]["rounds"] >= 1
        assert row["effect"] == "rounding"
        assert row["difference"] < 1e-5
    assert content["steps"] == 6
    assert not [path for path in folder.iterdir() if path.name != "out"], "nothing is kept"


@pytest.mark.extended
def test_micro_batches_of_a_tiny_model(
    cotbal: Command, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, which has imported what the others would import, and without a process that
    measures lengths.
    """
    monkeypatch.setattr(measure.processes, "run", inline.run)
    for module in (inputs, rows):
        monkeypatch.setattr(module, "open_meter", lambda _: nullcontext())
    ended = cotbal("tune", recipe, "--steps", "1", "--json", *WITHOUT)
    assert ended.code == 0, ended.err
    content = json.loads(ended.out)
    need_two_sizes_beside_the_recipe(content, tmp_path)
    assert f"{MICRO}=2" in ended.err, "every process is reported when it has ended"


@pytest.mark.extended
def test_every_candidate_has_a_process(recipe: Path, tmp_path: Path) -> None:
    printed = in_a_process("tune", recipe, "--steps", "1", "--json", *WITHOUT, cwd=tmp_path)
    content = json.loads(printed[printed.index("{\n") :])
    need_two_sizes_beside_the_recipe(content, tmp_path)


def result(**changes: Any) -> Tuned:
    shown = (
        Row("recipe", 1.0, None, 900, "none", None, "reference"),
        Row(f"{MICRO}=8", 0.5, Ratio(0.5, 0.4, 0.6, 3), 950, "rounding", 2e-7, "chosen"),
        Row("model.dtype=bfloat16", None, None, None, "numbers", None, "out of memory"),
    )
    settings = {
        "rows": shown,
        "reference": "recipe",
        "chosen": f"{MICRO}=8",
        "overrides": (f"{MICRO}=8",),
        "ratio": shown[1].ratio,
        "apart": ("--threads 2 takes 0.9 of the time of one run",),
        "steps": 100,
        "seconds": (100.0, 50.0),
        "memory_mib": 1000,
        "load": None,
        "cores": 2,
    }
    return Tuned(**{**settings, **changes})


def test_the_command_to_use_keeps_other_changes_of_the_user(
    cotbal: Command, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "tune", lambda *_: result())
    ended = cotbal("tune", recipe, "optimization.epochs=2", f"{MICRO}=2")
    assert f"cotbal run {recipe} optimization.epochs=2 {MICRO}=8\n" in ended.out
    (line,) = [line for line in ended.out.splitlines() if line.startswith(MICRO)]
    assert " ".join(line.split()) == f"{MICRO}=8 0.5 0.50 [0.40, 0.60] 950 rounding 2e-07 chosen"
    assert "out of memory" in ended.out
    assert "--threads 2" in ended.out
    assert "warning" not in ended.out


def test_without_a_gain_no_command_is_recommended(
    cotbal: Command, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = {"chosen": "recipe", "overrides": (), "ratio": None, "apart": ()}
    monkeypatch.setattr(tune, "tune", lambda *_: result(**nothing, load=5.1))
    ended = cotbal("tune", recipe)
    assert "cotbal run" not in ended.out
    assert "5.1" in ended.out, "a busy machine is a warning"
    assert json.loads(cotbal("tune", recipe, "--json").out)["command"] is None


def test_unknown_kinds_of_settings(cotbal: Command, recipe: Path) -> None:
    ended = cotbal("tune", recipe, "--without", "thread")
    ended.expect(CotbalError, "invalid-option", "'thread'", "threads")


def test_a_recipe_without_a_model(cotbal: Command, recipe: Path) -> None:
    cotbal("tune", recipe, "model=null").expect(CotbalError, "missing-model")


@pytest.mark.parametrize(
    "printed",
    [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
        "RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes",
        "MemoryError: ",
    ],
)
def test_messages_of_too_little_memory(tmp_path: Path, printed: str) -> None:
    job = Job("one", tmp_path, ("python", "-m", "none"))
    (tmp_path / "log.txt").write_text(printed)
    assert OUT_OF_MEMORY.search(processes.failure(job, 1))
    (tmp_path / "log.txt").write_text("")
    assert OUT_OF_MEMORY.search(processes.failure(job, -9))
    assert not OUT_OF_MEMORY.search(processes.failure(job, 1))
