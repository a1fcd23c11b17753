"""`compare` and `ablate`: which runs they need, what is shared, and what they leave on disk."""

from __future__ import annotations

import html
from pathlib import Path

import numpy as np
import pytest

from cotbal.balance.improvement import overall
from cotbal.data.files import read_json, read_jsonl
from cotbal.errors import CotbalError, RunsFailed
from cotbal.jobs import pipeline
from cotbal.jobs.compare import (
    Study,
    all_methods,
    method_names,
    plan_ablation,
    plan_comparison,
    run_comparison,
)
from cotbal.jobs.execute import Options
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.status import status
from cotbal.recipe.ratios import passes
from cotbal.recipe.recipe import load_recipe
from cotbal.report import write_comparison, write_report
from cotbal.report.contents import read_contents
from cotbal.report.model_tables import model_tables
from cotbal.report.models import compare_all
from cotbal.scores.results import read_results
from cotbal.weightings import method_label
from helpers.errors import names_all, raises
from helpers.pipeline_fakes import EXECUTOR, TASKS, write_mixture

OPTIONS = Options(executor=EXECUTOR)
SEVEN = ("stl", "ew", "tla", "rlw", "dwa", "igbv1", "cotbal")


def comparison(
    path: Path, *overrides: str, methods: tuple[str, ...] = SEVEN, seeds: tuple[int, ...] = (0,)
) -> Study:
    return plan_comparison(
        load_recipe(path, overrides), RunDir(path.parent / "run"), method_names(methods), seeds
    )


def ablation(
    path: Path, *overrides: str, precise: bool = True, seeds: tuple[int, ...] = (0,)
) -> Study:
    return plan_ablation(
        load_recipe(path, overrides), RunDir(path.parent / "run"), (0.25, 0.5, 1), precise, seeds
    )


def names(study: Study) -> list[str]:
    return [p.label for p in study.prepared.plan.runs]


def test_methods_by_the_names_of_the_paper() -> None:
    assert method_names(["EW", " cotbal", "STL", "ew", "tla"]) == (
        "ew",
        "cotbal",
        "stl",
        "tla",
    )
    assert set(all_methods()) == {*SEVEN, "steer", "sampling", "torchjd"}
    assert method_names(["TorchJD:STCH", "own.module:a"]) == ("torchjd:STCH", "own.module:a")
    for unknown in ("gradnorm", "gradnorm:fast"):
        with raises(CotbalError, "unknown-method", "stl", "cotbal", "gradnorm"):
            method_names(["ew", unknown])


def test_every_method_is_planned_once_a_seed_and_the_probes_once(recipe_path: Path) -> None:
    planned = names(comparison(recipe_path, seeds=(0, 2)))
    probes = ["mini", "full:ocr", "full:vqa", "full:count", "mini, seed 1", "mini, seed 2"]
    first = ["solo:ocr", "solo:vqa", "solo:count", *SEVEN[1:]]
    assert planned == [*probes, *first, *(f"{name}, seed 2" for name in first)]


def test_temperature_sampling_needs_no_trials_and_its_ratios_are_planned_and_reported(
    recipe_path: Path,
) -> None:
    study = comparison(recipe_path, methods=("ew", "sampling:0"))
    plain, sampled = study.prepared.plan.runs
    assert plain.run.ratios is None
    portions = study.prepared.inputs.sizes
    sizes = {task: portions[task]["full"] for task in TASKS}
    assert sampled.run.ratios is not None
    times = passes(sampled.run.ratios, sizes)
    shown = {times[task] * size for task, size in sizes.items()}
    assert len({round(count, 6) for count in shown}) == 1
    run_comparison(study, OPTIONS)
    assert read_json(sampled.paths.job)["run"]["ratios"] == sampled.run.ratios
    page = write_report(study.prepared.root.root).read_text()
    assert method_label("sampling:0") in page


def test_without_cotbal_no_probe_is_needed(recipe_path: Path) -> None:
    assert names(comparison(recipe_path, methods=("ew", "tla"))) == ["ew", "tla"]


def test_single_task_models_are_the_paper_s_even_where_probes_are_cheaper(
    recipe_path: Path,
) -> None:
    """STL sees all of its task and the model of the recipe; cheaper probes are other trainings."""
    for change in ("portions.large=1/2", "probes.model={language: lora}"):
        planned = names(comparison(recipe_path, change, methods=("stl", "ew")))
        assert planned == ["stl:ocr", "stl:vqa", "stl:count", "ew"]
    elsewhere = names(comparison(recipe_path, "probes.resources={cpus: 2}", methods=("stl", "ew")))
    assert elsewhere == ["solo:ocr", "solo:vqa", "solo:count", "ew"]


