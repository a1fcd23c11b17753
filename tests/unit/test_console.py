from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from cotbal.balance import Need, Settings, balance
from cotbal.balance.improvement import Overall
from cotbal.benchmarks.releases.writing import Expected, SplitSummary
from cotbal.cli import console
from cotbal.cli.balance import show_balance
from cotbal.cli.check import show_check
from cotbal.cli.compare import show_comparison
from cotbal.cli.overall import show_overall
from cotbal.cli.plan import show_plan
from cotbal.cli.prepare import show_prepared
from cotbal.cli.status import show_status
from cotbal.cli.train import show_final
from cotbal.data.checks.check import CheckReport, SplitReport
from cotbal.data.files import write_json
from cotbal.data.reading.record import Problem
from cotbal.jobs.plan import Plan, Planned
from cotbal.jobs.status import State
from cotbal.recipe.mixture import Mixture, Task
from cotbal.recipe.runs import Run
from cotbal.report.comparison import Comparison
from cotbal.report.flags import flag_table
from cotbal.scores.interval import significance
from cotbal.scores.matrix import Samples, ScoreMatrix
from cotbal.training.run_paths import RunPaths
from helpers.errors import a_line_names, names_all

Shown = pytest.CaptureFixture[str]


def matrix(samples: bool) -> ScoreMatrix:
    values = np.array([[0.2, 0.4], [0.7, 0.4], [0.3, 0.4]])
    rights = (np.arange(100) / 100 < values[..., None]).astype(float)
    columns = (
        {t: Samples(rights[:, j], np.arange(100), 1.0) for j, t in enumerate("ab")}
        if samples
        else {}
    )
    return ScoreMatrix(("mini", "full:a", "full:b"), ("a", "b"), values, columns)


def with_replicates() -> ScoreMatrix:
    """Both tasks gain from their own data, and the mini probe was trained three times."""
    rows = ("mini", "mini#2", "mini#3", "full:a", "full:b")
    levels = np.array([[0.2, 0.4], [0.23, 0.37], [0.19, 0.41], [0.7, 0.45], [0.3, 0.8]])
    rights = (np.arange(100) / 100 < levels[..., None]).astype(float)
    columns = {t: Samples(rights[:, j], np.arange(100), 1.0) for j, t in enumerate("ab")}
    return ScoreMatrix(rows, ("a", "b"), levels, columns)


def test_balance_with_intervals(capsys: Shown) -> None:
    result = balance(matrix(True), settings=Settings(bootstrap=200))
    show_balance(result)
    shown = capsys.readouterr().out
    row = next(line for line in shown.splitlines() if line.startswith("b "))
    assert f"{result.weights['b']:.4f}" in row
    assert "n/a" in row, "what b receives is not identified"
    assert "temperature 0.5" in shown


def test_intervals_of_weights(capsys: Shown) -> None:
    result = balance(with_replicates(), settings=Settings(bootstrap=200))
    show_balance(result)
    shown = capsys.readouterr().out
    for unit in result.units:
        weight = result.weight(unit)
        row = next(line for line in shown.splitlines() if line.startswith(f"{unit} "))
        assert f"{weight.low:.3f} to {weight.high:.3f}" in row
        assert (significance(False, "1") in row) is not weight.differs(1)


def test_flags_are_a_table(capsys: Shown) -> None:
    result = balance(matrix(True), settings=Settings(bootstrap=200))
    show_balance(result)
    lines = capsys.readouterr().out.splitlines()
    for task, *words in flag_table(result).rows:
        row = next(line for line in lines if line.startswith(f"{task} ") and words[0] in line)
        assert words[1] in row


def test_balance_of_a_bare_table(capsys: Shown) -> None:
    show_balance(balance(matrix(False)))
    shown = capsys.readouterr().out
    assert "warning" in shown
    assert "samples" in shown
    assert significance(False, "1") not in shown


