"""The effect of weights in the report: what is shown, what is written beside it, and what happens
when something does not fit. `tests/e2e/test_panel.py` moves the sliders.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cotbal.data.files import read_json, write_json, write_text
from cotbal.errors import RunError
from cotbal.jobs.rundir import RunDir
from cotbal.report import write_report
from cotbal.report.contents import read_contents
from cotbal.report.formatting import bracket, number, with_interval
from cotbal.report.heat_maps import Cell
from cotbal.report.response_views import effect_map, effect_table, own_sentence
from cotbal.report.responses import measured_response
from cotbal.response import (
    Response,
    choose_weights,
    compare_with_outcomes,
    fit_response,
    read_prediction,
)
from cotbal.response.departure import Departure
from helpers.errors import names_all, raises
from helpers.fake_response import add_response, grouped_trials, noisy_trials, train_steered
from helpers.fake_run import TASKS, fake_run
from helpers.simulated_trials import drawn_effects, trials_of

KILOBYTE = 2**10


class Scripts(HTMLParser):
    """The content of all scripts of a page, by type; and its policy."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts: list[tuple[str, str]] = []
        self.policy = ""
        self.titles: list[str] = []
        self.sections: list[str | None] = []
        self._open = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self._open = tag
        if tag == "script":
            self.scripts.append((attributes.get("type") or "", ""))
        elif tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy":
            self.policy = attributes["content"] or ""
        elif tag == "section":
            self.sections.append(attributes["id"])

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            kind, content = self.scripts[-1]
            self.scripts[-1] = (kind, content + data)
        elif self._open == "title":
            self.titles.append(data)

    @property
    def data(self) -> dict[str, Any]:
        [text] = [content for kind, content in self.scripts if kind == "application/json"]
        content: dict[str, Any] = json.loads(text)
        return content


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, Response, str]:
    """A report with trials and final models of one of two goals; tests only read it."""
    files = fake_run(tmp_path_factory.mktemp("measured"), seeds=3)
    response = add_response(files, noisy_trials(TASKS), ["mean", "ocr"])
    weights = read_json(files.trial_table.parent / "prediction-ocr.json")["weights"]
    train_steered(files, "steer:ocr", {0: 1.0, 1: 3.0, 2: -1.0}, weights)
    return files, response, write_report(files.root).read_text()


@pytest.fixture
def trials_alone(tmp_path: Path) -> RunDir:
    """A directory that holds trials and nothing else that could be reported."""
    files = RunDir(tmp_path / "run")
    add_response(files, noisy_trials(TASKS))
    return files


def test_every_effect_is_in_the_map_of_weights_by_scores(
    measured: tuple[RunDir, Response, str],
) -> None:
    _, response, page = measured
    titles = Scripts(page).titles
    for unit in response.tasks:
        for task in response.scored:
            effect = with_interval(response.effect(unit, task), 1, signed=True)
            title = f"weight of {unit} on {task}: {effect} %"
            title += ", its own weight" if unit == task else ""
            title += "; not measurable" if task in response.unmeasurable else ""
            assert title in titles
    assert re.search(r'class="muted end">weight of<', page)  # beside the rows


def test_bold_and_outlined_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    response = fit_response(noisy_trials(TASKS))
    drawn: dict[tuple[int, int], Cell] = {}

    def keep(frame: Any, cell: Any) -> str:
        for i in range(len(frame.rows)):
            for j in range(len(frame.columns)):
                drawn[i, j] = cell(i, j)
        return ""

    monkeypatch.setattr("cotbal.report.response_views.heat_map", keep)
    effect_map(response)
    strong = set()
    for (i, j), cell in drawn.items():
        task = response.scored[j]
        if task in response.unmeasurable:
            assert cell.look == "unknown"
            continue
        assert cell.look == ("own" if i == j else "plain")
        effect = response.effect(response.tasks[i], task)
        assert cell.strong == (effect.low > 0 or effect.high < 0)
        assert np.sign(cell.shade) == np.sign(effect.value)
        strong.add(cell.strong)
    assert strong == {True, False}
    assert max(abs(cell.shade) for cell in drawn.values()) == pytest.approx(1)


def test_own_and_cross_effects_are_counted() -> None:
    effects = drawn_effects(5, seed=4)
    response = fit_response(trials_of(effects, noise=0.05))
    clear = {True: 0, False: 0}
    for unit in response.tasks:
        for task in response.scored:
            effect = response.effect(unit, task)
            clear[unit == task] += effect.low > 0 or effect.high < 0
    sentence = own_sentence(response)
    of_own, of_others = (f"{clear[is_own]} of {n}" for is_own, n in ((True, 5), (False, 20)))
    assert names_all(sentence, of_own, "own", of_others, "cross")
    assert f"{np.median(np.abs(np.diag(response.effects))):.1f} %" in sentence