def test_a_comparison_leaves_tables_that_overall_reads(recipe_path: Path, log: Path) -> None:
    study = comparison(recipe_path, seeds=(0, 1, 2))
    run_comparison(study, OPTIONS)
    write_comparison(study.prepared.root.root)
    page = write_report(study.prepared.root.root)
    folder = study.prepared.root.comparison
    results = read_results(folder / "results.csv")
    assert results.methods == ("STL", "EW", "DWA", "IGBv1", "RLW", "TLA", "CoTBal")
    assert results.tasks == TASKS, "chat is not balanced, so Eq. 13 leaves it out"
    seeds = [read_results(folder / f"results-seed-{seed}.csv") for seed in (0, 1, 2)]
    np.testing.assert_allclose(
        results.values, np.mean([of_seed.values for of_seed in seeds], axis=0)
    )
    kept = read_json(folder / "comparison.json")
    by_hand = np.mean([overall(of_seed, "STL")["CoTBal"].improvement for of_seed in seeds])
    # Eq. 13 of mean scores, which is close to the mean of Eq. 13 and what the table shows.
    improvement = kept["against"]["CoTBal"]["improvement"]["value"]
    assert improvement == pytest.approx(overall(results, "STL")["CoTBal"].improvement)
    assert improvement == pytest.approx(by_hand, abs=2)
    assert kept["minus_EW"]["CoTBal"]["half_width"] > 0
    shown = compare_all(read_contents(study.prepared.root.root))
    assert (shown.reference, shown.seeds) == ("stl", (0, 1, 2))
    text = html.unescape(page.read_text())
    assert all(table.title in text for table in model_tables(shown))
    assert len(read_jsonl(log)) == 4 + 2 + 3 * (3 + 6)


def test_nothing_is_trained_twice(recipe_path: Path, log: Path) -> None:
    pipeline.run(
        pipeline.plan(load_recipe(recipe_path), RunDir(recipe_path.parent / "run")), OPTIONS
    )
    run_comparison(comparison(recipe_path, methods=("ew", "cotbal")), OPTIONS)
    run_comparison(ablation(recipe_path), OPTIONS)
    run_comparison(comparison(recipe_path, methods=("stl", "ew", "cotbal"), seeds=(0, 1)), OPTIONS)
    done = [str(entry) for entry in read_jsonl(log)]
    assert done.count("full:ocr") == done.count("solo-mini:ocr") == 1
    assert done.count("mini") == 3, "its replicates have other seeds"
    assert done.count("cotbal") == done.count("ew") == done.count("solo:ocr") == 2, "once a seed"


def test_all_models_share_the_workers_once_probes_are_done(
    recipe_path: Path, batches: list[list[str]], watched: Options
) -> None:
    run_comparison(comparison(recipe_path, methods=("ew", "cotbal")), watched)
    probes, models = batches
    assert {"mini", "full:ocr", "ew"} < set(probes)
    assert models == ["cotbal"], "its weights are those of the probes"
    batches.clear()
    run_comparison(comparison(recipe_path, methods=("tla", "cotbal"), seeds=(1,)), watched)
    assert batches == [["tla, seed 1", "cotbal, seed 1"]]


