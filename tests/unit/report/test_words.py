"""Words follow knowledge: where the noise of training is not known, no output calls anything about
training significant, and none gives a confidence level.
"""

from __future__ import annotations

import dataclasses
import html
import re
import shutil

import numpy as np
import pytest

from cotbal.balance import Settings, weight_draws
from cotbal.balance.agreement import agreement
from cotbal.balance.result import NOT_MEASURABLE
from cotbal.cli import console
from cotbal.cli.agree import show_agreement
from cotbal.cli.balance import show_balance
from cotbal.cli.compare import show_comparison
from cotbal.cli.curve import show_curve
from cotbal.data.files import read_json, write_json
from cotbal.jobs.rundir import RunDir
from cotbal.report import write_comparison, write_curve, write_report
from cotbal.report.comparison import Against, Comparison, Row
from cotbal.report.contents import read_contents
from cotbal.report.formatting import MINUS, bracket
from cotbal.report.models import compare_all
from cotbal.report.summary import summary
from cotbal.scores.interval import CONFIDENCE, SAMPLING_ONLY, Interval, significance
from cotbal.scores.matrix import Samples, ScoreMatrix, matrix_of_samples
from helpers.errors import names_all

CLAIMS = re.compile(r"distinguish|significan|clearly|\b95\s*%|excludes", re.IGNORECASE)
VERDICTS = (
    significance(True, "1"),
    significance(False, "1"),
    significance(True, "1", plural=True),
    significance(False, "1", plural=True),
)
CONFIDENT = f"{CONFIDENCE:.0%}".replace("%", " %")
Shown = pytest.CaptureFixture[str]


def prose_of(page: str) -> str:
    """What the page shows, tool tips and names for screen readers included."""
    without_style = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    names = re.findall(r'aria-label="([^"]*)"', without_style)
    return html.unescape(re.sub(r"<[^>]*>", " ", without_style) + " ".join(names))


def outputs(files: RunDir, capsys: Shown) -> dict[str, str]:
    """Everything that a run directory gives to read, by name."""
    show_comparison(write_comparison(files.root))
    comparison = capsys.readouterr().out
    show_curve(write_curve(files.root))
    curve = capsys.readouterr().out
    result = read_contents(files.root).balance
    assert result is not None
    show_balance(result)
    weights = capsys.readouterr().out
    page = write_report(files.root).read_text()
    return {
        "page": prose_of(page),
        "markdown": (files.report / "tables.md").read_text(),
        "balance.json": files.balance.read_text(),
        "comparison.json": (files.comparison / "comparison.json").read_text(),
        "curve.json": files.curve_numbers.read_text(),
        "weights on the console": weights,
        "comparison on the console": comparison,
        "curve on the console": curve,
    }


def looks(page: str) -> set[str]:
    """Classes of the marks that show intervals and verdicts."""
    matches = re.findall(r'class="((?:whisker|span|dot|center middle strong)\b[^"]*)"', page)
    return set(matches)


def test_one_seed_claims_nothing(job: RunDir, capsys: Shown) -> None:
    shown = outputs(job, capsys)
    claims = {name: CLAIMS.findall(text) for name, text in shown.items() if CLAIMS.search(text)}
    assert claims == {}
    for name in ("page", "markdown", "weights on the console", "curve on the console"):
        assert SAMPLING_ONLY in shown[name]
    for name in ("page", "markdown", "weights on the console"):
        assert "balance.replicates" in shown[name]
        assert "balance.seeds" in shown[name]
    for name in ("page", "comparison on the console"):
        assert "cotbal compare RECIPE --methods ew,cotbal --seeds 0,1,2" in shown[name]
    assert "cotbal curve RECIPE --seeds 0,1,2" in shown["curve on the console"]


def test_marks_of_one_seed_have_a_style_of_their_own(job: RunDir) -> None:
    page = write_report(job.root).read_text()
    assert looks(page) == {
        "whisker samples",
        "span ours samples",
        "span baseline samples",
        "dot hollow",
    }


def test_replicates_and_seeds_allow_verdicts(replicated: RunDir, capsys: Shown) -> None:
    shown = outputs(replicated, capsys)
    for name in ("page", "markdown", "balance.json", "weights on the console"):
        assert any(verdict in shown[name] for verdict in VERDICTS)
    for name in ("page", "markdown", "curve on the console", "comparison on the console"):
        assert CONFIDENT in shown[name]
    assert not [name for name, text in shown.items() if SAMPLING_ONLY in text]
    marks = looks(write_report(replicated.root).read_text())
    assert {"whisker", "span ours", "dot", "dot hollow", "center middle strong"} <= marks
    assert not [mark for mark in marks if "samples" in mark]


def test_json_says_what_intervals_hold(job: RunDir, replicated: RunDir, capsys: Shown) -> None:
    for files, holds, differs in (
        (job, ["samples"], {None}),
        (replicated, ["samples", "training"], {True, False}),
    ):
        outputs(files, capsys)
        comparison = read_json(files.comparison / "comparison.json")
        improvement = comparison["against"]["CoTBal"]["improvement"]
        assert improvement["holds"] == holds
        changes = [row["methods"]["CoTBal"] for row in comparison["scores_minus_EW"]]
        assert {change["differs_from_zero"] for change in changes} == differs
        point = read_json(files.curve_numbers)["tasks"]["ocr"]["mixture"]["1/8"]
        assert point["holds"] == holds
        assert read_json(files.balance)["noise"] == holds


