from __future__ import annotations

import json

import numpy as np
import pytest

from cotbal.report.comparison import Comparison, Difference, Scores, compare
from cotbal.report.contents import MetricScores, TaskScores
from cotbal.report.formatting import MINUS
from cotbal.report.models import fullest, to_json
from cotbal.report.tables import model_tables, seed_table
from cotbal.scores.matrix import Measured


def model(picture: int = 1, **tasks: dict[str, list[float]]) -> Scores:
    """What a model scored: a task to its metrics, a metric to its samples, `picture` of them on one
    picture.
    """
    return {
        (task, "test"): TaskScores(
            task,
            "test",
            np.arange(len(next(iter(metrics.values())))) // picture,
            {
                m: MetricScores(float(np.mean(v)), 1.0, Measured(np.array(v)), None, "")
                for m, v in metrics.items()
            },
        )
        for task, metrics in tasks.items()
    }


def pair(equal: Scores, fixed: Scores, tasks: str = "ocr vqa") -> Comparison:
    """One seed of both methods."""
    return compare({"ew": {0: equal}, "cotbal": {0: fixed}}, tasks.split(), tasks.split())


def change(found: Comparison, task: str | None = None) -> Difference:
    against = found.against["cotbal"]
    return against.average if task is None else against.per_task[task]


def paired_difference(baseline: np.ndarray, ours: np.ndarray, clusters: np.ndarray) -> Difference:
    def scores(values: np.ndarray) -> Scores:
        found = MetricScores(0, 1.0, Measured(values), None, "")
        return {("ocr", "test"): TaskScores("ocr", "test", clusters, {"em": found})}

    return pair(scores(baseline), scores(ours), "ocr").rows[0].differences["cotbal"]


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
    assert (
        paired.value
        == pytest.approx(shuffled.value)
        == pytest.approx(np.mean(ours) - np.mean(baseline))
    )
    assert paired.clear
    assert shuffled.high - shuffled.low > 2 * (paired.high - paired.low)


def test_samples_of_one_picture_are_drawn_together() -> None:
    ours = np.repeat(np.random.default_rng(1).integers(0, 2, 40), 10).astype(float)
    alone = paired_difference(np.zeros(400), ours, np.arange(400))
    together = paired_difference(np.zeros(400), ours, np.repeat(np.arange(40), 10))
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_relative_change_is_the_mean_over_metrics_then_tasks() -> None:
    equal = model(ocr={"em": [0.5] * 20, "soft": [0.4] * 20}, vqa={"em": [0.8] * 20})
    fixed = model(ocr={"em": [0.6] * 20, "soft": [0.4] * 20}, vqa={"em": [0.6] * 20})
    found = pair(equal, fixed)
    assert found.methods == ("ew", "cotbal")
    assert change(found, "ocr").value == pytest.approx(10.0)  # (20 + 0) / 2, Eq. 12
    assert change(found, "vqa").value == pytest.approx(-25.0)
    assert change(found).value == pytest.approx(-7.5)  # Eq. 13
    assert change(found).bounds == pytest.approx((-7.5, -7.5))  # no sample differs from another
    assert found.against["cotbal"].error.value == pytest.approx(12.5)  # Eq. 14


def test_zero_baseline_is_left_out_and_named() -> None:
    found = pair(
        model(ocr={"em": [0.0] * 9}, vqa={"em": [0.5] * 9}),
        model(ocr={"em": [1.0] * 9}, vqa={"em": [0.6] * 9}),
    )
    assert found.left_out == ("ocr",)
    assert change(found).value == pytest.approx(20.0)
    assert [row.differences["cotbal"].value for row in found.rows] == pytest.approx([1.0, 0.1])


def test_a_baseline_that_is_zero_in_a_resample_has_no_interval() -> None:
    found = pair(
        model(ocr={"em": [1.0] + [0.0] * 8}), model(ocr={"em": [1.0] * 2 + [0.0] * 7}), "ocr"
    )
    assert change(found, "ocr").value == pytest.approx(100.0)
    assert np.isnan(change(found, "ocr").low)
    assert not change(found, "ocr").clear


def test_a_negative_baseline_is_left_out_and_named() -> None:
    """From -0.5 to -0.4 is a gain; relative to -0.5 it would be a loss."""
    found = pair(
        model(ocr={"em": [-0.5] * 9}, vqa={"em": [0.5] * 9}),
        model(ocr={"em": [-0.4] * 9}, vqa={"em": [0.6] * 9}),
    )
    assert found.left_out == ("ocr",)
    assert change(found).value == pytest.approx(20.0)


