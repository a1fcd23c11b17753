"""`cotbal design`: from names of tasks to a table that `cotbal steer` reads when filled in."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from cotbal.errors import CotbalError, ScoresError
from cotbal.response import read_trials, two_level_design
from cotbal.scores.weights_file import read_task_weights
from helpers.commands import Command

TASKS = ("vqa", "ocr", "chart, bars")
OUT = Path("trials")


def filled_in(table: Path) -> Path:
    """The table with scores: every task gains 5 % per doubling of its own number."""
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for i, row in enumerate(rows):
        for column in row:
            if column.startswith("score:"):
                name = column.removeprefix("score:")
                number = float(row.get(f"weight:{name}") or row.get(f"ratio:{name}") or 1)
                row[column] = str(0.5 * (1 + 0.05 * np.log2(number)) + 1e-4 * (i % 3))
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return table


@pytest.mark.parametrize("lever", ["weights", "ratios"])
def test_the_table_leads_to_weights_for_a_goal(cotbal: Command, tmp_path: Path, lever: str) -> None:
    planned = cotbal("design", *TASKS, "--guard", "mmlu", "--lever", lever, "--out", OUT)
    assert planned.code == 0, planned.err
    table = tmp_path / OUT / "trials.csv"
    cotbal("steer", "--trials", table).expect(ScoresError, "missing-score", table, "32 of 32")
    trials = read_trials(filled_in(table))
    assert trials.tasks == TASKS
    assert trials.scored == (*TASKS, "mmlu")
    assert (trials.ratios is None) == (lever == "weights")
    chosen = cotbal("steer", "--trials", table, "--goal", "ocr", "--out", "steered")
    assert chosen.code == 0, chosen.err
    assert f"  {lever[:-1]}  " in chosen.out.splitlines()[0]
    assert "mmlu" in chosen.out
    assert read_task_weights(tmp_path / "steered" / "weights-ocr.json")["ocr"] > 1


def test_every_row_has_its_file_of_weights(cotbal: Command, tmp_path: Path) -> None:
    assert cotbal("design", *TASKS, "--seeds", "3,8,9", "--out", OUT).code == 0
    design = two_level_design(TASKS, seeds=(3, 8, 9))
    with (tmp_path / OUT / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["seed"]) for row in rows] == list(design.seeds)
    for row, weights in zip(rows, design.weights, strict=True):
        of_file = read_task_weights(tmp_path / OUT / row["file"])
        assert list(of_file) == list(TASKS)
        assert [*of_file.values()] == pytest.approx(weights.tolist(), abs=5e-5)
        assert [float(row[f"weight:{task}"]) for task in TASKS] == [*of_file.values()]


def test_rounding_leaves_mirrored_trials_mirrored(cotbal: Command, tmp_path: Path) -> None:
    """The slopes stay free of the curvature: the mean over a pair is equal weights."""
    assert cotbal("design", *TASKS, "--out", OUT).code == 0
    z = read_trials(filled_in(tmp_path / OUT / "trials.csv")).doublings
    assert np.abs(z[:-2:2] + z[1:-2:2]).max() < 5e-4


def test_without_out_it_prints_and_writes_nothing(cotbal: Command, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    ended = cotbal("design", "a", "b", "--noise", "3")
    assert ended.code == 0
    assert "0.4507" in cotbal("design", *TASKS).out
    smallest = np.nanmax(two_level_design(("a", "b")).detectable(3.0))
    assert f"{smallest:.1f} %" in ended.out
    assert set(tmp_path.iterdir()) == before


def test_too_few_trials_are_named(cotbal: Command) -> None:
    ended = cotbal("design", *"abcdefg", "--runs", "8")
    assert ended.code == 0
    assert two_level_design(tuple("abcdefg"), 8).aliasing in ended.out


def test_filled_tables_are_not_overwritten(cotbal: Command, tmp_path: Path) -> None:
    table = tmp_path / OUT / "trials.csv"
    table.parent.mkdir()
    table.write_text("mine")
    cotbal("design", *TASKS, "--out", OUT).expect(CotbalError, "existing-output", OUT)
    assert table.read_text() == "mine"
    assert list(table.parent.iterdir()) == [table]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("a",), "invalid-design"),
        (("a", "a"), "repeated-name"),
        (("a", "b", "--guard", "a"), "repeated-name"),
        (("a", " "), "invalid-name"),
        (("a", "b", "--runs", "7"), "invalid-design"),
        (("a", "b", "--runs", "8" * 30), "invalid-design"),
        (("a", "b", "--runs", "10002"), "invalid-design"),
        (("a", "b", "--step", "nan"), "invalid-design"),
        (("a", "b", "--seeds", "0,x"), "invalid-option"),
        (("a", "b", "--lever", "speed"), "invalid-option"),
        (("a", "b", "--noise", "0"), "invalid-option"),
    ],
)
def test_what_cannot_be_planned(cotbal: Command, arguments: tuple[str, ...], code: str) -> None:
    cotbal("design", *arguments).expect(CotbalError, code)
