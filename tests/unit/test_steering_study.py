"""What a study of steering shows, on tables of a simulated mixture whose truth is known."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml

from cotbal.jobs.rundir import RunDir
from cotbal.recipe.recipe import load_recipe
from cotbal.response import (
    Choice,
    Response,
    Trials,
    choose_weights,
    fit_response,
    freeze,
    two_level_design,
)
from cotbal.response.coordinates import doublings
from cotbal.response.prediction import mean_over_seeds
from helpers.parsing import text_of
from helpers.scripts import BENCHMARKS, loaded

measures = loaded(BENCHMARKS / "steering_measures.py")
steering = loaded(BENCHMARKS / "steering.py")

TASKS = ("a", "b", "c", "d", "e")
NOISE = 0.5  # standard deviation of one score of one run, %
EFFECTS = 3.0 * np.eye(5) - 0.6  # % per doubling; raising all weights changes nothing


def changes(weights: np.ndarray) -> np.ndarray:
    z = doublings(weights)
    return z @ EFFECTS - 0.3 * (z**2).sum(axis=-1)[..., None]


def trials(noise: float, seed: int = 0, scale: float = 1.0) -> Trials:
    """14 mirrored trials of two seeds and two with equal weights."""
    generator = np.random.default_rng(seed)
    design = two_level_design(TASKS)
    levels = generator.normal(0, 3, (2, 5))[list(design.seeds)]
    percent = scale * changes(design.weights) + levels
    percent = percent + generator.normal(0, noise, percent.shape)
    seeds = tuple(map(str, design.seeds))
    return Trials(TASKS, TASKS, design.weights, 0.5 * (1 + percent / 100), seeds)


def committed(name: str) -> measures.Study:
    """The tables of a study on a mix of `pocket`."""
    return measures.read_study(BENCHMARKS / "results" / "data" / f"steering_{name}_study")


def frozen(table: Trials, goal: str) -> dict:
    response = fit_response(table)
    wanted = goal if goal == "mean" else goal.split(",")
    return freeze(response, choose_weights(response, wanted, floors=-1.0))


def final_rows(methods: dict[str, np.ndarray], seeds: int = 6) -> measures.Finals:
    """Scores of models whose true change in % is given, with equal weights as the baseline."""
    generator = np.random.default_rng(7)
    scores: dict[str, dict[str, list[float]]] = {}
    for method, true in {"ew": np.zeros(5), **methods}.items():
        drawn = generator.normal(0, NOISE, (seeds, 5))
        values = 0.5 * (1 + (true + drawn) / 100)
        scores[method] = {str(10 + k): row.tolist() for k, row in enumerate(values)}
    return measures.Finals(TASKS, scores)


@pytest.fixture(scope="module")
def study() -> measures.Study:
    table = trials(NOISE)
    predictions = {goal: frozen(table, goal) for goal in ("mean", "a", "b", "c,d")}
    methods = {
        measures.method_of(goal): changes(np.array(list(prediction["weights"].values())))
        for goal, prediction in predictions.items()
    }
    cheap = trials(2 * NOISE, seed=3)
    cheap_weights = {goal: frozen(cheap, goal)["weights"] for goal in predictions}
    return measures.Study(table, final_rows(methods), predictions, cheap_weights, cheap)


def test_changes_are_paired_by_seed() -> None:
    finals = measures.Finals(
        ("a", "b"), {"ew": {"1": [0.5, 1.0], "2": [1.0, 1.0]}, "x": {"2": [1.1, 0.9]}}
    )
    np.testing.assert_allclose(finals.changes("x"), [[10.0, -10.0]])


def test_the_interval_of_a_mean_is_that_of_student() -> None:
    interval = mean_over_seeds(np.array([1.0, 2.0, 3.0]))
    assert interval.value == 2.0
    assert interval.high - 2.0 == pytest.approx(4.3027 / np.sqrt(3), rel=1e-4)
    assert not mean_over_seeds(np.array([1.0])).has_bounds


def test_predictions_hold_where_the_model_is_true(study: measures.Study) -> None:
    outcomes = list(measures.outcomes(study))
    goals = {goal for goal, _ in outcomes}
    assert {"a", "b", "c,d"} <= goals
    assert len(outcomes) == 5 * len(goals)
    numbers = measures.agreement(outcomes)
    assert numbers["coverage"] >= 0.85
    assert numbers["correlation"] > 0.9
    assert 0.6 < numbers["slope"] < 1.4


def test_predictions_do_not_hold_where_outcomes_are_moved(study: measures.Study) -> None:
    shifted = {
        method: {seed: [1.1 * score for score in scores] for seed, scores in rows.items()}
        for method, rows in study.finals.scores.items()
        if method != "ew"
    }
    shifted["ew"] = study.finals.scores["ew"]
    moved = replace(study, finals=measures.Finals(TASKS, shifted))
    assert measures.agreement(list(measures.outcomes(moved)))["coverage"] == 0


def test_kept_equal_weights_are_no_prediction(study: measures.Study) -> None:
    kept = {goal: {**p, "keep_equal": True} for goal, p in study.predictions.items()}
    assert not list(measures.outcomes(replace(study, predictions=kept)))


def test_a_named_task_gains_and_no_guarded_one_is_violated(study: measures.Study) -> None:
    for goal in ("a", "b", "c,d"):
        row = measures.steered(study, goal)
        assert row.gain.low > 0
        assert row.gain.low <= row.predicted + 1
        assert set(row.guarded) == set(TASKS) - set(goal.split(","))
        assert row.violated == ()


def test_a_guarded_task_that_falls_is_violated_beyond_noise(study: measures.Study) -> None:
    falling = changes(np.array([4.0, 1.0, 1.0, 1.0, 0.2]))
    moved = replace(study, finals=final_rows({"steer:a": falling, "random": np.zeros(5)}))
    row = measures.steered(moved, "a")
    assert "e" in row.violated
    assert set(row.violated) <= set(row.below)
    other = measures.steered(moved, "a", "random")
    assert abs(other.gain.value) < 1
    assert other.violated == ()


def test_the_mean_counts_measurable_tasks(study: measures.Study) -> None:
    response = fit_response(study.trials)
    assert measures.names_of("mean", response) == list(TASKS)
    change = measures.mean_change(study, "steer:a", ["a"])
    assert change.value == pytest.approx(study.finals.changes("steer:a")[:, 0].mean())


def test_regret_is_zero_for_the_same_weights_and_large_for_opposite_ones(
    study: measures.Study,
) -> None:
    same = {goal: prediction["weights"] for goal, prediction in study.predictions.items()}
    assert all(r.lost == 0 for r in measures.regrets(replace(study, cheap_weights=same)))
    assert [r.goal for r in measures.regrets(study)] == list(study.predictions)
    opposite = {"a": {**dict.fromkeys(TASKS, 1.0), "a": 0.5}}
    [regret] = measures.regrets(replace(study, cheap_weights=opposite))
    assert regret.lost > 2
    assert regret.cheap < 0


def test_the_best_trial_is_held_against_luck() -> None:
    flat = trials(NOISE, scale=0.0)
    noise = measures.noise_of_mean(fit_response(flat), TASKS)
    assert noise == pytest.approx(NOISE / np.sqrt(5), rel=0.4)
    best = measures.best_trial(flat, TASKS, noise)
    assert best.count == 14
    assert best.best < best.luck
    scores = flat.scores.copy()
    scores[3] *= 1.05
    assert measures.best_trial(replace(flat, scores=scores), TASKS, noise).best > 2.5 * best.luck


def test_levers_are_compared_at_the_same_design_points() -> None:
    weights = trials(0.05)
    weaker = trials(0.05, scale=0.5)
    ratios = replace(weaker, weights=np.ones_like(weights.weights), ratios=weights.weights)
    compared = measures.levers(weights, ratios)
    assert compared.correlation > 0.95
    assert compared.cross_correlation < compared.correlation
    for by_weight, by_ratio in compared.own_effects.values():
        assert by_ratio.value == pytest.approx(by_weight.value / 2, abs=0.2)
    assert set(compared.difference) == set(TASKS)
    with pytest.raises(ValueError, match="same design points"):
        measures.levers(weights, replace(ratios, ratios=np.roll(weights.weights, 1, axis=0)))


def test_levers_are_correlated_over_tasks_that_both_can_measure() -> None:
    """The committed studies; with tasks of luck, the first would be .92 (docs/ratios.md)."""
    for name, expected in (("pocket", (0.87, 0.67)), ("skewed", (0.89, 0.575))):
        study = committed(name)
        assert study.cheap is not None
        assert study.cheap_ratios is not None
        compared = measures.levers(study.cheap, study.cheap_ratios)
        correlations = compared.correlation, compared.cross_correlation
        assert correlations == pytest.approx(expected, abs=0.005)


@cache
def from_short_trials(name: str) -> tuple[Response, Response, dict[str, Choice]]:
    """The fits of the short and the full trials, and what the short ones choose for every goal."""
    study = committed(name)
    assert study.cheap is not None
    short, full = fit_response(study.cheap), fit_response(study.trials)
    return short, full, {goal: choose_weights(short, goal) for goal in ("mean", *short.counted)}


def by_the_full_trials(full: Response, choice: Choice) -> dict[str, float]:
    """Predicted change of every score with chosen weights."""
    z = doublings(np.array(list(choice.weights.values())))
    return dict(zip(full.scored, full.changes(z).tolist(), strict=True))


def test_short_trials_promise_more_than_their_weights_gain() -> None:
    """What `Response.fraction_sentence` and docs/steer.md say."""
    promised, gained = [], []
    for name, of_mean in (("pocket", (2.12, -0.14)), ("skewed", (0.76, 0.10))):
        _, full, choices = from_short_trials(name)
        for goal, choice in choices.items():
            changes = by_the_full_trials(full, choice)
            gain = np.mean([changes[task] for task in measures.names_of(goal, full)])
            if goal == "mean":
                assert (choice.gain.value, gain) == pytest.approx(of_mean, abs=0.01)
                continue
            promised.append(choice.gain.value)
            gained.append(gain)
    assert len(promised) == 11
    assert 1 / 6 < sum(gained) / sum(promised) < 1 / 4
    assert (min(promised), max(promised)) == pytest.approx((0.0, 10.0), abs=0.1)
    assert (min(gained), max(gained)) == pytest.approx((-0.2, 1.4), abs=0.1)


UNGUARDED = [("pocket", {"grounding": -1.1}), ("skewed", {"relation": -3.9, "grounding": -2.4})]


@pytest.mark.parametrize(("name", "lowest"), UNGUARDED)
def test_tasks_that_short_trials_cannot_measure_would_fall_if_their_weights_were_lowered(
    name: str, lowest: dict[str, float]
) -> None:
    """What docs/steer.md says."""
    short, full, choices = from_short_trials(name)
    free = dict.fromkeys(short.unmeasurable)
    allowed = [choose_weights(short, goal, {"*": -1, **free}) for goal in choices]
    assert set(short.unmeasurable) == set(lowest)
    for task, expected in lowest.items():
        fallen = min(by_the_full_trials(full, choice)[task] for choice in allowed)
        kept = min(by_the_full_trials(full, choice)[task] for choice in choices.values())
        assert fallen == pytest.approx(expected, abs=0.05)
        assert kept > -0.5


def test_guarded_tasks_of_short_trials_keep_their_floors_but_for_one() -> None:
    below = {}
    for name, _ in UNGUARDED:
        _, full, choices = from_short_trials(name)
        for goal, choice in choices.items():
            changes = by_the_full_trials(full, choice)
            below |= {(name, goal, task): low for task, low in changes.items() if low < -1}
    assert below == {("skewed", "mean", "chart"): pytest.approx(-1.1, abs=0.05)}


def test_tables_are_read_as_they_were_written_and_reported(
    study: measures.Study, tmp_path: Path
) -> None:
    (tmp_path / "trials-full.csv").write_text(study.trials.to_csv())
    assert study.cheap is not None
    (tmp_path / "trials-cheap.csv").write_text(study.cheap.to_csv())
    (tmp_path / "random.csv").write_text(study.trials.to_csv())
    ratios = replace(
        study.trials, weights=np.ones_like(study.trials.weights), ratios=study.trials.weights
    )
    for name in ("trials-ratios.csv", "trials-cheap-ratios.csv"):
        (tmp_path / name).write_text(ratios.to_csv())
    for goal, prediction in study.predictions.items():
        name = goal.replace(",", "+")
        (tmp_path / f"prediction-{name}.json").write_text(json.dumps(prediction))
        (tmp_path / f"cheap-{name}.json").write_text(json.dumps(prediction))
    lines = [["method", "seed", *(f"score:{task}" for task in TASKS)]]
    for method, rows in study.finals.scores.items():
        lines += [[method, seed, *map(repr, scores)] for seed, scores in rows.items()]
    (tmp_path / "finals.csv").write_text("".join(",".join(line) + "\n" for line in lines))
    again = measures.read_study(tmp_path)
    assert again.finals == study.finals
    assert measures.steered(again, "c,d") == measures.steered(study, "c,d")
    text = "\n".join(steering.report(again))
    for part in ("coverage", "steer:c+d", "steer:mean", "cheap", "Correlation of the effects"):
        assert part in text
    methods = [method for method in study.finals.scores if method != "ew"]
    first = study.finals.changes(methods[0])[:, 0].mean()
    assert f"| task | {' | '.join(methods)} |" in text
    assert f"| {TASKS[0]} | {first:+.2f} [" in text
    assert text.count("## Sampling ratios minus loss weights") == 2


RECIPE = {
    "name": "two",
    "tasks": {
        name: {
            "train": f"{name}.jsonl",
            "validation": f"{name}.jsonl",
            "test": {"x": f"{name}.jsonl", "y": f"{name}.jsonl"},
        }
        for name in ("a", "b")
    },
    "model": {"checkpoint": "base"},
}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    return path


@pytest.mark.parametrize("repeated", ["full", "cheap"])
def test_the_plan_names_every_command_once_in_order(
    recipe: Path, capsys: pytest.CaptureFixture[str], repeated: str
) -> None:
    wanted = ["--goals", "mean,b+a", "--others", "cotbal,cotbal-simple,tla", "--ratios", repeated]
    steering.main(["plan", str(recipe), "--out", "study", *wanted, "--workers", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == [
        "response",
        "response",
        *["steer"] * 4,
        "response",
        "compare",
        "compare",
    ]
    assert len(set(lines)) == len(lines)
    assert ["--fraction 1" in lines[k] for k in (0, 1, 6)] == [True, False, repeated == "full"]
    assert [line.split("--out ")[1].split()[0] for line in lines[:2]] == [
        "study/full",
        "study/cheap",
    ]
    assert "ratios" not in lines[1]
    assert "--lever ratios --out study/" in lines[6]
    assert "--goal a,b" in lines[3]
    assert "--methods ew,cotbal,tla,steer:mean,steer:a+b " in lines[-2]
    assert " balance.form=simple --methods cotbal " in lines[-1]
    assert "--out study/full" in lines[-2]
    assert "--out study/cotbal-simple" in lines[-1]
    for line in lines[-2:]:
        assert "--workers 2 --threads 1" in line
        assert "--seeds 10,11,12,13,14" in line


def test_a_study_of_sampling_ratios_has_no_cheap_trials(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ["--goals", "mean,b+a", "--lever", "ratios"]
    steering.main(["plan", str(recipe), "--out", "study", *wanted])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["response", "steer", "steer", "compare"]
    assert "--fraction 1 --lever ratios --out study/full" in lines[0]
    assert "study/full" in lines[1]
    assert "--methods ew,steer:mean,steer:a+b " in lines[-1]


def test_final_models_have_other_seeds_than_trials(recipe: Path) -> None:
    with pytest.raises(SystemExit, match="--seeds"):
        steering.main(["plan", str(recipe), "--out", "study", "--seeds", "1,2"])


@pytest.mark.parametrize(
    ("method", "weighting"), [("steer:a", "steer:a"), ("cotbal-simple", "cotbal")]
)
def test_final_scores_are_means_over_test_splits(
    recipe: Path, tmp_path: Path, method: str, weighting: str
) -> None:
    run = tmp_path / "run"
    for seed, value in ((0, 0.2), (10, 0.4)):
        root = RunDir(run) if seed == 0 else RunDir(run).seeded(seed)
        for task in ("a", "b"):
            for split, more in (("x", 0.0), ("y", 0.1)):
                path = root.final(weighting).scores(task, split)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps({"metrics": {"exact_match": {"score": value + more}}}))
    header, *rows = steering.final_scores(load_recipe(recipe), {method: run}, (0, 10))
    assert header == ["method", "seed", "score:a", "score:b"]
    assert [row[:2] for row in rows] == [[method, "0"], [method, "10"]]
    assert float(rows[0][2]) == pytest.approx(0.25)
    assert float(rows[1][3]) == pytest.approx(0.45)


def test_the_best_random_weights_are_chosen_by_relative_scores() -> None:
    tried = steering.random_weights(("a", "b", "c"), 4)
    assert len(tried) == 5
    assert set(tried[0].values()) == {1.0}
    assert len({tuple(row.values()) for row in tried}) == 5
    for row in tried:
        assert sum(row.values()) == pytest.approx(3)
    assert tried == steering.random_weights(("a", "b", "c"), 4)
    scores = np.array([[0.1, 0.9], [0.13, 0.9], [0.1, 1.0]])
    table = Trials(("a", "b"), ("a", "b"), np.ones((3, 2)), scores, ("0",) * 3)
    assert steering.best_of(table) == 1


def test_the_page_of_results_has_the_published_gains_of_ratios() -> None:
    """Final models of ten seeds, with ratios chosen for one task, against equal ratios."""
    study = measures.read_study(BENCHMARKS / "results" / "data" / "steering_skewed_ratios")
    page = text_of("docs/results.md")
    goals = ("caption", "ocr", "chart", "grounding")
    rows = {goal: measures.steered(study, goal) for goal in goals}
    for goal, row in rows.items():
        gain = f"{row.gain.value:+.1f} [{row.gain.low:+.1f}, {row.gain.high:+.1f}]"
        assert f"{goal} | {row.predicted:+.1f} | {gain} | yes |" in page
        assert row.gain.low > 0
        assert row.violated == ()
    per_seed = [
        study.finals.changes(f"steer:{goal}")[:, study.finals.tasks.index(goal)] for goal in goals
    ]
    average = mean_over_seeds(np.mean(per_seed, axis=0))
    assert f"{average.value:+.1f} [{average.low:+.1f}, {average.high:+.1f}] | yes |" in page
    inside = [outcome.inside for _, outcome in measures.outcomes(study)]
    assert f"{sum(inside)} of {len(inside)} (.97)" in page
    assert measures.agreement(list(measures.outcomes(study)))["correlation"] == pytest.approx(
        0.76, abs=5e-3
    )


def test_the_page_of_results_has_the_gains_of_ratios_on_stamps() -> None:
    """Real images and a pretrained model; four seeds."""
    study = measures.read_study(BENCHMARKS / "results" / "data" / "steering_stamps_ratios")
    page = text_of("docs/results.md")
    goals = ("detail_caption", "general_vqa", "ocr_qa")
    tasks = study.finals.tasks
    named, guarded = [], []
    for goal in goals:
        row = measures.steered(study, goal)
        gain = f"{row.gain.value:+.1f} [{row.gain.low:+.1f}, {row.gain.high:+.1f}]"
        assert f"{goal} | {row.predicted:+.1f} | {gain} | |" in page
        assert row.gain.low < 0 < row.gain.value
        assert row.violated == ()
        changes = study.finals.changes(f"steer:{goal}")
        named.append(changes[:, tasks.index(goal)])
        guarded += [changes[:, j] for j, task in enumerate(tasks) if task != goal]
    average = mean_over_seeds(np.mean(named, axis=0))
    assert average.low > 0
    assert f"{average.value:+.1f} [{average.low:+.1f}, {average.high:+.1f}] | yes |" in page
    lost = mean_over_seeds(np.mean(guarded, axis=0))
    assert f"{lost.value:.1f} [{lost.low:.1f}, {lost.high:.1f}]" in page
    outcomes = list(measures.outcomes(study))
    assert [outcome.inside for _, outcome in outcomes] == [True] * 9
    assert measures.agreement(outcomes)["correlation"] == pytest.approx(0.92, abs=5e-3)
    assert study.predictions["mean"]["keep_equal"]
    for goal in goals:
        assert measures.mean_change(study, f"steer:{goal}", tasks).value < 0


def test_the_page_of_results_has_the_means_where_one_data_set_dominates() -> None:
    """Final models of six seeds, against equal ratios; grounding could not be measured."""
    study = measures.read_study(BENCHMARKS / "results" / "data" / "steering_dominated_ratios")
    page = text_of("docs/results.md")
    names = fit_response(study.trials).counted
    assert set(study.finals.tasks) - set(names) == {"grounding", "chat"}
    means = {}
    for method in ("sampling:0", "sampling:0.5", "steer:mean", "tla"):
        mean = means[method] = measures.mean_change(study, method, names)
        assert f"{mean.value:+.1f}" in page
        assert f"[{mean.low:.1f}, {mean.high:.1f}]" in page
    assert all(means[method].low > 0 for method in ("sampling:0", "sampling:0.5", "steer:mean"))
    columns = [study.finals.tasks.index(name) for name in names]
    gaps = study.finals.changes("sampling:0.5") - study.finals.changes("steer:mean")
    gap = mean_over_seeds(gaps[:, columns].mean(axis=1))
    assert f"{gap.value:.1f} points [{gap.low:.1f}, {gap.high:.1f}] above `steer`" in page
    assert (study.finals.changes("cotbal") == 0).all()
    inside = [outcome.inside for _, outcome in measures.outcomes(study)]
    assert inside == [True] * 8


def test_steering_from_temperature_sampling_holds_what_it_predicts_and_adds_little() -> None:
    data = BENCHMARKS / "results" / "data"
    study = measures.read_study(data / "steering_dominated_from_sampling")
    before = measures.read_study(data / "steering_dominated_ratios")
    assert study.finals.scores["ew"] == before.finals.scores["sampling:0.5"]
    names = fit_response(before.trials).counted
    assert fit_response(study.trials).counted == names
    mean = measures.mean_change(study, "steer:mean", names)
    gain = study.predictions["mean"]["gain"]
    low, high = gain["interval"]
    expected = (
        f"{mean.value:+.1f} % [{mean.low:.1f}, {mean.high:.1f}], predicted"
        f" {gain['value']:+.1f} [{low:.1f}, {high:.1f}]"
    )
    assert expected in text_of("docs/results.md")
    assert f"{mean.value:+.1f} % [{mean.low:.1f}, {mean.high:.1f}]" in text_of("docs/ratios.md")
    assert mean.low < 0 < mean.value
    assert [outcome.inside for _, outcome in measures.outcomes(study)] == [True] * 8
    relation = measures.steered(study, "mean")
    assert (relation.below, relation.violated) == (("relation",), ())


def test_temperature_sampling_raises_the_mean_of_the_skewed_mix_too() -> None:
    study = measures.read_study(BENCHMARKS / "results" / "data" / "steering_skewed_ratios")
    assert len(study.finals.scores["sampling:0.5"]) == 4
    mean = measures.mean_change(study, "sampling:0.5", study.trials.tasks)
    assert len(study.trials.tasks) == 7
    expected = f"{mean.value:+.1f} % [{mean.low:.1f}, {mean.high:.1f}] (four of five planned seeds"
    assert expected in text_of("docs/results.md")