def test_a_baseline_that_is_negative_in_a_few_draws_keeps_an_interval() -> None:
    """Of two seeds that differ little, Student's t with one degree of freedom goes far."""
    near = {
        "ew": {0: model(ocr={"em": [0.50] * 9}), 1: model(ocr={"em": [0.51] * 9})},
        "cotbal": {0: model(ocr={"em": [0.60] * 9}), 1: model(ocr={"em": [0.62] * 9})},
    }
    found = change(compare(near, ["ocr"], ["ocr"]))
    assert 0 < found.low < found.value < found.high < 30
    far = {
        "ew": {0: model(ocr={"em": [0.1] * 9}), 1: model(ocr={"em": [0.9] * 9})},
        "cotbal": {0: model(ocr={"em": [0.6] * 9}), 1: model(ocr={"em": [0.6] * 9})},
    }
    found = change(compare(far, ["ocr"], ["ocr"]))
    assert found.value == pytest.approx(20)
    assert np.isnan(found.low)
    assert not found.clear


def test_a_seed_without_a_baseline_is_null_in_json() -> None:
    runs = {
        "ew": {0: model(ocr={"em": [0.0] * 9}), 1: model(ocr={"em": [0.5] * 9})},
        "cotbal": {0: model(ocr={"em": [0.5] * 9}), 1: model(ocr={"em": [0.6] * 9})},
    }
    found = to_json(compare(runs, ["ocr"], ["ocr"]))
    assert found["improvement_by_seed"]["CoTBal"] == [None, pytest.approx(20.0)]
    json.dumps(found, allow_nan=False)


def test_one_model_alone_is_shown_without_a_comparison() -> None:
    found = compare({"ew": {0: model(ocr={"em": [0.5] * 4})}}, ["ocr"], ["ocr"])
    assert found.against == {}
    assert json.dumps([row.scores for row in found.rows]) == '[{"ew": 0.5}]'
    assert found.rows[0].differences == {}
    other = compare({"cotbal": {0: model(ocr={"em": [0.5] * 4})}}, ["ocr"], ["ocr"])
    assert other.reference is None
    assert compare({}, ["ocr"], ["ocr"]).rows == ()


def test_intervals_of_a_comparison_are_by_picture() -> None:
    values = np.repeat(np.random.default_rng(1).integers(0, 2, 40), 10).astype(float).tolist()
    widths = {}
    for picture in (1, 10):
        found = pair(
            model(picture, ocr={"em": [0.5] * 400}), model(picture, ocr={"em": values}), "ocr"
        )
        widths[picture] = [
            np.ptp(found.rows[0].differences["cotbal"].bounds),
            np.ptp(change(found).bounds),
        ]
    assert widths[10][0] > 2 * widths[1][0]
    assert widths[10][1] > 2 * widths[1][1]


def test_a_task_that_is_not_balanced_is_shown_but_not_averaged() -> None:
    equal, fixed = (
        {0: model(ocr={"em": [a] * 4}, chat={"em": [b] * 4})} for a, b in ((0.5, 0.5), (1.0, 0.0))
    )
    found = compare({"ew": equal, "cotbal": fixed}, ["ocr", "chat"], ["ocr"])
    assert [row.task for row in found.rows] == ["ocr", "chat"]
    assert change(found).value == pytest.approx(100)


def right(level: float, seed: int, samples: int = 300) -> list[float]:
    """Answers that are right with a chance; the samples are equally easy for every model and
    seed."""
    easy = np.random.default_rng(7).uniform(size=samples)
    own = np.random.default_rng(seed).normal(scale=0.05, size=samples)
    return (easy + own < level).astype(float).tolist()


def several(seeds: int, gap: float, wobble: float) -> Comparison:
    """STL, EW and CoTBal over seeds; EW and CoTBal share the luck of a seed, `wobble` is the size
    of it.
    """
    luck = wobble * np.random.default_rng(3).standard_normal(seeds)
    levels = {
        "stl": lambda s: 0.5,
        "ew": lambda s: 0.55 + luck[s],
        "cotbal": lambda s: 0.55 + gap + luck[s],
    }
    models = {
        name: {s: model(ocr={"em": right(level(s), 10 * s)}) for s in range(seeds)}
        for name, level in levels.items()
    }
    return compare(models, ["ocr"], ["ocr"], reference="stl")


def test_pairing_by_seed_cancels_what_the_seeds_share() -> None:
    found = several(5, gap=0.04, wobble=0.05)
    assert found.reference == "stl"
    assert found.seeds == (0, 1, 2, 3, 4)
    alone, pairs = (
        np.ptp(found.against["cotbal"].average.bounds),
        np.ptp(found.paired["cotbal"].bounds),
    )
    assert alone > 2 * pairs
    improvements = {name: each.average.value for name, each in found.against.items()}
    assert found.paired["cotbal"].value == pytest.approx(
        improvements["cotbal"] - improvements["ew"]
    )
    assert found.paired["cotbal"].clear
    assert set(found.paired) == {"cotbal"}