def test_the_policy_allows_exactly_the_script_of_the_page(
    measured: tuple[RunDir, Response, str],
) -> None:
    page = Scripts(measured[2])
    [program] = [content for kind, content in page.scripts if not kind]
    digest = base64.b64encode(hashlib.sha256(program.encode()).digest()).decode()
    rules = dict(rule.strip().split(" ", 1) for rule in page.policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert len(page.scripts) == 2


def test_hostile_names_do_not_leave_the_data(tmp_path: Path) -> None:
    files = fake_run(tmp_path)
    response = add_response(files, grouped_trials(), ["mean"])
    page = Scripts(write_report(files.root).read_text())
    assert len(page.scripts) == 2
    assert tuple(page.data["units"]) == response.tasks
    assert dict(page.data["tasks"])["short_captions"] == "captions"
    assert dict(page.data["tasks"])["chat"] is None
    assert "<!--" not in (files.report / "tables.md").read_text()


def test_tables_hold_effects_noise_and_curvature(measured: tuple[RunDir, Response, str]) -> None:
    files, response, _ = measured
    markdown = (files.report / "tables.md").read_text()
    for unit in response.tasks:
        effects = [response.effect(unit, task) for task in response.scored]
        cells = [with_interval(effect, 1, signed=True) for effect in effects]
        assert f"| {unit} | {' | '.join(cells)} |" in markdown
    for i, task in enumerate(response.scored):
        level, noise = number(response.level[i]), number(response.noise[i], 1)
        curve = with_interval(response.curve(task), 1, signed=True)
        assert f"| {task} | {level} | {noise} | {curve} |" in markdown


def test_files_beside_the_page(measured: tuple[RunDir, Response, str]) -> None:
    files, response, _ = measured
    with (files.report / "effects.csv").open() as file:
        rows = {(row["weight"], row["score"]): row for row in csv.DictReader(file)}
    assert len(rows) == len(TASKS) ** 2
    for (unit, task), row in rows.items():
        effect = response.effect(unit, task)
        assert float(row["effect"]) == pytest.approx(effect.value, abs=1e-4)
        assert float(row["high"]) == pytest.approx(effect.high, abs=1e-4)
        assert row["own"] == str(int(unit == task))
        assert row["measurable"] == str(int(task not in response.unmeasurable))
    content = read_json(files.report / "response.json")
    assert content["response"] == json.loads(json.dumps(response.to_json()))
    assert [entry["goal"] for entry in content["predictions"]] == ["mean", "ocr"]


def outcomes_of(files: RunDir, task: str, seeds: int = 3) -> list[float]:
    """Relative changes of the mean test score, from the score files."""
    changes = []
    for seed in range(seeds):
        of_seed = files.seeded(seed) if seed else files
        scores = []
        for method in ("ew", "steer:ocr"):
            content = read_json(of_seed.final(method).scores(task, "test"))
            [metric] = content["metrics"].values()
            scores.append(np.mean(metric["samples"]))
        changes.append(100 * (scores[1] / scores[0] - 1))
    return changes


def test_a_prediction_is_held_against_its_final_models(
    measured: tuple[RunDir, Response, str],
) -> None:
    files, _, _ = measured
    frozen = read_prediction(files.trial_table.parent / "prediction-ocr.json")
    outcomes = {task: outcomes_of(files, task) for task in TASKS}
    verdict = compare_with_outcomes(frozen, outcomes)
    content = read_json(files.report / "response.json")["predictions"]
    waiting, done = content
    assert waiting["outcomes"] == {}
    assert done["seeds"] == [0, 1, 2]
    assert done["coverage"] == pytest.approx(verdict.coverage)
    markdown = (files.report / "tables.md").read_text()
    assert 0 < verdict.coverage < 1
    for outcome in verdict.outcomes:
        assert outcome.observed == pytest.approx(1.0, abs=0.01)  # the mean of 1, 3 and -1
        written = done["outcomes"][outcome.task]
        assert written["observed"] == pytest.approx(outcome.observed)
        assert written["inside"] == outcome.inside
        inside = "yes" if outcome.inside else "no"
        observed = number(outcome.observed, 1, signed=True)
        interval = bracket(outcome.predicted, 1, signed=True)
        assert f"| {interval} | {observed} | {inside} |" in markdown


def predictions(files: RunDir) -> list[dict[str, Any]]:
    write_report(files.root)
    content: list[dict[str, Any]] = read_json(files.report / "response.json")["predictions"]
    return content


def test_models_with_other_weights_are_no_outcome(tmp_path: Path) -> None:
    files = fake_run(tmp_path)
    add_response(files, noisy_trials(TASKS), ["ocr"])
    weights: Mapping[str, float] = read_json(files.trial_table.parent / "prediction-ocr.json")[
        "weights"
    ]
    train_steered(files, "steer:ocr", {0: 1.0}, {**weights, "ocr": weights["ocr"] * 1.01})
    assert predictions(files)[0]["seeds"] == []
    shutil.rmtree(files.final("steer:ocr").root)
    train_steered(files, "steer:ocr", {0: 1.0}, weights)
    assert predictions(files)[0]["seeds"] == [0]


def changes_of_ocr(files: RunDir) -> list[float]:
    """The observed change that the report holds against the prediction for ocr, if there is one."""
    [prediction] = predictions(files)
    return [round(outcome["observed"]) for outcome in prediction["outcomes"].values()][:1]


@pytest.mark.parametrize("lever", ["weights", "ratios"])
def test_a_prediction_is_held_against_models_of_its_lever(tmp_path: Path, lever: str) -> None:
    """`cotbal train --ratios` names a model after the file of weights of any lever."""
    files = fake_run(tmp_path)
    trials = noisy_trials(TASKS)
    if lever == "ratios":
        trials = replace(trials, weights=np.ones_like(trials.weights), ratios=trials.weights)
    add_response(files, trials, ["ocr"])
    weights = read_json(files.trial_table.parent / "prediction-ocr.json")["weights"]
    train_steered(files, "ratios:ocr", {0: 9.0}, weights, by_ratios=True)
    assert changes_of_ocr(files) == ([] if lever == "weights" else [9])
    train_steered(files, "steer:ocr", {0: 2.0}, weights, by_ratios=lever == "ratios")
    assert changes_of_ocr(files) == [2]
    shutil.rmtree(files.final("steer:ocr").root)
    train_steered(files, "steer:ocr", {0: 2.0}, weights, by_ratios=lever == "weights")
    assert changes_of_ocr(files) == ([] if lever == "weights" else [9])


def test_without_equal_weights_of_its_seed_there_is_no_outcome(tmp_path: Path) -> None:
    files = fake_run(tmp_path)
    add_response(files, noisy_trials(TASKS), ["mean"])
    weights = read_json(files.trial_table.parent / "prediction-mean.json")["weights"]
    train_steered(files, "steer", {0: 1.0}, weights)
    assert predictions(files)[0]["seeds"] == [0]  # `steer` is `steer:mean`
    shutil.rmtree(files.final("ew").root)
    assert predictions(files)[0]["seeds"] == []


def test_a_prediction_that_was_changed_is_left_out_and_named(tmp_path: Path) -> None:
    files = fake_run(tmp_path)
    add_response(files, noisy_trials(TASKS), ["mean", "ocr"])
    path = files.trial_table.parent / "prediction-ocr.json"
    content = read_json(path)
    content["predictions"]["ocr"]["value"] += 1
    write_json(path, content)
    page = write_report(files.root).read_text()
    kept = read_json(files.report / "response.json")["predictions"]
    assert [entry["goal"] for entry in kept] == ["mean"]
    assert f"{path.name}" in page


def test_trials_that_say_nothing_are_reported_without_a_panel(tmp_path: Path) -> None:
    files = fake_run(tmp_path)
    add_response(files, noisy_trials(TASKS))
    header, *rows = files.trial_table.read_text().splitlines()
    write_text(files.trial_table, "\n".join([header, *rows[:3]]) + "\n")
    page = Scripts(write_report(files.root).read_text())
    assert "response" in page.sections
    assert page.scripts == []
    assert "script-src" not in page.policy
    trials = measured_response(read_contents(files.root))
    assert trials is not None
    assert trials.problem
    assert trials.problem in (files.report / "tables.md").read_text()


def test_a_table_of_trials_alone_is_reported(trials_alone: RunDir) -> None:
    trials_alone.design.unlink()
    page = Scripts(write_report(trials_alone.root).read_text())
    assert page.sections == ["summary", "response"]
    assert page.data["command"] == ""  # nothing to train from
    assert dict(page.data["tasks"]) == {task: task for task in TASKS}


def test_weights_for_a_goal_are_trained_with_by_its_name(tmp_path: Path) -> None:
    files = fake_run(tmp_path)
    add_response(files, noisy_trials(TASKS), ["mean", TASKS[:2]])
    files.steered("mean").unlink()
    _, *goals = Scripts(write_report(files.root).read_text()).data["presets"]
    commands = [preset["command"] for preset in goals]
    method = f"steer:{'+'.join(TASKS[:2])}"
    assert sorted(commands) == ["", f"cotbal train run/recipe.yaml --weighting {method} --out run"]


def test_the_command_of_trials_with_other_ratios(tmp_path: Path) -> None:
    files = fake_run(tmp_path)
    add_response(files, noisy_trials(TASKS))
    assert "--weights" in Scripts(write_report(files.root).read_text()).data["command"]
    write_json(files.design, {**read_json(files.design), "lever": "ratios"})
    assert "--ratios" in Scripts(write_report(files.root).read_text()).data["command"]


def test_a_design_with_another_lever_is_one_error(tmp_path: Path) -> None:
    files = fake_run(tmp_path)
    add_response(files, noisy_trials(TASKS))
    for lever in ("speed", ["ratios"]):
        write_json(files.design, {**read_json(files.design), "lever": lever})
        with raises(RunError, "broken-file", files.design):
            write_report(files.root)


def test_trials_that_differ_in_ratios_are_never_said_to_differ_in_weights(tmp_path: Path) -> None:
    trials = noisy_trials(TASKS)
    by_ratios = replace(trials, weights=np.ones_like(trials.weights), ratios=trials.weights)
    files = fake_run(tmp_path)
    response = add_response(files, by_ratios, ["mean"])
    assert effect_table(response).header[0] == "ratio of"
    page = write_report(files.root).read_text()
    section = page.partition('<section id="response">')[2].partition("</section>")[0]
    text = re.sub(r"<script.*?</script>|<[^>]*>", " ", section, flags=re.DOTALL)
    text = text.replace(response.fraction_sentence, "").replace("equal weights (EW)", "EW")
    assert "Effect of sampling ratios" in text
    assert "ratio of" in text
    assert re.findall(r".*weights?\b.*", text) == []


def test_the_ratios_of_models_are_shown_in_place_of_their_weights(tmp_path: Path) -> None:
    """The weights of the loss are all 1, which says nothing of such a model."""
    files = fake_run(tmp_path)
    trials = noisy_trials(TASKS)
    add_response(
        files, replace(trials, weights=np.ones_like(trials.weights), ratios=trials.weights)
    )
    ratios = dict(zip(TASKS, (0.5, 1.75, 0.75), strict=False))
    train_steered(files, "steer:ocr", {0: 2.0}, ratios, by_ratios=True)
    write_report(files.root)
    tables = (files.report / "tables.md").read_text()
    shown = tables.partition("Sampling ratios that models were trained with")[2].strip()
    header, _, first, *_ = shown.splitlines()
    assert "Steer: ocr" in header
    assert [cell.strip() for cell in first.strip("|").split("|")] == [TASKS[0], "0.500"]


def test_a_task_that_is_only_evaluated_gets_no_weight(tmp_path: Path) -> None:
    files = fake_run(tmp_path)
    add_response(files, noisy_trials(TASKS))
    recipe = yaml.safe_load(files.recipe.read_text())
    del recipe["tasks"]["chat"]["train"], recipe["tasks"]["chat"]["balanced"]
    write_text(files.recipe, yaml.safe_dump(recipe, sort_keys=False))
    data = Scripts(write_report(files.root).read_text()).data
    assert dict(data["tasks"]) == {task: task for task in TASKS}


def test_the_mean_of_the_panel_is_that_of_steer(tmp_path: Path) -> None:
    """A task without a weight is guarded, and in no mean."""
    files = fake_run(tmp_path)
    response = add_response(files, grouped_trials(), ["mean"])
    choice = choose_weights(response)
    assert set(response.counted) < set(choice.changes) - set(response.unmeasurable)
    data = Scripts(write_report(files.root).read_text()).data
    of_mean, (_, chosen) = data["predictions"][-1], data["presets"]
    z = np.array(chosen["z"])
    [departure] = Departure(np.array([of_mean["own"]]), data["share"])(z).T
    predicted = z @ of_mean["effects"] + of_mean["curvature"] * departure
    assert choice.gain.value > 0.1
    assert predicted == pytest.approx(choice.gain.value, rel=1e-6)


@pytest.mark.extended
def test_forty_tasks_stay_small(tmp_path: Path) -> None:
    files = RunDir(tmp_path / "run")
    tasks = [f"classification_{i:02d}" for i in range(40)]
    add_response(files, noisy_trials(tasks), ["mean"])
    page = write_report(files.root).read_text()
    assert page.count('class="cell"') == 40**2
    assert len(json.dumps(Scripts(page).data)) < 320 * KILOBYTE
    assert len(page) < 1200 * KILOBYTE
