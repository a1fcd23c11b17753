from __future__ import annotations

import errno
import importlib
import importlib.metadata
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from cotbal.cli.app import app
from cotbal.errors import CotbalError, RecipeError, RunError, RunsFailed
from cotbal.jobs.inputs import FEW_RECORDS
from cotbal.response import fit_response
from cotbal.response.trials import read_trials
from cotbal.scores.interval import SAMPLING_ONLY, significance
from helpers.commands import Command
from helpers.errors import a_line_names, names_all
from helpers.pipeline_fakes import EXECUTOR

SCORES = "run,a,b\nmini,0.2,0.3\nfull:a,0.7,0.4\nfull:b,0.3,0.8\n"
ON = ("--on", EXECUTOR)


def test_init_writes_a_recipe_that_loads_and_overwrites_nothing(
    cotbal: Command, tmp_path: Path
) -> None:
    from cotbal.recipe.recipe import load_recipe

    ended = cotbal("init")
    assert ended.code == 0
    assert "cotbal check recipe.yaml" in ended.out
    written = (tmp_path / "recipe.yaml").read_text()
    assert load_recipe(tmp_path / "recipe.yaml").mixture.units == ("vqa", "caption")
    (tmp_path / "recipe.yaml").write_text(written + "# mine\n")
    cotbal("init").expect(CotbalError, "existing-output", "recipe.yaml")
    assert (tmp_path / "recipe.yaml").read_text() == written + "# mine\n"
    assert cotbal("init", "deep/er/other.yaml").code == 0
    assert (tmp_path / "deep/er/other.yaml").read_text() == written


def test_version(cotbal: Command) -> None:
    ended = cotbal("--version")
    assert (ended.code, ended.out) == (0, f"cotbal {importlib.metadata.version('cotbal')}\n")