def test_improvement_in_every_seed() -> None:
    levels = {
        "stl": [[0.5] * 4, [0.5] * 4],
        "ew": [[0.55] * 4, [0.45] * 4],
        "cotbal": [[0.6] * 4, [0.6] * 4],
    }
    models = {
        name: {s: model(ocr={"em": rows[s]}) for s in range(2)} for name, rows in levels.items()
    }
    found = compare(models, ["ocr"], ["ocr"], "stl")
    assert found.by_seed["ew"] == pytest.approx((10, -10))
    assert found.by_seed["cotbal"] == pytest.approx((20, 20))
    table = seed_table(found)
    assert table.header == ("method", "seed 0", "seed 1", "mean", "standard deviation")
    assert table.rows[0] == ("EW", "+10.00", f"{MINUS}10.00", "+0.00", "14.14")
    assert table.rows[-1] == (f"CoTBal {MINUS} EW", "+10.00", "+30.00", "+20.00", "14.14")
    assert table.footer == 1
    assert seed_table(found) in model_tables(found)
    assert all(
        "every training seed" not in each.title for each in model_tables(several(1, 0.02, 0.0))
    )


def test_few_seeds_give_wide_intervals() -> None:
    widths = [np.ptp(several(n, 0.02, 0.03).against["ew"].average.bounds) for n in (2, 8)]
    assert widths[0] > 2.5 * widths[1]


def test_only_seeds_that_every_method_has_are_compared() -> None:
    one, two = model(ocr={"em": [0.5] * 4}), model(ocr={"em": [1.0] * 4})
    found = compare({"ew": {0: one, 1: one}, "cotbal": {1: two, 2: one}}, ["ocr"], ["ocr"])
    assert found.seeds == (1,)
    assert change(found).value == pytest.approx(100)


def test_a_method_with_fewer_seeds_does_not_take_them_from_the_others() -> None:
    seeds = {"stl": (0, 1, 2), "ew": (0, 1, 2), "rlw": (0,), "cotbal": (0, 1, 2, 3)}
    models = {name: dict.fromkeys(of, model(ocr={"em": [0.5] * 4})) for name, of in seeds.items()}
    assert list(fullest(models)) == ["stl", "ew", "cotbal"]
    assert list(fullest({name: models[name] for name in ("ew", "rlw")})) == [
        "ew",
        "rlw",
    ]
    one = model(ocr={"em": [0.5] * 4})
    assert list(fullest({"ew": {0: one, 1: one}, "cotbal": {1: one, 2: one}})) == [
        "ew",
        "cotbal",
    ]
    assert fullest({}) == {}


def test_a_task_that_one_method_did_not_answer_is_shown_for_the_others() -> None:
    """Single-task models of the balanced tasks say nothing about text-only chat."""
    both = {0: model(ocr={"em": [0.5] * 4}, chat={"em": [0.5] * 4})}
    alone = {0: model(ocr={"em": [0.4] * 4})}
    found = compare({"stl": alone, "ew": both, "cotbal": both}, ["ocr", "chat"], ["ocr"], "stl")
    chat = found.rows[1]
    assert set(chat.scores) == {"ew", "cotbal"}
    assert set(chat.differences) == {"cotbal"}
    assert found.against["ew"].average.value == pytest.approx(25)
    assert found.left_out == ()


def test_a_metric_that_weighs_its_samples_is_compared_as_it_is_scored() -> None:
    """Values 1, 0, 1 that count 2, 1 and 0 make two thirds, and a table of plain means must say the
    same.
    """
    weights = np.array([2.0, 1.0, 0.0])
    equal = {
        ("vqa", "test"): TaskScores(
            "vqa", "test", np.arange(3), {"f1": weighed([1, 0, 1], weights)}
        )
    }
    fixed = {
        ("vqa", "test"): TaskScores(
            "vqa", "test", np.arange(3), {"f1": weighed([1, 1, 0], weights)}
        )
    }
    row = pair(equal, fixed, "vqa").rows[0]
    assert row.scores == pytest.approx({"ew": 2 / 3, "cotbal": 1})
    assert row.differences["cotbal"].value == pytest.approx(1 / 3)


def weighed(values: list[float], weights: np.ndarray) -> MetricScores:
    found = Measured(np.array(values, float), weights)
    return MetricScores(found.score, 1.0, found, None, "")
