from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from cotbal.data.files import append_jsonl, write_json
from cotbal.jobs import pipeline
from cotbal.jobs.plan import ANSWER_COST, Prepared
from cotbal.jobs.rundir import RunDir
from cotbal.recipe.recipe import load_recipe
from helpers.errors import names_all
from helpers.pipeline_fakes import TEST, TRAIN, VALIDATION, offer_options, write_mixture

SEVEN = ("a", "b", "c", "d", "e", "f", "g")


def planned(path: Path, *overrides: str, weightings: tuple[str, ...] = ("cotbal",)) -> Prepared:
    return pipeline.plan(load_recipe(path, overrides), RunDir(path.parent / "run"), weightings)


def test_the_probes_of_the_paper_cost_1_22_times_the_final_run(tmp_path: Path) -> None:
    """Seven balanced tasks, large 1, mini 1/32: `r_large + T * r_mini` = 1 + 7/32."""
    path = write_mixture(
        tmp_path / "m", SEVEN, train=96, unbalanced=False, portions={"large": 1, "mini": "1/32"}
    )
    plan = planned(path, "balance.replicates=1").plan
    assert plan.probe_share == pytest.approx(1 + 7 / 32)
    assert plan.balanced_share == pytest.approx(1 + 7 / 32)
    assert plan.replicate_share == 0
    assert "1.22" in plan.sentence()
    with_replicates = planned(path).plan
    assert with_replicates.probe_share == pytest.approx(1 + 7 / 32 + 2 / 32)
    assert with_replicates.replicate_share == pytest.approx(2 / 32)
    assert "1.28" in with_replicates.sentence()
    assert "0.06" in with_replicates.sentence()


@pytest.mark.parametrize(("large", "mini"), [("1", "1/8"), ("1/2", "1/4"), ("3/4", "1/16")])
def test_the_share_is_large_plus_tasks_times_mini(recipe_path: Path, large: str, mini: str) -> None:
    portions = (f"portions.large={large}", f"portions.mini={mini}")
    plan = planned(recipe_path, *portions, "balance.replicates=2").plan
    identity = Fraction(large) + (3 + 1) * Fraction(mini)
    assert plan.balanced_share == pytest.approx(float(identity))
    assert plan.probe_share == pytest.approx(
        float(identity) * 3 / 4
    )  # the unbalanced task is in the final run alone
    assert names_all(plan.sentence(), f"{plan.probe_share:.2f} x", f"{float(identity):.2f} x")


def test_every_run_has_its_records_and_answers(recipe_path: Path) -> None:
    plan = planned(recipe_path, weightings=("ew", "cotbal")).plan
    mini = TRAIN // 8
    by_label = {p.label: (p.kind, p.records, p.answers) for p in plan.runs}
    probe = ("probe", TRAIN + 2 * mini, 3 * VALIDATION)
    assert by_label == {
        "mini": ("probe", 3 * mini, 3 * VALIDATION),
        "full:ocr": probe,
        "full:vqa": probe,
        "full:count": probe,
        "mini, seed 1": ("probe", 3 * mini, 3 * VALIDATION),
        "mini, seed 2": ("probe", 3 * mini, 3 * VALIDATION),
        "ew": ("final", 4 * TRAIN, 4 * TEST),
        "cotbal": ("final", 4 * TRAIN, 4 * TEST),
    }
    final = plan.runs[-1]
    assert final.share == 1
    assert final.work(epochs=2) == 2 * 4 * TRAIN + ANSWER_COST * 4 * TEST


def test_options_are_counted_where_an_answer_is_chosen(recipe_path: Path) -> None:
    for split in ("validation", "test"):
        offer_options(recipe_path.parent / f"vqa_{split}.jsonl")
    assert {p.options for p in planned(recipe_path).plan.runs} == {0}
    plan = planned(recipe_path, "tasks.vqa.choose=sum").plan
    assert [p.options for p in plan.runs] == [3 * VALIDATION] * 6 + [3 * TEST]
    assert f"{18 * VALIDATION + 3 * TEST:,} options" in plan.sentence()
    assert plan.to_json()["runs"][-1]["options"] == 3 * TEST


