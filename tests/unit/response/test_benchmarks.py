"""The published benchmarks of the response, small: what is claimed there holds here."""

from __future__ import annotations

import csv
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from helpers.scripts import BENCHMARKS, loaded


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    return loaded(BENCHMARKS / "response_simulation.py")


@pytest.fixture(scope="module")
def regmix() -> ModuleType:
    return loaded(BENCHMARKS / "response_regmix.py")


def test_the_best_possible_gain_is_that_of_a_parabola(simulation: ModuleType) -> None:
    truth = simulation.drawn_truth(0.75, np.random.default_rng(0))
    assert truth.best == pytest.approx(0.75**2 / 2, rel=1e-6)
    assert np.linalg.norm(truth.effects.mean(axis=1)) == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("gradient", "least"),
    [
        (1.5, 0.8),
        *(pytest.param(*case, marks=pytest.mark.extended) for case in ((0.0, -0.1), (3.0, 3.2))),
    ],
)
def test_the_choice_gains_where_there_is_headroom_and_never_harms(
    simulation: ModuleType, gradient: float, least: float
) -> None:
    numbers, shares = simulation.goal_of_mean(gradient, 15)
    assert numbers["gain"] > least
    assert numbers["harm"] <= 0.2 if gradient == 0 else numbers["harm"] == 0
    assert numbers["gain"] > numbers["random"]
    assert 0.90 <= shares["slopes"] <= 0.99
    assert 0.87 <= shares["shrunk effects"] <= 0.99
    assert shares["headroom"] >= 0.8
    if gradient > 0:
        assert shares["predicted changes"] >= 0.85
        assert shares["outcomes of 4 seeds"] >= 0.88


@pytest.mark.extended
def test_the_margin_keeps_guarded_tasks_above_their_floors(simulation: ModuleType) -> None:
    without, with_margin = (simulation.named_goal(1.0, margin, 20) for margin in (0.0, 1.0))
    assert without["below"] > 0.12
    assert with_margin["below"] < 0.5 * without["below"]
    assert with_margin["depth"] < 0.5 * without["depth"]
    assert with_margin["gain"] > 0.75 * without["gain"]


@pytest.mark.extended
def test_the_share_of_own_weights_pays_for_a_named_task(simulation: ModuleType) -> None:
    estimated, joint = (simulation.one_task(1.0, 1.0, 15, known) for known in (None, 0.0))
    assert estimated["inside"] >= 0.88 > joint["inside"]
    assert estimated["gain"] > joint["gain"] + 0.2
    promised = [n["predicted"] - n["gain"] for n in (estimated, joint)]
    assert promised[0] < 0.6 * promised[1]


def test_rank_correlations(regmix: ModuleType) -> None:
    first = np.array([[1.0, 3.0], [2.0, 2.0], [30.0, 1.0]])
    second = np.array([[0.1, 1.0], [0.2, 2.0], [0.3, 3.0]])
    assert regmix.rank_correlations(first, second).tolist() == pytest.approx([1, -1])


def test_a_log_linear_law_is_found_on_tables_of_mixtures(
    regmix: ModuleType, tmp_path: Path
) -> None:
    generator = np.random.default_rng(0)
    domains = ("arxiv", "github", "books", "web")
    slopes = generator.normal(0, 0.1, (4, 2)) - 0.3 * np.eye(4, 2)
    for kind in ("train", "test"):
        ratios = generator.dirichlet(np.ones(4), 40).round(3)
        losses = 4 + np.log(ratios + 0.001) @ slopes
        losses += generator.normal(0, 0.01, losses.shape)
        columns = [f"train_the_pile_{name}" for name in domains]
        write(tmp_path / f"{kind}_mixture_1m.csv", columns, ratios)
        scored = [f"metric/the_pile_{name}_val_loss" for name in domains[:2]]
        write(tmp_path / f"{kind}_pile_loss_1m.csv", scored, losses)
    train, test = (regmix.read(tmp_path, kind, "1m") for kind in ("train", "test"))
    assert (train.domains, train.scored) == (domains, domains[:2])
    (correlation,) = regmix.correlations(train, (test,), 30, 0)
    assert correlation > 0.95


def write(path: Path, header: list[str], values: np.ndarray) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["index", *header])
        writer.writerows([i, *row] for i, row in enumerate(values.tolist()))
