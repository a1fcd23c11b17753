"""Run directories whose runs have job files and were not begun."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from cotbal.errors import RunsFailed
from cotbal.jobs import pipeline
from cotbal.jobs.execute import Options
from cotbal.jobs.rundir import RunDir
from cotbal.recipe.recipe import load_recipe
from helpers.pipeline_fakes import EXECUTOR
from helpers.tiny_vlm import mixture


def plan_final(home: Path, *settings: str) -> Path:
    """A mixture in `home/data`, and the directory of its final run `ew` in `home/run`."""
    return planned(home, mixture(home / "data", {"color": 1, "paint": 2}), settings)


def plan_choosing(home: Path, *settings: str) -> Path:
    """The same, where the answers of `color` are chosen among options."""
    path = mixture(home / "data", {"color": 1, "paint": 2}, choosing=("color",))
    return planned(home, path, ("tasks.color.choose=sum", *settings))


def planned(home: Path, path: Path, settings: Sequence[str]) -> Path:
    """The directory of the final run `ew` of a recipe in `home/run`."""
    recipe = load_recipe(path, settings)
    prepared = pipeline.plan(recipe, RunDir(home / "run"), ("ew",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COTBAL_FAKE_FAIL", "ew")
        with pytest.raises(RunsFailed):
            pipeline.train(prepared, "ew", Options(EXECUTOR))
    return home / "run" / "final" / "ew"
