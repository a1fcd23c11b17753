from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cotbal.report.comparison import compare, paired_difference
from cotbal.report.contents import MetricScores, RunContents, TaskScores
from cotbal.rundir import RunPaths


def final(name: str, picture: int = 1, **tasks: dict[str, list[float]]) -> RunContents:
    """A final model; `tasks` maps a task to its metrics, a metric to its samples, `picture` of them on one picture."""
    scores = {
        (task, "test"): TaskScores(
            task,
            "test",
            np.arange(len(next(iter(metrics.values())))) // picture,
            {m: MetricScores(float(np.mean(v)), 1.0, np.array(v), None, "") for m, v in metrics.items()},
        )
        for task, metrics in tasks.items()
    }
    return RunContents(name, "final", RunPaths(Path(name)), {}, {"run": name}, "", (), scores)


def test_difference_of_equal_models_is_exactly_zero() -> None:
    values = np.array([0.0, 1.0, 1.0, 0.0])
    found = paired_difference(values, values, np.arange(4))
    assert (found.value, found.low, found.high, found.clear) == (0.0, 0.0, 0.0, False)


def test_pairing_narrows_the_interval() -> None:
    random = np.random.default_rng(0)
    luck = random.uniform(size=400)
    baseline, ours = (luck < 0.5).astype(float), (luck < 0.56).astype(float)
    paired = paired_difference(baseline, ours, np.arange(400))
    shuffled = paired_difference(baseline, random.permutation(ours), np.arange(400))
    assert paired.value == pytest.approx(shuffled.value) == pytest.approx(np.mean(ours) - np.mean(baseline))
    assert paired.clear
    assert shuffled.high - shuffled.low > 2 * (paired.high - paired.low)


def test_samples_of_one_picture_are_drawn_together() -> None:
    ours = np.repeat(np.random.default_rng(1).integers(0, 2, 40), 10).astype(float)
    alone = paired_difference(np.zeros(400), ours, np.arange(400))
    together = paired_difference(np.zeros(400), ours, np.repeat(np.arange(40), 10))
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_relative_change_is_the_mean_over_metrics_then_tasks() -> None:
    equal = final("equal", ocr={"em": [0.5] * 20, "soft": [0.4] * 20}, vqa={"em": [0.8] * 20})
    fixed = final("fixed", ocr={"em": [0.6] * 20, "soft": [0.4] * 20}, vqa={"em": [0.6] * 20})
    found = compare([fixed, equal], ["ocr", "vqa"], ["ocr", "vqa"])
    assert found.weightings == ("equal", "fixed")
    assert found.per_task["ocr"].value == pytest.approx(10.0)  # (20 + 0) / 2, Eq. 12
    assert found.per_task["vqa"].value == pytest.approx(-25.0)
    assert found.average is not None
    assert found.average.value == pytest.approx(-7.5)  # Eq. 13
    assert found.average.bounds == pytest.approx((-7.5, -7.5))  # no sample differs from another
    assert found.error == pytest.approx(12.5)  # Eq. 14


def test_zero_baseline_is_left_out_and_named() -> None:
    equal = final("equal", ocr={"em": [0.0] * 9}, vqa={"em": [0.5] * 9})
    fixed = final("fixed", ocr={"em": [1.0] * 9}, vqa={"em": [0.6] * 9})
    found = compare([equal, fixed], ["ocr", "vqa"], ["ocr", "vqa"])
    assert found.left_out == ("ocr",)
    assert found.average is not None
    assert found.average.value == pytest.approx(20.0)
    assert [row.difference.value for row in found.rows if row.difference] == pytest.approx([1.0, 0.1])


def test_a_baseline_that_is_zero_in_a_resample_has_no_interval() -> None:
    equal = final("equal", ocr={"em": [1.0] + [0.0] * 8})
    fixed = final("fixed", ocr={"em": [1.0] * 2 + [0.0] * 7})
    found = compare([equal, fixed], ["ocr"], ["ocr"])
    assert found.per_task["ocr"].value == pytest.approx(100.0)
    assert np.isnan(found.per_task["ocr"].low)
    assert not found.per_task["ocr"].clear


def test_one_model_alone_is_shown_without_a_comparison() -> None:
    found = compare([final("equal", ocr={"em": [0.5] * 4})], ["ocr"], ["ocr"])
    assert found.average is None
    assert json.dumps([row.scores for row in found.rows]) == '[{"equal": 0.5}]'
    assert found.rows[0].difference is None


def test_intervals_of_a_comparison_are_by_picture() -> None:
    values = np.repeat(np.random.default_rng(1).integers(0, 2, 40), 10).astype(float).tolist()
    models = {
        picture: [final("equal", picture, ocr={"em": [0.5] * 400}), final("fixed", picture, ocr={"em": values})]
        for picture in (1, 10)
    }
    widths = {}
    for picture, pair in models.items():
        found = compare(pair, ["ocr"], ["ocr"])
        difference, change = found.rows[0].difference, found.average
        assert difference is not None
        assert change is not None
        widths[picture] = (difference.high - difference.low, change.high - change.low)
    assert widths[10][0] > 2 * widths[1][0]
    assert widths[10][1] > 2 * widths[1][1]


def test_a_task_that_is_not_balanced_is_shown_but_not_averaged() -> None:
    equal = final("equal", ocr={"em": [0.5] * 4}, chat={"em": [0.5] * 4})
    fixed = final("fixed", ocr={"em": [1.0] * 4}, chat={"em": [0.0] * 4})
    found = compare([equal, fixed], ["ocr", "chat"], ["ocr"])
    assert [row.task for row in found.rows] == ["ocr", "chat"]
    assert found.average is not None
    assert found.average.value == pytest.approx(100)
