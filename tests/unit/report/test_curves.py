"""Score against the fraction of the data: the numbers, on the page and in the tables."""

from __future__ import annotations

import html
import re
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from cotbal.data.files import read_json, write_json
from cotbal.errors import RunError
from cotbal.jobs.rundir import RunDir
from cotbal.report import write_curve, write_report
from cotbal.report.contents import read_contents
from cotbal.report.curve_views import fraction_text, sentences, tables
from cotbal.report.curves import DataCurves, data_curves
from cotbal.report.formatting import THIN_SPACE
from cotbal.report.markdown import inert
from cotbal.report.model_tables import cost_table
from cotbal.report.models import compare_all
from cotbal.report.summary import NO_PROBES, summary
from cotbal.scores.matrix import read_scores
from helpers.errors import names_all, raises

SMALL, WHOLE = Fraction(1, 32), Fraction(1)


def of(files: RunDir) -> DataCurves:
    curves = data_curves(read_contents(files.root))
    assert curves is not None
    return curves


def rescore(
    files: RunDir, run: str, task: str, samples: np.ndarray, clusters: np.ndarray | None = None
) -> None:
    """Give the answers of one run to one task other scores, and no constant answer."""
    path = files.curve(run).scores(task, "validation")
    content = read_json(path)
    (metric,) = content["metrics"].values()
    metric |= {"samples": samples.tolist(), "score": float(samples.mean())}
    metric["constant_samples"] = None
    content |= {
        "n": len(samples),
        "clusters": content["clusters"] if clusters is None else clusters.tolist(),
    }
    write_json(path, content)


def second_seed(files: RunDir, *runs: str, change: float = 0.0) -> None:
    """The same runs with seed 1, their scores lower by `change`; planned beside the others."""
    plan = read_json(files.plan)
    for run in runs:
        entry = next(planned for planned in plan["runs"] if planned["name"] == run)
        shutil.copytree(files.root / entry["directory"], files.root / "seed-1" / entry["directory"])
        plan["runs"].append({**entry, "seed": 1, "directory": f"seed-1/{entry['directory']}"})
        for path in (files.root / "seed-1" / entry["directory"] / "scores").iterdir():
            content = read_json(path)
            for metric in content["metrics"].values():
                metric["samples"] = (np.array(metric["samples"]) - change).tolist()
            write_json(path, content)
    write_json(files.plan, plan)


def test_every_number_is_the_mean_of_its_samples(finished: RunDir) -> None:
    curves = of(finished)
    assert curves.fractions == tuple(Fraction(1, n) for n in (32, 16, 8, 4, 2, 1))
    for curve in curves.tasks:
        for fraction, measured in curve.mixture.items():
            content = read_json(
                finished.curve(f"fraction:{fraction}").scores(curve.task, "validation")
            )
            assert measured.value == pytest.approx(
                np.mean(content["metrics"][curve.metric]["samples"])
            )
            assert measured.low < measured.value < measured.high
        assert tuple(curve.alone) == (SMALL, Fraction(1, 4), WHOLE)
    assert curves.tasks[1].records[Fraction(1, 8)] == 47_000 // 8


def test_the_share_is_paired(finished: RunDir) -> None:
    """All models answer the same samples, so their common noise cancels in the share."""
    for curve in of(finished).tasks:
        assert curve.reached is not None
        assert curve.reached.value == pytest.approx(
            curve.mixture[SMALL].value / curve.mixture[WHOLE].value
        )
        assert curve.reached.low < curve.reached.value < curve.reached.high < 1
        apart = (
            curve.mixture[SMALL].high / curve.mixture[WHOLE].low
            - curve.mixture[SMALL].low / curve.mixture[WHOLE].high
        )
        assert 2 * curve.reached.half_width < 0.8 * apart


def test_a_share_of_nothing_is_not_given(job: RunDir) -> None:
    rescore(job, "fraction:1", "ocr", np.zeros(120))
    rescore(
        job, "fraction:1", "vqa", np.eye(120)[0]
    )  # one right answer of 120: some draws hold it not at all
    curves = of(job)
    assert {curve.task for curve in curves.tasks if curve.reached is None} == {"ocr", "vqa"}
    sentence = next(sentence for sentence in sentences(curves) if sentence.startswith("ocr"))
    assert "%" not in sentence


def test_seeds_are_averaged_and_their_noise_is_joined(job: RunDir) -> None:
    before = of(job)
    runs = [run for run in before.mean.runs if run.startswith("fraction")]
    second_seed(job, *runs, change=0.1)
    for path in (job.root / "curve").glob("alone-*"):
        shutil.rmtree(path)
    curves = of(job)
    assert tuple(curves.matrices) == (0, 1)
    for one, two in zip(before.tasks, curves.tasks, strict=True):
        assert two.mixture[SMALL].value == pytest.approx(one.mixture[SMALL].value - 0.05)
        assert two.mixture[SMALL].half_width > one.mixture[SMALL].half_width
        assert two.reached is not None, (
            "two seeds give wide intervals, and the share has one nevertheless"
        )
        assert two.reached.half_width > (one.reached.half_width if one.reached else 0)
    write_curve(job.root)
    by_seed = [read_scores(job.seeded(seed).curve_table).values for seed in (0, 1)]
    np.testing.assert_allclose(read_scores(job.curve_table).values, np.mean(by_seed, axis=0))