def test_plan(capsys: Shown) -> None:
    paths = RunPaths(Path("x"))
    first, again = (
        Run("full:ocr", {}, "ew", ("ocr",), (), 0),
        Run("cotbal", {}, "cotbal", (), ("ocr",), 1),
    )
    probe = Planned(first, "probe", paths, "full:ocr", 320, 1234.4, 80, 0.25, 75.0)
    final = Planned(again, "final", paths, "cotbal, seed 1", 1280, None, 40, 1.0, None)
    show_plan(Plan("standard", (probe, final), 1, 1280, 1280), ["few [records] here"])
    shown = capsys.readouterr().out
    row = next(line for line in shown.splitlines() if line.startswith("full:ocr"))
    assert row.split() == ["full:ocr", "probe", "320", "1234", "80", "0.250", "1", "min", "15", "s"]
    assert "cotbal, seed 1" in shown
    assert "final CoTBal" in shown
    assert a_line_names(shown, "0.25 x")
    assert "few [records] here" in shown


@pytest.mark.parametrize("width", [20, 40, 80, 160])
def test_a_narrow_terminal_cuts_no_number_and_no_name(
    capsys: Shown, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setattr(console, "out", Console(highlight=False, width=width))
    result = balance(matrix(True), settings=Settings(bootstrap=200))
    show_balance(result)
    run = Run("full:a-task-of-a-long-name", {}, "ew", ("ocr",), (), 0)
    planned = Planned(
        run,
        "probe",
        RunPaths(Path("x")),
        "full:a-task-of-a-long-name, seed 1",
        3200,
        1234567.4,
        80,
        0.25,
        None,
    )
    show_plan(Plan("standard", (planned,), 1, 1280, 1280), [])
    shown = capsys.readouterr().out
    assert "…" not in shown
    for whole in (
        f"{result.weights['b']:.4f}",
        "difficulty",
        "full:a-task-of-a-long-name, seed 1",
        "1234567",
        "0.250",
    ):
        assert whole in shown


def test_remarks_of_a_status_begin_below_one_another(capsys: Shown) -> None:
    states = [
        State("mini", "probe", "failed", "no space left on the device"),
        State("cotbal", "final", "done", "3 s"),
    ]
    show_status(states)
    _, first, second = capsys.readouterr().out.splitlines()
    assert first.index("no space") == second.index("3 s")


@pytest.mark.parametrize(("expected", "said"), [(Expected(), False), (Expected(records=3), True)])
def test_what_was_prepared_is_held_against_what_is_known(
    capsys: Shown, expected: Expected, said: bool
) -> None:
    """Of data of the user's own nothing is expected, and nothing is said to be as expected."""
    show_prepared([SplitSummary("vqa", "train", "own", "a.jsonl", 9, 3, 3, 3, 0, 0, expected, {})])
    assert capsys.readouterr().out.endswith(": 1 of 1\n") is said


def test_what_a_weight_needs_is_shown_where_its_interval_includes_one(capsys: Shown) -> None:
    result = balance(with_replicates(), settings=Settings(bootstrap=200))
    show_balance(result)
    shown = capsys.readouterr().out
    assert len(result.needs) == len(result.units)
    for need in result.needs:
        assert (need.sentence() in shown) is not result.weight(need.unit).differs(1)
    assert a_line_names(shown, result.form, result.difficulty_form, result.temperature)
    hopeless = Need("ocr", 0.1, 0.2, 0.2, None, None)
    assert not re.search(r"\d ", hopeless.sentence()), "no number would be enough"
    costly = Need("ocr", 1.0, 1.0, 1.0, 4.0, 7)
    assert names_all(costly.sentence(), "ocr", "4.0", 7)


def test_overall(capsys: Shown) -> None:
    show_overall({"EW": Overall(7.304225, 0.1026, {"vqa": 1.0, "[b]": -0.5})}, "STL")
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("EW"))
    assert row.split() == ["EW", "7.30", "0.10", "1.00", "-0.50"]


