from __future__ import annotations

from pathlib import Path

import pytest

from cotbal.data.files import write_json
from cotbal.errors import CotbalError
from cotbal.jobs import pipeline
from cotbal.jobs.forecast import Forecast, forecast, shares_answers
from cotbal.jobs.rundir import RunDir
from cotbal.recipe.recipe import load_recipe
from helpers.errors import raises

# Of the recipe: three probes of 64 + 2 * 8 records, one of 24; a final run of 256. Answers count
# half a record.
MINI, FULL, FINAL = 24 + 120, 80 + 120, 256 + 80


def predicted(path: Path, gpus: int, *overrides: str) -> Forecast:
    return forecast(
        pipeline.plan(
            load_recipe(path, ["balance.replicates=1", *overrides]), RunDir(path.parent / "run")
        ),
        gpus,
    )


def test_before_anything_was_timed_the_unit_is_a_final_run(recipe_path: Path) -> None:
    forecast = predicted(recipe_path, 2)
    assert not forecast.timed
    assert forecast.runs == 5
    assert forecast.makespan == pytest.approx(
        (2 * FULL + FINAL) / 256
    )  # full, full | full, mini | fixed
    assert forecast.gpu_time == pytest.approx((3 * FULL + MINI + FINAL) / 256)
    assert forecast.bound == pytest.approx(((3 * FULL + MINI) / 2 + FINAL) / 256)


def test_seconds_once_a_run_was_timed(recipe_path: Path) -> None:
    root = RunDir(recipe_path.parent / "run")
    write_json(
        root.probe("mini").outcome, {"seconds": {"total": 40.0, "training": 48.0}, "records": 24}
    )
    forecast = predicted(recipe_path, 4)
    assert forecast.timed
    assert forecast.runs == 4
    assert forecast.makespan == pytest.approx(2 * (FULL + FINAL))  # two seconds per record
    assert forecast.gpu_time == pytest.approx(2 * (3 * FULL + FINAL))


def test_runs_of_several_gpus(recipe_path: Path) -> None:
    """A run on four GPUs holds four and takes a quarter of the time."""
    root = RunDir(recipe_path.parent / "run")
    timed = {"seconds": {"total": 40.0, "training": 12.0}, "records": 24, "ranks": 4}
    write_json(root.probe("mini").outcome, timed)
    forecast = predicted(recipe_path, 8, "resources.gpus=4", "probes={resources: {gpus: 1}}")
    assert forecast.makespan == pytest.approx(2 * (FULL + FINAL / 4))
    assert forecast.gpu_time == pytest.approx(2 * (3 * FULL + FINAL))


def test_too_few_gpus(recipe_path: Path) -> None:
    with raises(CotbalError, "too-few-gpus", "mini", 4, 2):
        predicted(recipe_path, 2, "resources.gpus=4")


@pytest.mark.parametrize(
    ("executor", "gpus", "settings", "expected"),
    [
        ("processes", "", [], True),
        ("processes", "0", [], False),
        ("inline", "", [], False),
        ("slurm", "", [], False),
        ("processes", "", ["resources.gpus=0", "resources.ranks=2"], False),
        ("processes", "", ["resources.dataloader_workers=2"], False),
    ],
)
def test_which_plans_share_answers(
    recipe_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    executor: str,
    gpus: str,
    settings: list[str],
    expected: bool,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    recipe = load_recipe(recipe_path, settings)
    prepared = pipeline.plan(recipe, RunDir(recipe_path.parent / "run"))
    assert shares_answers(prepared, executor) == expected