def test_what_not_every_seed_has_is_named(job: RunDir) -> None:
    second_seed(job, "fraction:1", "fraction:1/2")
    curves = of(job)
    assert tuple(curves.matrices) == (0,), (
        "six fractions of one seed are more than two of two seeds"
    )
    assert set(curves.left_out) == {"fraction:1, seed 1", "fraction:1/2, seed 1"}
    assert "; ".join(curves.left_out) in write_report(job.root).read_text()
    for run in curves.mean.runs:
        if run not in ("fraction:1", "fraction:1/2", "fraction:1/4"):
            shutil.rmtree(job.curve(run).root)
    curves = of(job)
    assert tuple(curves.matrices) == (0, 1)
    assert curves.fractions == (Fraction(1, 2), WHOLE)
    assert curves.left_out == ("fraction:1/4, seed 0",)


def test_answers_to_other_samples_are_not_mixed_in(job: RunDir) -> None:
    """A validation set that changed between two commands."""
    rescore(job, "fraction:1", "ocr", np.ones(50), np.arange(50))
    second_seed(job, *(run for run in of(job).mean.runs if run != "fraction:1"))
    rescore(job, "fraction:1/32", "vqa", np.ones(50), np.arange(50))
    curves = of(job)
    ocr = next(curve for curve in curves.tasks if curve.task == "ocr")
    assert WHOLE not in ocr.mixture
    assert tuple(curves.matrices) == (0,)
    cells = next(row for row in tables(curves)[0].rows if row[0] == "ocr")
    assert cells[7] == "\N{EN DASH}"


def test_without_a_curve_there_is_no_section(job: RunDir) -> None:
    shutil.rmtree(job.root / "curve")
    assert data_curves(read_contents(job.root)) is None
    page = write_report(job.root).read_text()
    assert 'id="curve"' not in page
    with raises(RunError, "no-finished-run", job.root):
        write_curve(job.root)


def test_without_recipe_or_plan_the_curves_are_still_there(job: RunDir) -> None:
    job.recipe.unlink()
    job.plan.unlink()
    curves = of(job)
    assert len(curves.fractions) == 6
    assert {curve.metric for curve in curves.tasks} == {"cider", "exact_match", "box_iou"}
    assert all(curve.records == {} for curve in curves.tasks)
    assert len(tables(curves)) == 1


def test_one_fraction_has_no_share(job: RunDir) -> None:
    for path in (job.root / "curve").iterdir():
        if path.name != "fraction-1":
            shutil.rmtree(path)
    curves = of(job)
    assert sentences(curves) == []
    assert tables(curves)[0].header == ("task", "metric", "1")
    write_report(job.root)


def test_page_and_tables_show_the_same_numbers(finished: RunDir, page: str) -> None:
    markdown = (finished.report / "tables.md").read_text()
    text = html.unescape(re.sub(r"<[^>]*>", "", page))
    curves = of(finished)
    for content in tables(curves):
        for row in content.rows:
            assert f"| {' | '.join(map(inert, row))} |" in markdown
            assert all(cell in text for cell in row)
    for sentence in sentences(curves):
        assert sentence in text
    (ocr,) = (sentence for sentence in sentences(curves) if sentence.startswith("ocr: "))
    assert names_all(ocr, "1/32", f"1{THIN_SPACE}343", "49 % [", "]")
    assert page.count('class="span ours samples"') == 7 * 6
    assert page.count('class="span baseline samples"') == 7 * 3


def test_what_is_written_for_scripts(job: RunDir) -> None:
    curves = write_curve(job.root)
    kept = read_json(job.curve_numbers)
    assert (kept["fractions"], kept["seeds"]) == (["1/32", "1/16", "1/8", "1/4", "1/2", "1"], [0])
    for curve in curves.tasks:
        entry = kept["tasks"][curve.task]["mixture"]["1/8"]
        score = curve.mixture[Fraction(1, 8)]
        assert entry == score.to_json()
    np.testing.assert_array_equal(read_scores(job.curve_table).values, curves.mean.values)


@pytest.mark.parametrize(
    ("fraction", "text"), [("1", "1"), ("0.125", "1/8"), ("3/7", "3/7"), ("0.3333333333", "0.333")]
)
def test_fractions_are_written_as_people_write_them(fraction: str, text: str) -> None:
    assert fraction_text(Fraction(fraction)) == text


def test_a_directory_of_a_curve_alone_is_described(job: RunDir, tmp_path: Path) -> None:
    alone = RunDir(tmp_path / "alone")
    shutil.copytree(job.root / "curve", alone.root / "curve")
    shutil.copy(job.recipe, alone.recipe)
    plan = read_json(job.plan)
    runs = [run for run in plan["runs"] if run["kind"] == "curve"]
    write_json(alone.plan, {**plan, "runs": runs, "probe_share": 0, "warnings": []})
    text = write_report(alone.root).read_text()
    contents = read_contents(alone.root)
    mixture, weights, curve, *_ = summary(contents, compare_all(contents))
    assert names_all(mixture, 7, "pocket", "chat")
    assert weights == NO_PROBES
    assert names_all(curve, 27)
    assert all(sentence in html.unescape(text) for sentence in (mixture, weights, curve))
    labels = [row[0] for row in cost_table(contents).rows]
    assert any("curve" in label for label in labels)
    assert not any("probe" in label for label in labels)
    assert not re.search(r"\d times", text), "no share of the probes"