def helps(node: Any, *verbs: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every verb, and all that its page says of its parameters as in the source."""
    yield (
        verbs,
        " ".join(
            str(parameter.help) for parameter in node.params if getattr(parameter, "help", None)
        ),
    )
    for name, inner in getattr(node, "commands", {}).items():
        yield from helps(inner, *verbs, name)


HELPS = {verbs: text for verbs, text in helps(typer.main.get_command(app)) if "<" in text}


@pytest.mark.parametrize("verbs", HELPS, ids=" ".join)
def test_a_help_page_shows_what_is_in_angles(
    cotbal: Command, monkeypatch: Any, verbs: tuple[str, ...]
) -> None:
    monkeypatch.setenv(
        "COLUMNS", "400"
    )  # Markdown takes <task> for HTML and leaves it out, if not in backquotes
    shown = cotbal(*verbs, "--help").out
    for word in re.findall(r"\S*<[^>]*>\S*", HELPS[verbs].replace("`", "")):
        assert word in shown


def test_check(cotbal: Command, recipe_path: Path) -> None:
    ended = cotbal("check", recipe_path, "--json")
    assert ended.code == 0
    content = json.loads(ended.out)
    assert content["errors"] == []
    assert {(t["task"], t["split"], t["records"]) for t in content["tasks"]} >= {
        ("ocr", "train", 64),
        ("chat", "test", 40),
    }
    assert "no errors" in cotbal("check", recipe_path).out


def test_check_lists_every_problem_and_fails(cotbal: Command, recipe_path: Path) -> None:
    path = recipe_path.parent / "ocr_train.jsonl"
    path.write_text(path.read_text().replace('"human"', '"humbug"', 3))
    ended = cotbal("check", recipe_path, "--json")
    assert ended.code == 2
    assert len(json.loads(ended.out)["errors"]) == 3
    assert cotbal("check", recipe_path).out.count("humbug") == 3


def test_plan(cotbal: Command, recipe_path: Path) -> None:
    ended = cotbal("plan", recipe_path, "portions.mini=1/4", "--json", "--weighting", "ew")
    assert ended.code == 0
    content = json.loads(ended.out)
    assert [r["name"] for r in content["runs"]] == [
        "mini",
        "full:ocr",
        "full:vqa",
        "full:count",
        "mini",
        "mini",
        "ew",
    ]
    assert content["probe_share"] == pytest.approx((1 + 5 / 4) * 3 / 4)
    assert content["replicate_share"] == pytest.approx(2 / 4 * 3 / 4)
    assert 0 < content["expected_half_width"] < 1
    assert any(names_all(line, FEW_RECORDS, "ocr") for line in content["warnings"])
    shown = cotbal("plan", recipe_path).out
    assert json.loads(cotbal("plan", recipe_path, "--json").out)["sentence"] in shown
    assert SAMPLING_ONLY not in shown
    alone = cotbal("plan", recipe_path, "balance.replicates=1").out
    assert SAMPLING_ONLY in alone


def test_plan_says_where_to_spend_the_next_run(cotbal: Command, recipe_path: Path) -> None:
    assert cotbal("plan", recipe_path, "--next").code == 2, "there are no scores yet"
    cotbal("balance", recipe_path, *ON)
    shown = cotbal("plan", recipe_path, "--next").out
    for change in ("balance.replicates=4", "balance.seeds=[0, 1]", "portions.mini=1/4"):
        assert change in shown
    content = json.loads(cotbal("plan", recipe_path, "--next", "--json").out)["next"]
    assert [step["step"] for step in content["steps"]] == ["replicate", "seed", "mini", "samples"]
    assert content["half_width"] > 0


def test_plan_predicts_the_time_on_a_number_of_gpus(cotbal: Command, recipe_path: Path) -> None:
    shown = cotbal("plan", recipe_path, "--gpus", "2", "--on", "slurm").out
    assert re.search(r"\b7 runs .* 2 GPUs .*slurm", shown)
    ended = cotbal("plan", recipe_path, "--gpus", "2", "--json")
    content = json.loads(ended.out)["forecast"]
    assert content["makespan"] >= content["bound"] > 0
    assert content["on"] == "processes"


def test_cancel_of_a_directory_in_which_nothing_runs(cotbal: Command, recipe_path: Path) -> None:
    cotbal("balance", recipe_path, *ON)
    ended = cotbal("cancel", "runs/small")
    assert (ended.code, ended.err, len(ended.out.splitlines())) == (0, "", 1)


def test_balance_train_status_report(cotbal: Command, recipe_path: Path, tmp_path: Path) -> None:
    ended = cotbal("balance", recipe_path, "--json", *ON)
    assert ended.code == 0, ended.err
    weights = json.loads(ended.out)["weights"]
    root = tmp_path / "runs" / "small"
    assert json.loads((root / "weights.json").read_text())["weights"] == weights
    assert "Weights: runs/small/weights.json" in cotbal("balance", recipe_path, *ON).out
    trained = cotbal("train", recipe_path, *ON)
    assert trained.code == 0, trained.err
    assert "CoTBal on test" in trained.out
    states = cotbal("status", root, "--json")
    assert {state["state"] for state in json.loads(states.out)} == {"done"}
    assert "full:vqa" in cotbal("status", root).out
    reported = cotbal("report", root)
    assert reported.code == 0
    assert Path(reported.out.strip()).name == "index.html"
    assert (root / "report" / "index.html").exists()


OWN_METRIC = """
MAXIMUM, HIGHER_IS_BETTER = 1.0, True


def score(predictions, references):
    return [max(FLOOR, a == b[0]) for a, b in zip(predictions, references)]


def constant_answer(references):
    return references[0][0]
"""


def write_metric(folder: Path, floor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A metric of the user's own, as another process finds it after an edit."""
    (folder / "own_metric").mkdir(exist_ok=True)
    (folder / "own_metric" / "__init__.py").write_text("")
    (folder / "own_metric" / "exact.py").write_text(OWN_METRIC.replace("FLOOR", str(floor)))
    # Bytecode is known by size and second: that of an edit in the same second would be used again.
    shutil.rmtree(folder / "own_metric" / "__pycache__", ignore_errors=True)
    for name in ("own_metric", "own_metric.exact"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.invalidate_caches()


def test_rescore(
    cotbal: Command, recipe_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a change of a metric, all that follows from the kept answers is made again."""
    monkeypatch.syspath_prepend(tmp_path)
    write_metric(tmp_path, 0.0, monkeypatch)
    metric = "tasks.ocr.metric=own_metric.exact"
    assert cotbal("run", recipe_path, metric, "--out", "run", *ON).code == 0
    assert re.findall(r"\d+", cotbal("rescore", "run").out) == ["22", "0"]
    before = json.loads(Path("run/weights.json").read_text())

    write_metric(tmp_path, 0.5, monkeypatch)
    cotbal("report", "run")
    page = Path("run/report/index.html")
    assert "<code>cotbal rescore run</code>" in page.read_text()

    ended = cotbal("rescore", "run", "--json")
    assert ended.code == 0, ended.err
    content = json.loads(ended.out)
    changed = [score for score in content["scores"] if score["before"] != score["after"]]
    assert {(score["task"], score["metric"]) for score in changed} == {("ocr", "own_metric.exact")}
    assert all(score["after"] == pytest.approx(0.5 + score["before"] / 2) for score in changed)
    lines = Path("run/scores.csv").read_text().splitlines()
    table = {line.split(",")[0]: line.split(",")[1] for line in lines}
    assert float(table["mini"]) == next(
        score["after"]
        for score in changed
        if score["run"] == "probes/mini" and score["split"] == "validation"
    )
    assert content["before"] == before["weights"] != content["after"]
    assert json.loads(Path("run/weights.json").read_text())["weights"] == content["after"]
    assert "<code>cotbal rescore run</code>" not in page.read_text()
    cotbal("rescore", "nowhere").expect(RunError, None, "nowhere")


def test_run(cotbal: Command, recipe_path: Path, tmp_path: Path) -> None:
    options = ("--weighting", "ew", "--weighting", "cotbal", "--out", "here", *ON)
    ended = cotbal("run", recipe_path, "balance.temperature=auto", *options)
    assert ended.code == 0, ended.err
    for words in ("probes cost", "EW on test", "CoTBal on test", "Report: here/report/index.html"):
        assert words in ended.out
    assert (tmp_path / "here" / "final" / "ew" / "outcome.json").exists()


def test_a_place_that_takes_no_files_is_reported_in_one_sentence(
    cotbal: Command, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "scores.csv").write_text(SCORES)
    for out in ("file", "file/below"):
        ended = cotbal("weights", "--scores", "scores.csv", "--out", out)
        assert (ended.code, ended.error) == (2, None)
        assert ended.err.startswith("cotbal: file")
        assert len(ended.err.splitlines()) == 1
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_leaves_no_half_file(
    cotbal: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    table = tmp_path / "scores.csv"
    table.write_text(SCORES)
    with monkeypatch.context() as disk:
        disk.setattr("os.fsync", full)
        ended = cotbal("weights", "--scores", table, "--out", "report")
    assert (ended.code, ended.error) == (2, None)
    assert ended.err.startswith("cotbal: No space left on device")
    assert ended.err.endswith(f": cotbal weights --scores {table} --out report\n")
    assert [path for path in (tmp_path / "report").rglob("*") if path.is_file()] == []
    assert cotbal("weights", "--scores", table, "--out", "report").code == 0


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("can't start new thread"),
        BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),  # of a fork
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
    ids=repr,
)
def test_too_little_memory_is_one_message(
    cotbal: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(_: int) -> None:
        raise error

    table = tmp_path / "scores.csv"
    table.write_text(SCORES)
    monkeypatch.setattr("os.fsync", full)
    ended = cotbal("weights", "--scores", table, "--out", "report")
    assert (ended.code, ended.error) == (2, None)
    assert ended.err.startswith("cotbal: ")
    assert ended.err.endswith(f": cotbal weights --scores {table} --out report\n")


def test_a_failed_run_says_how_to_resume(
    cotbal: Command, recipe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COTBAL_FAKE_FAIL", "full:vqa")
    ended = cotbal("balance", recipe_path, "balance.temperature=0.7", *ON)
    again = f"cotbal balance {recipe_path} balance.temperature=0.7 --on {EXECUTOR}"
    ended.expect(RunsFailed, "runs-failed", "1 of 6", "RuntimeError: out of frogs", again)
    monkeypatch.delenv("COTBAL_FAKE_FAIL")
    assert cotbal("balance", recipe_path, "balance.temperature=0.7", *ON).code == 0


def test_a_changed_recipe_is_refused_until_asked_for(
    cotbal: Command, recipe_path: Path, tmp_path: Path
) -> None:
    assert cotbal("balance", recipe_path, *ON).code == 0
    refused = cotbal("balance", recipe_path, "optimization.epochs=2", *ON)
    refused.expect(RunError, None, "optimization.epochs", "1.0", "2.0", "--restart-changed")
    moved = cotbal("balance", recipe_path, "optimization.epochs=2", "--restart-changed", *ON)
    assert moved.code == 0
    assert (tmp_path / "runs/small/probes/mini.old-1/outcome.json").exists()


def test_weights_from_a_table(cotbal: Command, tmp_path: Path) -> None:
    from cotbal.balance import balance
    from cotbal.scores.matrix import read_scores

    table = tmp_path / "scores.csv"
    table.write_text(SCORES)
    ended = cotbal("weights", "--scores", table, "--json")
    assert ended.code == 0
    assert json.loads(ended.out)["weights"] == pytest.approx(balance(read_scores(table)).weights)
    assert "[" not in json.loads(ended.out)["sentences"][0]
    text = cotbal("weights", "--scores", table, "--temperature", "1")
    assert "temperature 1" in text.out
    options = ("--temperature", "auto", "--low", "0.9", "--high", "1.1")
    tight = cotbal("weights", "--scores", table, *options, "--json")
    assert all(0.9 <= weight <= 1.1 for weight in json.loads(tight.out)["weights"].values())


VERBS = (
    *("init", "check", "plan", "balance", "train", "run", "curve", "response", "weights"),
    *("status", "cancel", "report", "demo"),
)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(cotbal: Command, verb: str) -> None:
    ended = cotbal(verb, "--help")
    assert ended.code == 0
    assert "Usage" in ended.out


def test_the_first_help_page_names_every_verb(cotbal: Command) -> None:
    words = cotbal("-h").out.split()
    assert [verb for verb in VERBS if verb not in words] == []


def test_without_arguments_it_helps(cotbal: Command) -> None:
    ended = cotbal()
    assert "Usage" in ended.out + ended.err
    assert "cotbal demo" in " ".join((ended.out + ended.err).split())


def test_a_table_gets_a_report_but_never_in_the_directory_of_a_recipe(
    cotbal: Command, tmp_path: Path
) -> None:
    table = tmp_path / "scores.csv"
    table.write_text("run,a,b\nmini,0.2,0.3\nfull:a,0.6,0.4\nfull:b,0.3,0.8\n")
    out = tmp_path / "weighed"
    assert cotbal("weights", "--scores", table, "--out", out).code == 0
    assert (out / "report" / "index.html").exists()
    assert set(json.loads((out / "weights.json").read_text())["weights"]) == {"a", "b"}
    (out / "plan.json").write_text("{}")
    refused = cotbal("weights", "--scores", table, "--out", out)
    refused.expect(CotbalError, "existing-output", out)


RESULTS = "method,ocr:em,vqa:em,vqa:loss-\nSTL,0.5,0.4,2\nEW,0.6,0.4,1\nTLA,0.4,0.4,2\n"


def test_overall_from_any_table(cotbal: Command, tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text(RESULTS)
    ended = cotbal("overall", "--results", "r.csv", "--baseline", "STL", "--json")
    assert ended.code == 0
    content = json.loads(ended.out)["methods"]
    assert content["EW"]["tasks"] == pytest.approx({"ocr": 20, "vqa": 25})
    assert content["EW"]["improvement"] == pytest.approx(22.5)
    assert (content["TLA"]["improvement"], content["TLA"]["error"]) == pytest.approx((-10, 10))
    assert content["TLA"]["tasks"] == pytest.approx({"ocr": -20, "vqa": 0})
    assert set(content) == {"STL", "EW", "TLA"}
    shown = cotbal("overall", "--results", "r.csv", "--baseline", "EW").out
    assert a_line_names(shown, "EW", "%")
    assert "-16.67" in shown


SIMPLE = (
    "run,a,b\nbase,0.1,0.2\nsolo:a,0.6,0.3\nsolo:b,0.2,0.8\nsolo-mini:a,0.3,\nsolo-mini:b,,0.6\n"
)


def test_weights_of_the_simple_form_and_of_several_seeds(cotbal: Command, tmp_path: Path) -> None:
    (tmp_path / "simple.csv").write_text(SIMPLE)
    content = json.loads(cotbal("weights", "--scores", "simple.csv", "--json").out)
    assert (content["form"], content["seeds"]) == ("simple", 1)
    assert content["difficulty"] == pytest.approx([0.5, 0.25])
    assert content["weight_intervals"] == {"a": None, "b": None}
    (tmp_path / "other.csv").write_text(SIMPLE.replace("0.6,0.3", "0.62,0.31"))
    two = cotbal("weights", "--scores", "simple.csv", "--scores", "other.csv", "--json")
    assert json.loads(two.out)["seeds"] == 2
    assert json.loads(two.out)["weight_intervals"]["a"] is not None


def test_weights_of_a_table_with_replicates(cotbal: Command, tmp_path: Path) -> None:
    """A bare table says nothing about noise, but for runs that were trained more than once."""
    rows = "solo-mini:a#2,0.31,\nsolo-mini:b#2,,0.27\nsolo-mini:a#3,0.27,\nsolo-mini:b#3,,0.32\n"
    (tmp_path / "replicates.csv").write_text(SIMPLE + rows)
    (tmp_path / "plain.csv").write_text(SIMPLE.replace("0.6,0.3", "0.62,0.31"))
    content = json.loads(cotbal("weights", "--scores", "replicates.csv", "--json").out)
    assert (content["seeds"], content["replicates"]) == (1, 3)
    assert content["weight_intervals"]["a"] is not None
    tables = ("--scores", "replicates.csv", "--scores", "plain.csv")
    ended = cotbal("weights", *tables, "--out", "both", "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["seeds"] == 2
    written = (tmp_path / "both" / "scores.csv").read_text()
    assert "solo-mini:a," in written
    assert "#2" not in written, "the table of means holds the rows that every table has"


def test_compare_and_ablate(cotbal: Command, recipe_path: Path, tmp_path: Path) -> None:
    arguments = (
        "compare",
        recipe_path,
        "--methods",
        "stl,ew,cotbal",
        "--seeds",
        "0,1",
        "--out",
        "run",
    )
    planned = cotbal(*arguments, "--dry-run")
    assert planned.code == 0
    assert "solo:ocr, seed 1" in planned.out
    assert not (tmp_path / "run").exists()
    ended = cotbal(*arguments, *ON)
    assert ended.code == 0, ended.err
    assert a_line_names(ended.out, "STL", "%")
    different = significance(True, "EW")
    alike = significance(False, "EW")
    assert different in ended.out or alike in ended.out
    assert a_line_names(ended.out, "0, 1")
    table = cotbal("overall", "--results", "run/comparison/results.csv", "--json")
    assert set(json.loads(table.out)["methods"]) == {"STL", "EW", "CoTBal"}
    ended = cotbal(
        "ablate", recipe_path, "--temperatures", "1", "--no-precise", "--out", "run", *ON
    )
    assert ended.code == 0, ended.err
    assert "CoTBal (temperature 1)" in ended.out
    states = json.loads(cotbal("status", "run", "--json").out)
    assert {state["state"] for state in states} == {"done"}
    assert {"cotbal-inter", "cotbal, seed 1"} <= {state["run"] for state in states}


def test_agree(cotbal: Command, recipe_path: Path) -> None:
    assert cotbal("balance", recipe_path, "--out", "full", *ON).code == 0
    half = (
        "balance",
        recipe_path,
        "portions.large=1/2",
        "probes.optimization={learning_rate: 1.0e-4}",
        "--out",
        "half",
    )
    assert cotbal(*half, *ON).code == 0
    content = json.loads(cotbal("agree", "full", "half", "--json").out)
    assert content["units"] == ["ocr", "vqa", "count"]
    low, high = content["correlation"]["interval"]
    assert -1 <= low <= content["correlation"]["value"] <= high <= 1
    assert set(content["differences"]) == set(content["units"])
    same = cotbal("agree", "full", "full")
    assert a_line_names(same.out, "1.00 [1.00, 1.00]", "0.00 [0.00, 0.00]", 3)
    cotbal("agree", "full", "nowhere").expect(CotbalError, None, "nowhere")
    grouped = ("tasks.ocr.group=reading", "tasks.vqa.group=reading")
    assert cotbal("balance", recipe_path, *grouped, "--out", "grouped", *ON).code == 0
    other = cotbal("agree", "full", "grouped")
    other.expect(CotbalError, None, "ocr", "reading")


def test_curve(cotbal: Command, recipe_path: Path, tmp_path: Path) -> None:
    arguments = (
        "curve",
        recipe_path,
        "--fractions",
        "1,0.5,1/8",
        "--alone",
        "--seeds",
        "0,1",
        "--out",
        "run",
    )
    dry = cotbal(*arguments, "--dry-run")
    assert dry.code == 0
    assert "alone:ocr:1/8, seed 1" in dry.out
    assert a_line_names(dry.out, "fractions", " x ")
    assert not (tmp_path / "run").exists()
    ended = cotbal(*arguments, *ON)
    assert ended.code == 0, ended.err
    for words in (
        "1/8",
        "ocr, alone",
        "of the score that all of it reaches",
        "seeds: 0, 1",
        "Report: run/report",
    ):
        assert words in ended.out
    states = json.loads(cotbal("status", "run", "--json").out)
    assert {(state["kind"], state["state"]) for state in states} == {("curve", "done")}
    assert "test" not in {
        path.name.split(".")[1] for path in (tmp_path / "run").rglob("generations/*")
    }
    reported = (tmp_path / "run" / "report" / "index.html").read_text()
    assert cotbal("report", "run").code == 0
    assert (tmp_path / "run" / "report" / "index.html").read_text() == reported
    one = cotbal("curve", recipe_path, "--fractions", "1/8", "--out", "one", *ON)
    assert SAMPLING_ONLY in one.out
    assert SAMPLING_ONLY not in ended.out


def test_response(cotbal: Command, recipe_path: Path, tmp_path: Path) -> None:
    given = ("--step", "0.5", "--seeds", "3,4", "--fraction", "1/2", "--runs", "10")
    arguments = ("response", recipe_path, *given, "--out", "run")
    dry = cotbal(*arguments, "--dry-run")
    assert dry.code == 0, dry.err
    for words in ("all trials together cost 5.00 x", "by 0.5 doublings", "seeds 3, 4", "1/2 of"):
        assert words in dry.out
    assert not (tmp_path / "run").exists()
    ended = cotbal(*arguments, *ON)
    assert ended.code == 0, ended.err
    for words in (
        "doubling its weight",
        "Out of sample",
        "cotbal steer run --goal ocr",
    ):
        assert words in ended.out
    states = json.loads(cotbal("status", "run", "--json").out)
    assert {(state["kind"], state["state"]) for state in states} == {("trial", "done")}
    assert cotbal("steer", "--trials", "run/response/trials.csv").code == 0
    other = cotbal("response", recipe_path, "--out", "run", *ON)
    other.expect(RunError, "changed-settings", "step", "fraction")
    wrong = cotbal("response", recipe_path, "--seeds", "a", "--dry-run")
    wrong.expect(RecipeError, "invalid-recipe", "response.seeds")


def test_response_shows_what_training_forgets(cotbal: Command, recipe_path: Path) -> None:
    guard = "tasks.guard={validation: vqa_validation.jsonl}"
    dry = cotbal("response", recipe_path, guard, "--dry-run")
    assert dry.code == 0, dry.err
    assert "trial:base-checkpoint" in dry.out
    ended = cotbal("response", recipe_path, guard, "--out", "run", *ON)
    assert ended.code == 0, ended.err
    changes = re.compile(r"^guard: \d\.\d{4} .*\d\.\d{4} .*%", re.MULTILINE)
    assert len(changes.findall(ended.out)) == 1
    *_, row = (line.split() for line in ended.out.splitlines() if line.startswith("guard "))
    assert row[1:3] == ["-", "-"], "no weight and so no effect"
    steered = cotbal("steer", "--trials", "run/response/trials.csv")
    response = fit_response(read_trials(Path("run/response/trials.csv")))
    assert names_all(response.mean_sentence, "chat, guard")
    assert response.mean_sentence in steered.out
    plain = cotbal("response", recipe_path, "--out", "plain", *ON).out
    assert not re.search(r"^\w+: \d\.\d{4} .*%", plain, re.MULTILINE)


def test_plan_shows_the_trials(cotbal: Command, recipe_path: Path) -> None:
    plan = ("plan", recipe_path, "--trials", "response.fraction=1/4")
    shown = cotbal(*plan, "--gpus", "4")
    assert shown.code == 0, shown.err
    assert "trial:7, seed 1" in shown.out
    assert a_line_names(shown.out, "8 runs", "4 GPU")
    content = json.loads(cotbal(*plan, "--json").out)
    for task, slope in content["resolution"]["slopes"].items():
        assert a_line_names(shown.out, task, f"{slope:.1f}")
    assert {run["kind"] for run in content["runs"]} == {"trial"}
    assert set(content["resolution"]["slopes"]) == {"ocr", "vqa", "count", "chat"}


def test_suggest_mini(cotbal: Command, recipe_path: Path, tmp_path: Path) -> None:
    from cotbal.data.files import append_jsonl
    from cotbal.jobs.rundir import RunDir

    arguments = ("plan", recipe_path, "--suggest-mini", "--out", "run")
    refused = cotbal(*arguments)
    refused.expect(CotbalError, None, "cotbal train RECIPE --weighting ew")
    for step in range(1, 41):  # ocr bends at an eighth of its data, vqa at a quarter, count never
        at = step / 40
        losses = {
            "ocr": 1 + 16 * max(0, 0.125 - at),
            "vqa": 2 + 4 * max(0, 0.25 - at),
            "count": 1 + at,
        }
        line = {
            "step": step,
            "epoch": at,
            "task_losses": losses,
            "task_tokens": dict.fromkeys(losses, 5),
        }
        append_jsonl(RunDir(tmp_path / "run").final("ew").training, line)
    content = json.loads(cotbal(*arguments, "--json").out)["mini"]
    assert content["elbows"] == pytest.approx({"ocr": 0.125, "vqa": 0.25}, abs=0.03)
    assert content["rate"] in ("1/4", "1/3")
    assert content["records"]["count"] >= 16
    table = cotbal(*arguments).out
    for task, elbow in content["elbows"].items():
        assert a_line_names(table, task, f"{elbow:.3f}", content["records"][task])
