from __future__ import annotations

import json
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest

from cotbal.report.comparison import Comparison, Scores, SeedNoise, compare, to_json
from cotbal.report.formatting import MINUS
from cotbal.report.model_tables import model_tables, seed_noise_table, seed_table
from cotbal.report.models import fullest
from cotbal.report.seed_noise import seed_noise
from cotbal.report.summary import seed_notes
from cotbal.scores.interval import Interval
from cotbal.scores.matrix import Measured
from cotbal.scores.task_scores import MetricScores, TaskScores
from helpers.errors import names_all


def model(image: int = 1, **tasks: dict[str, list[float]]) -> Scores:
    """Scores of a model: task -> metric -> samples, `image` of them on one image."""
    return {
        (task, "test"): TaskScores(
            task,
            "test",
            np.arange(len(next(iter(metrics.values())))) // image,
            {
                name: MetricScores(Measured(np.array(values)), 1.0)
                for name, values in metrics.items()
            },
        )
        for task, metrics in tasks.items()
    }


def pair(equal: Scores, fixed: Scores, tasks: str = "ocr vqa") -> Comparison:
    """One seed of both methods."""
    return compare({"ew": {0: equal}, "cotbal": {0: fixed}}, tasks.split(), tasks.split())


def change(comparison: Comparison, task: str | None = None) -> Interval:
    against = comparison.against["cotbal"]
    return against.average if task is None else against.per_task[task]


def paired_difference(baseline: np.ndarray, ours: np.ndarray, clusters: np.ndarray) -> Interval:
    def scores(values: np.ndarray) -> Scores:
        comparison = MetricScores(Measured(values), 1.0)
        return {("ocr", "test"): TaskScores("ocr", "test", clusters, {"em": comparison})}

    return pair(scores(baseline), scores(ours), "ocr").rows[0].differences["cotbal"]


def test_difference_of_equal_models_is_exactly_zero() -> None:
    values = np.array([0.0, 1.0, 1.0, 0.0])
    comparison = paired_difference(values, values, np.arange(4))
    assert (comparison.value, comparison.low, comparison.high, comparison.excludes()) == (
        0.0,
        0.0,
        0.0,
        False,
    )


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
    assert paired.excludes()
    assert shuffled.high - shuffled.low > 2 * (paired.high - paired.low)


def test_samples_of_one_image_are_drawn_together() -> None:
    ours = np.repeat(np.random.default_rng(1).integers(0, 2, 40), 10).astype(float)
    alone = paired_difference(np.zeros(400), ours, np.arange(400))
    together = paired_difference(np.zeros(400), ours, np.repeat(np.arange(40), 10))
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_relative_change_is_the_mean_over_metrics_then_tasks() -> None:
    equal = model(ocr={"em": [0.5] * 20, "soft": [0.4] * 20}, vqa={"em": [0.8] * 20})
    fixed = model(ocr={"em": [0.6] * 20, "soft": [0.4] * 20}, vqa={"em": [0.6] * 20})
    comparison = pair(equal, fixed)
    assert comparison.methods == ("ew", "cotbal")
    assert change(comparison, "ocr").value == pytest.approx(10.0)  # (20 + 0) / 2, Eq. 12
    assert change(comparison, "vqa").value == pytest.approx(-25.0)
    assert change(comparison).value == pytest.approx(-7.5)  # Eq. 13
    assert (change(comparison).low, change(comparison).high) == pytest.approx(
        (-7.5, -7.5)
    )  # no sample differs from another
    assert comparison.against["cotbal"].error.value == pytest.approx(12.5)  # Eq. 14


def test_zero_baseline_is_left_out_and_named() -> None:
    comparison = pair(
        model(ocr={"em": [0.0] * 9}, vqa={"em": [0.5] * 9}),
        model(ocr={"em": [1.0] * 9}, vqa={"em": [0.6] * 9}),
    )
    assert comparison.left_out == ("ocr",)
    assert change(comparison).value == pytest.approx(20.0)
    assert [row.differences["cotbal"].value for row in comparison.rows] == pytest.approx([1.0, 0.1])


def noisy(*, has_seeds: bool) -> SeedNoise | None:
    """Noise of a comparison with one seed in which every method scores 0 on `ocr`."""
    first = model(ocr={"em": [0.0] * 9}, vqa={"em": [0.5] * 9})
    second = model(ocr={"em": [0.0] * 9}, vqa={"em": [0.6] * 9})
    comparison = pair(first, second)
    seeds = {0: first, 1: second} if has_seeds else {0: first}
    deviations = {"ocr": Interval(0.1), "vqa": Interval(0.05)}
    contents = Mock(balance=Mock(training_noise=deviations), metric_name=lambda _, name: name)
    return seed_noise(contents, {"ew": seeds, "cotbal": {0: second}}, comparison)