def test_not_measurable_is_the_answer(job: RunDir, capsys: Shown) -> None:
    content = read_json(job.balance)
    content["measurable"] = False
    content["parts"]["all"] = [1.0] * len(content["units"])
    content["part_intervals"]["all"] = [[None, None]] * len(content["units"])
    write_json(job.balance, content)
    shown = outputs(job, capsys)
    for name in ("page", "markdown", "weights on the console"):
        assert NOT_MEASURABLE in shown[name]
        assert not CLAIMS.search(shown[name])


def scores(training: int, replicates: int) -> ScoreMatrix:
    """Two tasks, each helped by its own data."""
    random = np.random.default_rng([training, 5])
    rows = ["mini", *(f"mini#{n}" for n in range(2, replicates + 1)), "full:a", "full:b"]
    levels = {"a": {"full:a": 0.8}, "b": {"full:b": 0.7}}
    columns = {}
    for task, level in levels.items():
        chances = np.array([level.get(row, 0.3) for row in rows]) + random.normal(
            0, 0.02, len(rows)
        )
        easy = np.random.default_rng(3).uniform(size=200)
        columns[task] = Samples((easy < chances[:, None]).astype(float), np.arange(200), 1.0)
    return matrix_of_samples(rows, columns)


@pytest.mark.parametrize(("replicates", "known"), [((3, 3), True), ((3, 1), False)])
def test_agreement_knows_the_noise_that_both_know(
    replicates: tuple[int, int], known: bool, capsys: Shown
) -> None:
    draws = [
        weight_draws(scores(k, count), settings=Settings(bootstrap=100))
        for k, count in enumerate(replicates)
    ]
    show_agreement(agreement(*draws, "ab"))
    shown = capsys.readouterr().out
    assert bool(CLAIMS.search(shown)) is known
    assert (SAMPLING_ONLY in shown) is not known


def test_noise_of_replicates_stands_beside_one_seed(replicated: RunDir, job: RunDir) -> None:
    shutil.copy(replicated.balance, job.balance)
    contents = read_contents(job.root)
    assert contents.balance is not None
    noise = compare_all(contents).seed_noise
    assert noise is not None
    rows = {row.task: row.scores["ew"] for row in compare_all(contents).rows}
    deviation = contents.balance.training_noise["ocr"].value
    assert noise.per_task["ocr"] == pytest.approx(100 * 2**0.5 * deviation / rows["ocr"])
    values = np.array(list(noise.per_task.values()))
    assert noise.low == pytest.approx(np.sqrt((values**2).sum()) / 7)
    assert noise.high == pytest.approx(values.mean())
    page = prose_of(write_report(job.root).read_text())
    assert f"{noise.low:.1f} to {noise.high:.1f} %" in page


def test_seeds_of_one_method_stand_beside_one_seed_of_another(
    replicated: RunDir, job: RunDir
) -> None:
    shutil.rmtree(job.root)
    shutil.copytree(replicated.root, job.root)
    for seed in (1, 2):
        shutil.rmtree(job.seeded(seed).final("cotbal").root)
    comparison = compare_all(read_contents(job.root))
    assert comparison.seeds == (0,)
    noise = comparison.seed_noise
    assert noise is not None
    ew = []
    for files in (job, job.seeded(1), job.seeded(2)):
        content = read_json(files.final("ew").scores("ocr", "test"))
        ew.append(content["metrics"]["exact_match"]["score"])
    expected = 100 * 2**0.5 * np.std(ew, ddof=1) / ew[0]
    assert noise.per_task["ocr"] == pytest.approx(expected)
    assert noise.low == noise.high
    assert noise.source == "3 seeds of EW"


def test_several_seeds_need_no_noise_beside_them(replicated: RunDir) -> None:
    assert compare_all(read_contents(replicated.root)).seed_noise is None


def test_seeds_too_few_for_an_interval_give_no_verdict(replicated: RunDir, capsys: Shown) -> None:
    """With two seeds, draws can put a score that a change is measured against at 0 or below."""
    change = Against({"ocr": Interval(-1.0)}, average=Interval(-1.35), error=Interval(3.5))
    row = Row("ocr", "test", "exact_match", {"ew": 0.5, "cotbal": 0.4}, {"cotbal": Interval(-0.1)})
    comparison = Comparison(("ew", "cotbal"), (0, 1), "ew", (row,), {"cotbal": change})
    text = summary(read_contents(replicated.root), comparison)[-1]
    assert names_all(text, f"{MINUS}1.35 %", "2 training seeds")
    assert not CLAIMS.search(text)
    assert change.average.verdict() not in text
    assert bracket(change.average) not in text
    console.show_noise(comparison.seeds, [change.average])
    shown = capsys.readouterr().out
    assert names_all(shown, "0, 1")
    assert not CLAIMS.search(shown)
    assert SAMPLING_ONLY not in shown


def test_models_of_a_method_that_nobody_asked_for_are_not_missing(replicated: RunDir) -> None:
    contents = read_contents(replicated.root)
    steered = Comparison(("ew", "steer:ocr"), (0,), "ew", (), {})
    assert "CoTBal" in summary(contents, steered)[-1]
    without = dataclasses.replace(contents, balance=None)
    assert not any("CoTBal" in sentence for sentence in summary(without, steered)[1:])
