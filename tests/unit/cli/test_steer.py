"""`cotbal steer` as a user with a table of trials, or with a run directory, meets it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cotbal.cli.steer import floors_of
from cotbal.errors import CotbalError, RunError
from cotbal.response import choose_weights, fit_response, read_prediction
from cotbal.response.headroom import headroom
from cotbal.response.trials import read_trials
from cotbal.scores.weights_file import read_task_weights, read_weights
from cotbal.weightings import method_label
from helpers.commands import Command
from helpers.errors import a_line_names, names_all, raises
from helpers.pipeline_fakes import EXECUTOR
from helpers.simulated_trials import drawn_effects, trials_of

NAMES = ("vqa", "ocr", "chart", "caption")
ON = ("--on", EXECUTOR)
RUN = Path("runs/small")


@pytest.fixture
def trials(tmp_path: Path) -> Path:
    path = tmp_path / "trials.csv"
    path.write_text(trials_of(drawn_effects(4), noise=0.5, names=NAMES).to_csv())
    return path


def test_weights_changes_guards_and_headroom_are_printed(cotbal: Any, trials: Path) -> None:
    ended = cotbal("steer", "--trials", trials, "--goal", "ocr", "--floor", "-0.8%")
    assert ended.code == 0, ended.err
    for name in NAMES:
        assert name in ended.out
    assert ended.out.count("-0.8 ") >= 3
    response = fit_response(read_trials(trials))
    choice = choose_weights(response, "ocr", {"*": -0.8})
    for sentence in (choice.sentence, choice.headroom.sentence, response.check_sentence):
        assert sentence in ended.out


def test_json_holds_choice_and_response(cotbal: Any, trials: Path) -> None:
    ended = cotbal("steer", "--trials", trials, "--goal", "ocr, chart", "--json")
    content = json.loads(ended.out)
    assert content["goal"] == "ocr,chart"
    assert {guard["task"] for guard in content["guards"]} == {"vqa", "caption"}
    assert set(content["response"]["slopes"]["vqa"]) == set(NAMES)
    assert content["response"]["out_of_sample"]["mirrored_pairs"]
    assert content["headroom"]["gain"]["interval"][0] >= 0


def test_files_are_written_and_a_prediction_is_never_replaced(
    cotbal: Any, trials: Path, tmp_path: Path
) -> None:
    argv = ("steer", "--trials", trials, "--goal", "ocr,chart", "--out", "out")
    ended = cotbal(*argv)
    assert ended.code == 0, ended.err
    weights = tmp_path / "out" / "weights-ocr+chart.json"
    frozen = tmp_path / "out" / "prediction-ocr+chart.json"
    assert read_task_weights(weights) == read_weights(weights)
    assert np.mean(list(read_task_weights(weights).values())) == pytest.approx(1)
    prediction = read_prediction(frozen)
    assert prediction["weights"] == read_task_weights(weights)
    before = frozen.read_bytes()
    assert cotbal(*argv).code == 0
    assert frozen.read_bytes() == before, "its date is that of the first time"
    refused = cotbal(*argv, "--max-step", "0.3")
    assert refused.code == 2
    assert prediction["date"] in refused.err
    assert frozen.read_bytes() == before
    assert read_task_weights(weights) == prediction["weights"]


def test_equal_weights_are_an_answer(cotbal: Any, tmp_path: Path) -> None:
    (tmp_path / "flat.csv").write_text(trials_of(np.zeros((4, 4)), -3.0, 0.01).to_csv())
    content = json.loads(cotbal("steer", "--trials", "flat.csv", "--json").out)
    assert content["keep_equal"]
    assert set(content["weights"].values()) == {1.0}


def test_the_tables_of_olmix(cotbal: Any, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    ratios, rows = generator.dirichlet(5 * np.ones(3), 12), range(12)
    losses = 2 - ratios[:, :1] + 0.01 * generator.standard_normal((12, 1))
    mixtures = [f"r{i},{','.join(map(str, ratios[i]))}" for i in rows]
    (tmp_path / "ratios.csv").write_text("\n".join(["run_id,a,b,c", *mixtures]) + "\n")
    metrics = [f"r{i},{losses[i, 0]}" for i in rows]
    (tmp_path / "metrics.csv").write_text("\n".join(["run_id,a:loss", *metrics]) + "\n")
    ended = cotbal("steer", "--trials", ".", "--goal", "a:loss", "--out", "out")
    assert ended.code == 0, ended.err
    written = json.loads((tmp_path / "out" / "weights-a-loss.json").read_text())
    assert sum(written["ratios"].values()) == pytest.approx(1)
    assert written["weights"]["a"] > 1.2


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--goal", "ocrr"), "'ocr'"),
        (("--goal", ""), "vqa, ocr, chart, caption"),
        (("--floor", "low"), "--floor"),
        (("--floor", "charts=-1%"), "'chart'"),
        (("--floor", "2%"), "floor"),
        (("--max-step", "0"), "max_step"),
    ],
)
def test_wrong_options_are_one_sentence(
    cotbal: Any, trials: Path, options: tuple[str, ...], named: str
) -> None:
    ended = cotbal("steer", "--trials", trials, *options)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.count("\n") == 1
    assert named in ended.err


@pytest.mark.parametrize("kept", [5, 8])
def test_wrong_tables_are_one_sentence(
    cotbal: Any, trials: Path, tmp_path: Path, kept: int
) -> None:
    """Too few trials, and enough that do not separate the effects."""
    header, *lines = trials.read_text().splitlines()
    rows = (lines[:2] * 4)[:kept] if kept == 8 else lines[:kept]
    (tmp_path / "few.csv").write_text("\n".join([header, *rows]) + "\n")
    ended = cotbal("steer", "--trials", "few.csv")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.count("\n") == 1


def test_floors() -> None:
    assert floors_of([]) == {"*": -1.0}
    assert floors_of(["-2%", "chart=-0.5%", "a=b=none"]) == {"*": -2, "chart": -0.5, "a=b": None}
    assert floors_of(["none", "x=-.5"]) == {"*": None, "x": -0.5}
    with raises(CotbalError, "invalid-floor", "x=1e3"):
        floors_of(["x=1e3"])


def test_a_task_without_a_weight_is_guarded_and_has_no_weight(cotbal: Any, tmp_path: Path) -> None:
    trials = trials_of(drawn_effects(4), noise=0.5, names=NAMES)
    known = 0.5 * (1 - 0.02 * trials.doublings[:, :1])  # falls as the weight of vqa rises
    scores = np.concatenate([trials.scores, known], axis=1)
    table = replace(trials, scored=(*NAMES, "known"), scores=scores)
    (tmp_path / "trials.csv").write_text(table.to_csv())
    ended = cotbal("steer", "--trials", "trials.csv", "--goal", "vqa", "--out", "out")
    assert ended.code == 0, ended.err
    (line,) = (line.split() for line in ended.out.splitlines() if line.startswith("known"))
    response = fit_response(read_trials(tmp_path / "trials.csv"))
    assert names_all(response.mean_sentence, *NAMES, "known")
    assert response.mean_sentence in ended.out
    assert line[1:3] == ["-", "-"]
    assert line[-2] == "-1.0"
    assert float(line[-1]) >= -1.0
    assert set(read_task_weights(tmp_path / "out" / "weights-vqa.json")) == set(NAMES)
    assert "known" in read_prediction(tmp_path / "out" / "prediction-vqa.json")["predictions"]


@pytest.mark.parametrize(("floor", "guarded"), [("-1%", False), ("luck=-50%", True)])
def test_a_task_of_luck_is_guarded_where_a_floor_names_it(
    cotbal: Any, tmp_path: Path, floor: str, guarded: bool
) -> None:
    names = (*NAMES, "relation", "luck")
    noise = np.array([0.5] * 5 + [30.0])
    (tmp_path / "trials.csv").write_text(trials_of(drawn_effects(6), 0, noise, 0, names).to_csv())
    options = ("--trials", "trials.csv", "--goal", "vqa", "--floor", floor)
    shown = cotbal("steer", *options).out
    row, remark = (line for line in shown.splitlines() if "luck" in line)
    assert names_all(row, "-50.0") == guarded
    assert names_all(remark, "not measurable", "guarded as asked", "uncertain") == guarded
    assert names_all(remark, "not lowered") != guarded
    content = json.loads(cotbal("steer", *options, "--json").out)
    assert ("luck" in content["guarded_but_uncertain"]) == guarded
    assert ("luck" in content["not_guarded"]) != guarded
    assert content["not_lowered"] == ([] if guarded else ["luck"])
    assert ("luck" in {guard["task"] for guard in content["guards"]}) == guarded


@pytest.fixture
def tried(cotbal: Command, recipe_path: Path) -> Path:
    """A recipe whose trials are in `RUN`."""
    ended = cotbal("response", recipe_path, "response.fraction=1", *ON)
    assert ended.code == 0, ended.err
    assert f"cotbal steer {RUN} --goal" in ended.out
    return recipe_path


def test_from_a_run_directory_to_a_final_model(cotbal: Command, tried: Path) -> None:
    chosen = cotbal("steer", RUN, "--goal", "ocr", "--floor", "none")
    assert chosen.code == 0, chosen.err
    response = fit_response(read_trials(RUN / "response" / "trials.csv"))
    assert headroom(response, 1.0).sentence in chosen.out
    methods = ("--methods", "ew,steer:ocr")
    assert f"cotbal compare {RUN / 'recipe.yaml'} {' '.join(methods)} --out {RUN}" in chosen.out
    weights = RUN / "response" / "weights-ocr.json"
    assert str(weights) in chosen.out
    trained = cotbal("train", tried, "--weights", weights, *ON)
    assert trained.code == 0, trained.err
    job = json.loads((RUN / "final/steer-ocr/job.json").read_text())
    assert job["weights"] == read_task_weights(weights)
    assert not (RUN / "weights.json").exists()
    compared = cotbal("compare", RUN / "recipe.yaml", *methods, "--out", RUN, *ON)
    assert compared.code == 0, compared.err
    assert a_line_names(compared.out, "Prediction", "ocr", "20")
    assert method_label("steer:ocr") in compared.out
    finished = json.loads(cotbal("status", RUN, "--json").out)
    assert [state["run"] for state in finished if state["kind"] == "final"] == ["ew", "steer:ocr"]


def test_json_of_a_run_directory(cotbal: Command, tried: Path) -> None:
    content = json.loads(cotbal("steer", RUN, "--goal", "count,ocr", "--json").out)
    assert content["goal"] == "ocr,count"
    assert set(content["changes"]) == {"ocr", "vqa", "count", "chat"}
    assert Path(content["files"]["Weights"]) == RUN / "response" / "weights-ocr+count.json"
    worst = cotbal("steer", RUN, "--goal", "worst")
    assert "--alone" in worst.out, "how to get single-task models"


def test_run_with_a_steered_method(cotbal: Command, recipe_path: Path) -> None:
    arguments = ("--weighting", "ew", "--weighting", "steer", *ON)
    ended = cotbal("run", recipe_path, "response.fraction=1", *arguments)
    assert ended.code == 0, ended.err
    assert a_line_names(ended.out, "Prediction", "mean", "20")
    assert (RUN / "final/steer-mean/outcome.json").exists()
    assert not (RUN / "balance.json").exists()


def test_the_plan_of_a_steered_method_shows_its_trials(cotbal: Command, recipe_path: Path) -> None:
    shown = cotbal("compare", recipe_path, "--methods", "cotbal,steer:ocr", "--dry-run").out
    assert "trial:7" in shown
    assert a_line_names(shown, 8, "trials", 3, "pairs")
    assert a_line_names(shown, "optimizer steps", 5), "of a trial, and not of a probe"
    assert not RUN.exists()


def test_other_weights_than_those_of_the_goal(cotbal: Command, tried: Path, tmp_path: Path) -> None:
    other = tmp_path / "weights-ocr.json"
    other.write_text('{"ocr": 2.0, "vqa": 0.5, "count": 0.5}')
    arguments = ("train", tried, "--weights", other, *ON)
    ended = cotbal(*arguments, "--weighting", "steer:ocr")
    ended.expect(CotbalError, "conflicting-options", "steer:ocr")
    assert cotbal(*arguments).code == 0
    assert (RUN / "final/cotbal/outcome.json").exists()


def test_a_source_without_trials(cotbal: Command, trials: Path, tmp_path: Path) -> None:
    cotbal("steer").expect(CotbalError, "conflicting-options", "--trials")
    both = cotbal("steer", tmp_path, "--trials", trials)
    both.expect(CotbalError, "conflicting-options", "--trials")
    cotbal("steer", trials).expect(RunError, "unfinished-trials", trials, "cotbal response")
    cotbal("steer", "absent").expect(RunError, "unfinished-trials", "absent")
    assert not (tmp_path / "absent").exists()