@pytest.mark.parametrize("has_seeds", [True, False])
def test_seed_noise_leaves_out_and_names_a_task_without_a_score(has_seeds: bool) -> None:
    noise = noisy(has_seeds=has_seeds)
    assert noise is not None
    assert list(noise.per_task) == ["vqa"]
    assert noise.low == noise.high == noise.per_task["vqa"] > 0
    assert noise.left_out == ("ocr",)


def test_a_task_without_seed_noise_is_named_in_the_table_and_the_notes() -> None:
    scores = model(ocr={"em": [0.0] * 9}, vqa={"em": [0.5] * 9})
    comparison = replace(pair(scores, scores), seed_noise=noisy(has_seeds=True))
    note = seed_notes(comparison)[0]
    for text in (seed_noise_table(comparison).note, note):
        assert names_all(text, "ocr", "EW")
    complete = replace(comparison, seed_noise=replace(comparison.seed_noise, left_out=()))
    assert "ocr" not in seed_noise_table(complete).note
    assert "ocr" not in seed_notes(complete)[0]


def test_no_seed_noise_where_no_task_has_a_score() -> None:
    scores = model(ocr={"em": [0.0] * 9})
    models = {"ew": {0: scores, 1: scores}, "cotbal": {0: scores}}
    assert seed_noise(Mock(balance=None), models, pair(scores, scores, "ocr")) is None


def test_a_baseline_that_is_zero_in_a_resample_has_no_interval() -> None:
    comparison = pair(
        model(ocr={"em": [1.0] + [0.0] * 8}), model(ocr={"em": [1.0] * 2 + [0.0] * 7}), "ocr"
    )
    assert change(comparison, "ocr").value == pytest.approx(100.0)
    assert not change(comparison, "ocr").has_bounds
    assert not change(comparison, "ocr").excludes()


def test_a_negative_baseline_is_left_out_and_named() -> None:
    """From -0.5 to -0.4 is a gain; relative to -0.5 it would be a loss."""
    comparison = pair(
        model(ocr={"em": [-0.5] * 9}, vqa={"em": [0.5] * 9}),
        model(ocr={"em": [-0.4] * 9}, vqa={"em": [0.6] * 9}),
    )
    assert comparison.left_out == ("ocr",)
    assert change(comparison).value == pytest.approx(20.0)


def test_a_baseline_that_is_negative_in_a_few_draws_keeps_an_interval() -> None:
    """Of two seeds that differ little, Student's t with one degree of freedom goes far."""
    near = {
        "ew": {0: model(ocr={"em": [0.50] * 9}), 1: model(ocr={"em": [0.51] * 9})},
        "cotbal": {0: model(ocr={"em": [0.60] * 9}), 1: model(ocr={"em": [0.62] * 9})},
    }
    narrow = change(compare(near, ["ocr"], ["ocr"]))
    assert 0 < narrow.low < narrow.value < narrow.high < 30
    far = {
        "ew": {0: model(ocr={"em": [0.1] * 9}), 1: model(ocr={"em": [0.9] * 9})},
        "cotbal": {0: model(ocr={"em": [0.6] * 9}), 1: model(ocr={"em": [0.6] * 9})},
    }
    unknown = change(compare(far, ["ocr"], ["ocr"]))
    assert unknown.value == pytest.approx(20)
    assert not unknown.has_bounds
    assert not unknown.excludes()


def test_a_seed_without_a_baseline_is_null_in_json() -> None:
    runs = {
        "ew": {0: model(ocr={"em": [0.0] * 9}), 1: model(ocr={"em": [0.5] * 9})},
        "cotbal": {0: model(ocr={"em": [0.5] * 9}), 1: model(ocr={"em": [0.6] * 9})},
    }
    content = to_json(compare(runs, ["ocr"], ["ocr"]))
    assert content["improvement_by_seed"]["CoTBal"] == [None, pytest.approx(20.0)]
    json.dumps(content, allow_nan=False)


def test_one_model_alone_is_shown_without_a_comparison() -> None:
    comparison = compare({"ew": {0: model(ocr={"em": [0.5] * 4})}}, ["ocr"], ["ocr"])
    assert comparison.against == {}
    assert json.dumps([row.scores for row in comparison.rows]) == '[{"ew": 0.5}]'
    assert comparison.rows[0].differences == {}
    other = compare({"cotbal": {0: model(ocr={"em": [0.5] * 4})}}, ["ocr"], ["ocr"])
    assert other.reference is None
    assert compare({}, ["ocr"], ["ocr"]).rows == ()


