"""`ratios.csv`, `metrics.csv` and `fit.yaml` as olmix reads them, from the probes of a run
directory.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from cotbal.balance.probes import replicate_name
from cotbal.errors import CotbalError
from cotbal.export import Guide, Order, export
from cotbal.jobs import pipeline
from cotbal.jobs.execute import Options
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.weigh import matrices_of
from cotbal.recipe.recipe import load_recipe
from helpers.errors import raises
from helpers.pipeline_fakes import EXECUTOR, TASKS, TRAIN, write_mixture

Table = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Swarm:
    """An export, and the run directory behind it."""

    root: RunDir
    out: Path
    guide: Guide

    def table(self, name: str) -> Table:
        lines = (self.out / name).read_text().splitlines()
        return {
            row.pop("run_id"): {k: float(v) for k, v in row.items()}
            for row in csv.DictReader(lines)
        }


def swarm(directory: Path, *changes: str, **balance: object) -> Swarm:
    """The probes of a small mixture, scored by chance, and their export."""
    path = write_mixture(directory / "mixture", balance={"bootstrap": 200, **balance})
    recipe = load_recipe(path, changes)
    root = RunDir(directory / "run")
    pipeline.balance(pipeline.plan(recipe, root), Options(EXECUTOR))
    out = directory / "out"
    return Swarm(root, out, export(Order(recipe, root), "olmix", out))


@pytest.fixture(scope="module")
def standard(tmp_path_factory: pytest.TempPathFactory) -> Swarm:
    return swarm(tmp_path_factory.mktemp("standard"))


def test_ratios_include_the_sampling_of_the_recipe(tmp_path: Path) -> None:
    ratios = swarm(tmp_path, "optimization.sampling={ocr: 2}").table("ratios.csv")["mini@0"]
    assert ratios["ocr"] / ratios["vqa"] == pytest.approx(2, rel=0.2)  # of few whole records


def test_ratios_are_shares_of_the_records_of_a_run(standard: Swarm) -> None:
    ratios = standard.table("ratios.csv")
    assert list(ratios) == ["mini@0", *(f"full:{task}@0" for task in TASKS), "mini@1", "mini@2"]
    assert ratios["mini@0"] == ratios["mini@2"] == pytest.approx(dict.fromkeys(TASKS, 1 / 3))
    large, mini = TRAIN, TRAIN // 8
    for task in TASKS:
        expected = {
            other: (large if other == task else mini) / (large + 2 * mini) for other in TASKS
        }
        assert ratios[f"full:{task}@0"] == pytest.approx(expected)


def test_metrics_are_what_is_missing_to_a_perfect_score(standard: Swarm) -> None:
    metrics = standard.table("metrics.csv")
    assert list(metrics) == list(standard.table("ratios.csv")), "olmix joins the two by run"
    _, (matrix,) = matrices_of(standard.root)
    for run, errors in metrics.items():
        name, _, seed = run.partition("@")
        scores = matrix.values[matrix.row(replicate_name(name, int(seed) + 1))]
        assert errors == pytest.approx(
            {f"{t}:error": 1 - s for t, s in zip(matrix.tasks, scores, strict=True)}
        )
        assert min(errors.values()) >= 0


def test_the_configuration_names_the_columns(standard: Swarm) -> None:
    fit = yaml.safe_load((standard.out / "fit.yaml").read_text())
    assert fit["swarm"] == {"ratios": "ratios.csv", "metrics": "metrics.csv"}
    assert fit["priors"]["token_counts"] == dict.fromkeys(TASKS, TRAIN)
    columns = [name for names in fit["eval"]["tasks"].values() for name in names]
    assert columns == list(standard.table("metrics.csv")["mini@0"])
    assert fit["eval"]["type"] == "offline"
    assert standard.guide.command == "olmix fit --config fit.yaml --output-dir fitted"
    assert "differ in size" in standard.guide.text


def test_every_seed_is_a_run_and_runs_without_training_are_none(tmp_path: Path) -> None:
    exported = swarm(tmp_path, form="simple", seeds=[0, 3])
    runs = [f"solo:{task}@{seed}" for seed in (0, 3) for task in TASKS]
    assert list(exported.table("metrics.csv")) == runs
    assert exported.table("ratios.csv")["solo:vqa@3"] == {"ocr": 0.0, "vqa": 1.0, "count": 0.0}


def test_probes_must_be_done(tmp_path: Path) -> None:
    recipe = load_recipe(write_mixture(tmp_path / "mixture"))
    with raises(CotbalError, "no-run-directory", tmp_path / "run"):
        export(Order(recipe, RunDir(tmp_path / "run")), "olmix", tmp_path / "out")


def test_probes_must_be_those_of_the_recipe(standard: Swarm, tmp_path: Path) -> None:
    other = load_recipe(write_mixture(tmp_path / "mixture", tasks=TASKS[:2]))
    with raises(CotbalError, "other-tasks", standard.root.root, other.path):
        export(Order(other, standard.root), "olmix", tmp_path / "out")