def test_an_interrupted_comparison_shows_what_is_there(
    recipe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COTBAL_FAKE_FAIL", "tla, seed 1")
    with raises(RunsFailed, "runs-failed", "tla, seed 1"):
        run_comparison(comparison(recipe_path, methods=("ew", "tla"), seeds=(0, 1)), OPTIONS)
    states = {state.run: state.state for state in status(RunDir(recipe_path.parent / "run"))}
    assert states == {
        "ew": "done",
        "tla": "done",
        "ew, seed 1": "done",
        "tla, seed 1": "failed",
    }
    written = write_comparison(recipe_path.parent / "run")
    assert written.seeds == (0,)


def test_ablation_plans_the_rows_of_table_5(recipe_path: Path) -> None:
    planned = names(ablation(recipe_path))
    alone = [f"{kind}:{task}" for task in TASKS for kind in ("solo", "solo-mini")]
    assert planned == [
        "mini",
        "full:ocr",
        "full:vqa",
        "full:count",
        "mini, seed 1",
        "mini, seed 2",
        *alone,
        "ew",
        "cotbal",
        "cotbal-outward",
        "cotbal-inward",
        "cotbal-inter",
        "cotbal-intra",
        "cotbal-temperature-0.25",
        "cotbal-temperature-1",
        "cotbal-precise-difficulty",
    ]
    assert "solo:ocr" not in names(ablation(recipe_path, precise=False))


def test_every_variant_trains_with_its_own_weights(recipe_path: Path) -> None:
    study = ablation(recipe_path)
    run_comparison(study, OPTIONS)
    root = study.prepared.root
    write_comparison(root.root)
    write_report(root.root)
    weights = {
        name: read_json(root.final(name).job)["weights"] for name in ("cotbal", *study.variants)
    }
    parts = read_json(root.balance)["parts"]
    for part in ("outward", "inward", "inter", "intra"):
        assert list(weights[f"cotbal-{part}"].values())[:3] == pytest.approx(parts[part])
    assert list(weights["cotbal"].values())[:3] == pytest.approx(parts["all"])
    mild, sharp = (
        np.ptp(list(weights[f"cotbal-temperature-{tau}"].values())) for tau in ("1", "0.25")
    )
    assert mild < np.ptp(list(weights["cotbal"].values())) < sharp
    assert weights["cotbal-precise-difficulty"] != weights["cotbal"]
    assert all(by_task["chat"] == 1 for by_task in weights.values())
    kept = read_json(root.comparison / "variants.json")
    assert kept["cotbal-inter"]["part"] == "inter"
    methods = read_results(root.comparison / "results.csv").methods
    assert {"STL", "EW", "CoTBal", "CoTBal (inter)", "CoTBal (temperature 0.25)"} <= set(methods)
    shown = (
        (root.report / "tables.md")
        .read_text()
        .partition("Weights that models were trained with")[2]
    )
    header, _, *rows = shown.strip().splitlines()
    column = header.split(" | ").index("CoTBal (inter)")
    assert float(rows[0].split(" | ")[column]) == pytest.approx(
        weights["cotbal-inter"][rows[0].split()[1]], abs=6e-4
    )


def test_the_simple_form_shares_its_single_task_models(recipe_path: Path, log: Path) -> None:
    study = comparison(recipe_path, "balance.form=simple", methods=("stl", "ew", "cotbal"))
    run_comparison(study, OPTIONS)
    done = [str(entry) for entry in read_jsonl(log)]
    assert done.count("solo:ocr") == 1
    assert read_json(study.prepared.root.balance)["form"] == "simple"
    write_comparison(study.prepared.root.root)
    assert read_results(study.prepared.root.comparison / "results.csv").methods == (
        "STL",
        "EW",
        "CoTBal",
    )


def test_probes_over_several_seeds_join_their_noise(recipe_path: Path) -> None:
    study = comparison(recipe_path, "balance.seeds=[0, 1, 2]", methods=("cotbal",))
    run_comparison(study, OPTIONS)
    root = study.prepared.root
    assert read_json(root.balance)["seeds"] == 3
    assert {path.parent.name for path in root.root.glob("*/scores.csv")} == {
        "seed-0",
        "seed-1",
        "seed-2",
    }
    assert (root.seeded(1).probe("mini").outcome).exists()
    assert not root.seeded(0).probe("mini").outcome.exists(), (
        "the recipe's seed lies where it always does"
    )
    needs = read_json(root.balance)["needs"]
    assert all(need["training_error"] > 0 for need in needs)


def test_groups_at_a_quarter_of_the_data(tmp_path: Path) -> None:
    """The Large Benchmark: groups of tasks, with 1/4 as the large-enough portion."""
    path = write_mixture(tmp_path / "large", portions={"large": "1/4", "mini": "1/32"})
    study = comparison(
        path, "tasks.ocr.group=reading", "tasks.vqa.group=reading", methods=("stl", "ew", "cotbal")
    )
    assert names(study)[:3] == ["mini", "full:reading", "full:count"]
    assert [p.records for p in study.prepared.plan.runs[:3]] == [3 * 2, 2 * 16 + 2, 16 + 4]
    run_comparison(study, OPTIONS)
    weights = read_json(study.prepared.root.weights)
    assert list(weights["weights"]) == ["reading", "count"]
    assert weights["tasks"]["ocr"] == weights["tasks"]["vqa"]


def test_a_method_that_would_never_start_is_reported_before_it_is_paid_for(
    recipe_path: Path,
) -> None:
    """256 records in batches of 16 are 16 steps."""
    warnings = comparison(recipe_path, methods=("dwa", "igbv1", "rlw")).prepared.warnings
    dwa, igb = (line for line in warnings if names_all(line, "optimizer steps", 16))
    assert names_all(dwa, "DWA", 50)
    assert igb.startswith("IGB")
    smaller = ("weightings.dwa.window=4", "weightings.igbv1.window=3")
    assert not [
        line
        for line in comparison(recipe_path, *smaller).prepared.warnings
        if "optimizer steps" in line
    ]