def test_intervals_of_a_comparison_are_by_image() -> None:
    values = np.repeat(np.random.default_rng(1).integers(0, 2, 40), 10).astype(float).tolist()
    widths = {}
    for image in (1, 10):
        comparison = pair(
            model(image, ocr={"em": [0.5] * 400}), model(image, ocr={"em": values}), "ocr"
        )
        widths[image] = [
            comparison.rows[0].differences["cotbal"].half_width,
            change(comparison).half_width,
        ]
    assert widths[10][0] > 2 * widths[1][0]
    assert widths[10][1] > 2 * widths[1][1]


def test_a_task_that_is_not_balanced_is_shown_but_not_averaged() -> None:
    equal, fixed = (
        {0: model(ocr={"em": [a] * 4}, chat={"em": [b] * 4})} for a, b in ((0.5, 0.5), (1.0, 0.0))
    )
    comparison = compare({"ew": equal, "cotbal": fixed}, ["ocr", "chat"], ["ocr"])
    assert [row.task for row in comparison.rows] == ["ocr", "chat"]
    assert change(comparison).value == pytest.approx(100)


def right(level: float, seed: int, samples: int = 300) -> list[float]:
    """Answers that are right with a chance; the samples are equally easy for every model and
    seed."""
    easy = np.random.default_rng(7).uniform(size=samples)
    own_luck = np.random.default_rng(seed).normal(scale=0.05, size=samples)
    return (easy + own_luck < level).astype(float).tolist()


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
    comparison = several(5, gap=0.04, wobble=0.05)
    assert comparison.reference == "stl"
    assert comparison.seeds == (0, 1, 2, 3, 4)
    alone, pairs = (
        comparison.against["cotbal"].average.half_width,
        comparison.paired["cotbal"].half_width,
    )
    assert alone > 2 * pairs
    improvements = {name: overall.average.value for name, overall in comparison.against.items()}
    assert comparison.paired["cotbal"].value == pytest.approx(
        improvements["cotbal"] - improvements["ew"]
    )
    assert comparison.paired["cotbal"].excludes()
    assert set(comparison.paired) == {"cotbal"}


def test_improvement_in_every_seed() -> None:
    levels = {
        "stl": [[0.5] * 4, [0.5] * 4],
        "ew": [[0.55] * 4, [0.45] * 4],
        "cotbal": [[0.6] * 4, [0.6] * 4],
    }
    models = {
        name: {s: model(ocr={"em": rows[s]}) for s in range(2)} for name, rows in levels.items()
    }
    comparison = compare(models, ["ocr"], ["ocr"], "stl")
    assert comparison.by_seed["ew"] == pytest.approx((10, -10))
    assert comparison.by_seed["cotbal"] == pytest.approx((20, 20))
    table = seed_table(comparison)
    assert table.header == ("method", "seed 0", "seed 1", "mean", "standard deviation")
    assert table.rows[0] == ("EW", "+10.00", f"{MINUS}10.00", "+0.00", "14.14")
    assert table.rows[-1] == (f"CoTBal {MINUS} EW", "+10.00", "+30.00", "+20.00", "14.14")
    assert table.footer == 1
    assert seed_table(comparison) in model_tables(comparison)
    of_one_seed = several(1, 0.02, 0.0)
    for shown in model_tables(of_one_seed):
        assert shown.title != table.title
        assert not any(column.startswith("seed") for column in shown.header)


def test_few_seeds_give_wide_intervals() -> None:
    widths = [several(n, 0.02, 0.03).against["ew"].average.half_width for n in (2, 8)]
    assert widths[0] > 2.5 * widths[1]


def test_only_seeds_that_every_method_has_are_compared() -> None:
    one, two = model(ocr={"em": [0.5] * 4}), model(ocr={"em": [1.0] * 4})
    comparison = compare({"ew": {0: one, 1: one}, "cotbal": {1: two, 2: one}}, ["ocr"], ["ocr"])
    assert comparison.seeds == (1,)
    assert change(comparison).value == pytest.approx(100)


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
    comparison = compare(
        {"stl": alone, "ew": both, "cotbal": both}, ["ocr", "chat"], ["ocr"], "stl"
    )
    chat = comparison.rows[1]
    assert set(chat.scores) == {"ew", "cotbal"}
    assert set(chat.differences) == {"cotbal"}
    assert comparison.against["ew"].average.value == pytest.approx(25)
    assert comparison.left_out == ()


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
    return MetricScores(Measured(np.array(values, float), weights), 1.0)