def test_answers_of_several_splits_are_counted_whatever_they_are_called(recipe_path: Path) -> None:
    plan = planned(
        recipe_path, "tasks.ocr.test={testA: ocr_test.jsonl, refcoco.B: ocr_validation.jsonl}"
    ).plan
    assert plan.runs[-1].answers == 4 * TEST + VALIDATION
    assert plan.runs[0].answers == 3 * VALIDATION


def test_tokens_are_counted_where_there_is_a_tokenizer(recipe_path: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    assert all(p.tokens is None for p in planned(recipe_path).plan.runs)
    words = ("answer", "[UNK]", *"01234")
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(recipe_path.parent / "base" / "tokenizer.json"))
    plan = planned(recipe_path).plan
    assert [p.tokens for p in plan.runs] == [
        3 * p.records for p in plan.runs
    ]  # two words, and the end of the turn


def test_seconds_are_known_once_something_was_timed(recipe_path: Path) -> None:
    root = RunDir(recipe_path.parent / "run")
    assert all(p.seconds is None for p in planned(recipe_path).plan.runs)
    mini = root.probe("mini")
    # One logged step is enough: half an epoch of 24 records in 6 seconds.
    write_json(mini.job, {"records": 24})
    append_jsonl(mini.training, {"step": 3, "epoch": 0.5, "seconds": 6.0})
    plan = planned(recipe_path, "optimization.epochs=2").plan
    assert [p.seconds for p in plan.runs] == pytest.approx([0.5 * p.work(2) for p in plan.runs])
    assert names_all(plan.sentence(), f"{sum(p.seconds or 0 for p in plan.runs):.0f} s")
    # A finished run says more.
    write_json(mini.outcome, {"seconds": {"total": 40.0, "training": 24.0}, "records": 24})
    first, second, *_ = planned(recipe_path).plan.runs
    assert first.seconds == 40
    assert second.seconds == pytest.approx(second.work(1))


def test_json(recipe_path: Path) -> None:
    content = planned(recipe_path).plan.to_json()
    assert content["form"] == "standard"
    assert content["probe_share"] == pytest.approx(
        sum(r["share"] for r in content["runs"] if r["kind"] == "probe")
    )
    entry = content["runs"][1]
    assert entry["name"] == "full:ocr"
    assert entry["weighting"] == "ew"
    assert entry["portions"] == {"ocr": "large", "vqa": "mini", "count": "mini"}
    assert [(run["name"], run["seed"]) for run in content["runs"] if run["replicate"] > 1] == [
        ("mini", 1),
        ("mini", 2),
    ]
    assert content["replicate_share"] == pytest.approx(2 * content["runs"][0]["share"])


@pytest.mark.parametrize("form", ["standard", "simple"])
def test_replicates_lie_where_a_whole_set_of_that_seed_would(recipe_path: Path, form: str) -> None:
    settings = (f"balance.form={form}", "optimization.seed=4")
    replicates = [p for p in planned(recipe_path, *settings).plan.runs if p.replicate > 1]
    sets = planned(recipe_path, *settings, "balance.seeds=[4, 5, 6]").plan
    assert len(replicates) == (2 if form == "standard" else 2 * 3)
    assert not [p for p in sets.runs if p.replicate > 1], "several seeds take precedence"
    assert sets.replicate_share == 0
    paths = {p.paths.root: (p.run, p.records) for p in sets.runs}
    for p in replicates:
        assert paths[p.paths.root] == (p.run, p.records)
        assert p.paths.root.parent.parent.name == f"seed-{p.run.seed}"


def test_planning_writes_nothing(recipe_path: Path) -> None:
    before = sorted(recipe_path.parent.rglob("*"))
    planned(recipe_path)
    assert sorted(recipe_path.parent.rglob("*")) == before
