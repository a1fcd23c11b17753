"""Methods side by side on a tiny mixture, by the real worker: the simple form, single-task models,
cheaper probes.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cotbal.report.contents import read_contents
from cotbal.report.losses import weight_panels
from cotbal.scores.matrix import read_scores
from cotbal.scores.results import read_results
from helpers.shell import cotbal
from helpers.tiny_vlm import mixture

pytestmark = pytest.mark.extended

TASKS = {"color": 1, "paint": 2}

SETTINGS = (
    "balance.form=simple",
    "weightings.dwa={window: 1, temperature: 0.5}",
    "probes.optimization={learning_rate: 3.0e-3}",
)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("comparison")
    recipe = mixture(root / "data", TASKS)
    methods = ("--methods", "stl,ew,dwa,cotbal")
    cotbal("compare", recipe, *SETTINGS, *methods, "--out", root / "run", "--on", "inline")
    return root / "run"


def test_the_base_is_scored_as_it_is(compared: Path) -> None:
    outcome = json.loads((compared / "probes/base/outcome.json").read_text())
    assert (outcome["steps"], outcome["records"], outcome["seconds"]["training"]) == (0, 0, 0)
    matrix = read_scores(compared / "scores.csv")
    of_tasks = [(f"solo:{task}", f"solo-mini:{task}") for task in ("color", "paint")]
    assert matrix.runs == ("base", *of_tasks[0], *of_tasks[1])
    assert matrix.values[0].shape == (2,)
    assert json.loads((compared / "balance.json").read_text())["form"] == "simple"


def test_single_task_models_are_trained_like_final_ones_and_probes_as_configured(
    compared: Path,
) -> None:
    """Probes have another learning rate here, so they cannot stand for STL."""
    rates = {}
    for run in ("probes/solo-color", "final/stl-color", "final/ew"):
        identity = json.loads((compared / run / "job.json").read_text())["identity"]
        rates[run] = identity["optimization.learning_rate"]
        assert (compared / run / "outcome.json").exists()
    assert rates == {"probes/solo-color": 0.003, "final/stl-color": 0.01, "final/ew": 0.01}


def test_dynamic_weights_move_and_are_logged(compared: Path) -> None:
    lines = (compared / "final/dwa/training.jsonl").read_text().splitlines()
    weights = [json.loads(line)["weights"] for line in lines]
    assert weights[0] == {"color": 1.0, "paint": 1.0}
    assert weights[-1] != weights[0]
    for step in weights:
        assert sum(step.values()) == pytest.approx(2, rel=1e-6)
    page = (compared / "report/index.html").read_text()
    losses = page.partition('<section id="losses">')[2].partition("</section>")[0]
    panels = weight_panels(read_contents(compared))
    assert panels
    assert all(panel in losses for panel in panels)


def test_the_tables_are_there(compared: Path) -> None:
    results = read_results(compared / "comparison/results.csv")
    assert results.methods == ("STL", "EW", "DWA", "CoTBal")
    assert results.tasks == tuple(TASKS)