def test_comparison_without_a_reference(capsys: Shown) -> None:
    show_comparison(Comparison(("cotbal",), (0,), None, (), {}, {}, {}, ()))
    assert "compare with stl or ew" in capsys.readouterr().out


def test_status(capsys: Shown) -> None:
    states = ("done", "running", "failed", "interrupted", "missing")
    show_status([State(f"run-{s}", "probe", s, f"detail [of] {s}") for s in states])  # type: ignore[arg-type]
    lines = capsys.readouterr().out.splitlines()
    for state in states:
        row = next(line for line in lines if line.startswith(f"run-{state} "))
        assert row.split()[1:] == ["probe", state, "detail", "[of]", state]


def test_check(capsys: Shown) -> None:
    split = SplitReport("ocr", "train", "t.jsonl", 12, 14, 6, 3, 1, 1, 1, 0, 99, 80, 70, 2)
    problem = Problem(Path("t.jsonl"), 7, "expected [/an answer]; found an empty one", "empty-text")
    show_check(CheckReport((problem,), ("a [bold]warning",), (split,)))
    shown = capsys.readouterr().out
    row = next(line for line in shown.splitlines() if line.startswith("ocr "))
    assert row.split()[2:] == ["12", "14", "6", "1", "1", "1", "0", "80", "70", "2"]
    assert "expected [/an answer]; found an empty one" in shown
    assert "a [bold]warning" in shown
    assert names_all(shown.splitlines()[-1], 1, "error", 1, "warning")
    show_check(CheckReport((), (), (split,)))
    assert names_all(capsys.readouterr().out.splitlines()[-1], "error", 0, "warning")


def test_thousands_of_problems_are_a_few_lines(capsys: Shown) -> None:
    """The folder, the first of them and how many there are; others are not lost among them."""
    gone = [
        Problem(Path("t.jsonl"), n, f"missing image /data/gone/{n}.png", "missing-image")
        for n in range(1, 5006)
    ]
    other = Problem(Path("t.jsonl"), 17, "conversations[1].value: expected an answer", "empty-text")
    dropped = [f"dropped: t.jsonl, record {n}: broken image /d/{n}.png: cut" for n in range(900)]
    show_check(CheckReport((*gone[:16], other, *gone[16:]), tuple(dropped), ()))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 16
    shown = "\n".join(lines)
    assert a_line_names(shown, "record 3", "/data/gone/3.png")
    assert a_line_names(shown, "5,002", "5,005", "/data/gone/")
    assert a_line_names(shown, other)
    assert a_line_names(shown, "897", "900", "/d/")
    assert names_all(lines[-1], 5006, "error", 900, "warning")


def test_final(capsys: Shown, tmp_path: Path) -> None:
    task = Task(
        "ocr",
        Path("t"),
        Path("v"),
        {"A": Path("a"), "B": Path("b")},
        "exact_match",
        ("exact_match", "cider"),
    )
    paths = RunPaths(tmp_path / "cotbal")
    for split in task.test:
        scores = {"exact_match": {"score": 0.5}, "cider": {"score": 1.23456}}
        write_json(paths.scores("ocr", split), {"metrics": scores})
    show_final(Mixture((task,)), paths)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "CoTBal on test"
    rows = [line.split() for line in lines if line.startswith("ocr")]
    assert rows == [
        ["ocr", s, m, n] for s in "AB" for m, n in (("exact_match", "0.5000"), ("cider", "1.2346"))
    ]


def test_long_tables_are_not_cut_in_a_pipe(capsys: Shown) -> None:
    name = "a_task_with_quite_a_long_name_" * 3
    show_status([State(f"full:{name}", "probe", "done", "12 s")])
    assert f"full:{name}" in capsys.readouterr().out


def test_names_of_runs_are_no_emoji(capsys: Shown) -> None:
    console.out.print("full:chart: 1, :key:")
    assert "full:chart: 1, :key:" in capsys.readouterr().out
