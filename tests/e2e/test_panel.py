"""The panel of weights in a real browser: sliders are moved, and what the page shows is compared
with the fit in Python.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cotbal.data.files import read_json
from cotbal.jobs.rundir import RunDir
from cotbal.report import write_report
from cotbal.report.formatting import bracket, number
from cotbal.report.panel import MEAN
from cotbal.response import Response
from cotbal.response.coordinates import doublings, weights_at
from cotbal.scores.interval import Interval
from cotbal.scores.weights_file import read_task_weights, read_weights
from helpers.chromium import Chromium
from helpers.fake_response import add_response, grouped_trials, noisy_trials
from helpers.fake_run import TASKS, fake_run

pytestmark = pytest.mark.needs("browser")
MANY = tuple(f"classification_{i:02d}" for i in range(17))
FLOOR = -1.0
PHONE = 360
SHOWN = """(() => Object.fromEntries([...document.querySelectorAll("[data-score]")].map(row => [
  row.dataset.name,
  [row.querySelector(".value").textContent, row.querySelector(".bounds").textContent,
   row.classList.contains("below")],
])))()"""


@dataclass(frozen=True)
class Shown:
    """A report with a panel, and the fit that it must agree with."""

    page: Path
    files: RunDir
    response: Response

    @property
    def measurable(self) -> list[str]:
        return [task for task in self.response.scored if task not in self.response.unmeasurable]

    def expected(self, places: list[float]) -> dict[str, Interval]:
        """Predicted changes at the places of the sliders."""
        z = np.array(places) - np.mean(places)
        changes = {task: self.response.prediction(z, task) for task in self.measurable}
        counted = np.array([task in self.response.counted for task in self.response.scored])
        return {**changes, MEAN: self.response.combined(z, counted / counted.sum())}

    def below(self, places: list[float]) -> set[str]:
        """Tasks whose predicted change minus one standard error is below the floor."""
        z = np.array(places) - np.mean(places)
        bounds = self.response.changes(z) - self.response.errors(z)
        fallen = {t for t, bound in zip(self.response.scored, bounds, strict=True) if bound < FLOOR}
        return fallen & set(self.measurable)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Shown]:
    root = tmp_path_factory.mktemp("panel")
    reports = {}
    for name, tasks in {"seven": TASKS, "many": MANY, "grouped": TASKS}.items():
        files = fake_run(root / name, tasks)
        trials = grouped_trials() if name == "grouped" else noisy_trials(tasks)
        response = add_response(files, trials, ["mean", trials.scored[1]])
        reports[name] = Shown(write_report(files.root), files, response)
    return reports


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def move(browser: Chromium, places: list[float]) -> None:
    """Set every slider as a user does: its value, then the event."""
    browser.run(
        f"""(() => {{
          const sliders = [...document.querySelectorAll("#panel input[type=range]")];
          {places}.forEach((place, i) => {{
            sliders[i].value = place;
            sliders[i].dispatchEvent(new Event("input", {{bubbles: true}}));
          }});
        }})()"""
    )


def drawn_places(report: Shown, seed: int) -> list[float]:
    count = len(report.response.tasks)
    return np.random.default_rng(seed).uniform(-1, 1, count).round(2).tolist()


def texts(change: Interval) -> list[str]:
    return [f"{number(change.value, 1, signed=True)} %", bracket(change, 1, signed=True)]


@pytest.mark.parametrize("name", ["seven", "many", "grouped"])
def test_moved_sliders_show_the_predictions_of_the_fit(
    browser: Chromium, reports: Mapping[str, Shown], name: str
) -> None:
    report = reports[name]
    browser.open(report.page)
    fallen = set()
    for seed in range(4):
        places = drawn_places(report, seed)
        move(browser, places)
        shown = browser.run(SHOWN)
        expected = report.expected(places)
        assert {task: row[:2] for task, row in shown.items()} == {
            task: texts(change) for task, change in expected.items()
        }
        below = {task for task, row in shown.items() if row[2]}
        assert below == report.below(places)
        status = browser.run("document.querySelector('#panel [role=status]').textContent")
        assert all(task in status for task in below)
        fallen |= below
    assert fallen


def test_a_key_moves_a_slider(browser: Chromium, reports: Mapping[str, Shown]) -> None:
    report = reports["seven"]
    browser.open(report.page)
    browser.run("document.querySelectorAll('#panel input[type=range]')[1].focus()")
    browser.press("ArrowRight", 39, times=30)
    shown = browser.run(SHOWN)
    expected = report.expected([0, 0.3, 0, 0, 0, 0, 0])
    assert shown[TASKS[1]][:2] == texts(expected[TASKS[1]])
    spoken = browser.run("document.activeElement.getAttribute('aria-valuetext')")
    assert spoken.startswith("+0.30 doublings")


@pytest.mark.parametrize("name", ["seven", "many", "grouped"])
def test_a_goal_sets_the_weights_and_floors_of_its_prediction(
    browser: Chromium, reports: Mapping[str, Shown], name: str
) -> None:
    report = reports[name]
    browser.open(report.page)
    for file in report.files.trial_table.parent.glob("prediction-*.json"):
        frozen = read_json(file)
        browser.run(
            "[...document.querySelectorAll('[data-preset]')].find(button =>"
            f" button.textContent === 'Goal: {frozen['goal']}').click()"
        )
        shown = browser.run(SHOWN)
        for task in report.measurable:
            entry = frozen["predictions"][task]
            assert shown[task][:2] == texts(Interval(entry["value"], *entry["interval"]))
        gain = frozen["gain"]
        if frozen["goal"] == "mean":
            assert shown[MEAN][:2] == texts(Interval(gain["value"], *gain["interval"]))
        assert not any(row[2] for row in shown.values())  # the choice keeps every floor
        method = f"steer:{frozen['goal']}"
        command = browser.run("document.querySelector('#panel-command pre').textContent")
        assert command == f"cotbal train run/recipe.yaml --weighting {method} --out run"
        floors = browser.run(
            "Object.fromEntries([...document.querySelectorAll('[data-score]')].map(row =>"
            " [row.dataset.name, row.querySelector('input[type=number]')?.value]))"
        )
        guarded = {guard["task"] for guard in frozen["guards"]}
        assert {task for task, floor in floors.items() if floor} == guarded


def test_a_floor_that_is_changed_counts(browser: Chromium, reports: Mapping[str, Shown]) -> None:
    report = reports["seven"]
    browser.open(report.page)
    move(browser, [0, 0.9, -0.8, 0, 0, 0, 0])
    assert browser.run(SHOWN)[TASKS[2]][2]
    for floor, below in (("", False), ("-9", False), ("-0.5", True)):
        browser.run(
            f"""(() => {{
              const row = document.querySelector('[data-name="{TASKS[2]}"]');
              const field = row.querySelector("input[type=number]");
              field.value = "{floor}";
              field.dispatchEvent(new Event("input", {{bubbles: true}}));
            }})()"""
        )
        assert browser.run(SHOWN)[TASKS[2]][2] == below


@pytest.mark.parametrize("name", ["seven", "grouped"])
def test_the_bar_below_a_slider_spans_the_weights_that_keep_every_floor(
    browser: Chromium, reports: Mapping[str, Shown], name: str
) -> None:
    report = reports[name]
    browser.open(report.page)
    start = [0.1 * (-1) ** i for i in range(len(report.response.tasks))]
    move(browser, start)
    titles = browser.run("[...document.querySelectorAll('.region')].map(bar => bar.title)")
    cut = 0
    for i, title in enumerate(titles):
        kept = []
        for position in np.linspace(-1, 1, 41):
            moved = [*start[:i], float(position), *start[i + 1 :]]
            if not report.below(moved):
                kept.append(position)
        span = re.findall(r"[+\N{MINUS SIGN}]\d\.\d\d", title)
        limits = [number(min(kept), 2, signed=True), number(max(kept), 2, signed=True)]
        assert span == limits
        cut += len(kept) < 41
    assert cut


@pytest.mark.parametrize("name", ["seven", "grouped"])
def test_the_command_writes_weights_that_cotbal_reads(
    browser: Chromium, reports: Mapping[str, Shown], tmp_path: Path, name: str
) -> None:
    report = reports[name]
    browser.open(report.page)
    places = drawn_places(report, 9)
    move(browser, places)
    box = "document.getElementById('panel-command')"
    assert browser.run(f"{box}.hidden")
    browser.run("document.querySelector('[aria-controls=panel-command]').click()")
    assert not browser.run(f"{box}.hidden")
    command = browser.run(f"{box}.querySelector('pre').textContent")
    writing, _, training = command.rpartition("\n")
    assert training == "cotbal train run/recipe.yaml --weights weights.json --out run-steered"
    subprocess.run(["bash", "-c", writing], cwd=tmp_path, check=True)
    expected = weights_at(np.array(places) - np.mean(places))
    written = read_weights(tmp_path / "weights.json")
    assert tuple(written) == report.response.tasks
    np.testing.assert_allclose(list(written.values()), expected, atol=5.1e-5)
    np.testing.assert_allclose(doublings(expected), np.array(places) - np.mean(places))
    of_tasks = read_task_weights(tmp_path / "weights.json")
    assert of_tasks["chat"] == 1  # it is not balanced
    for task, unit in report.response.unit_of_task.items():
        assert of_tasks[task] == written[unit]


def test_only_the_script_of_the_panel_runs_and_nothing_is_fetched(
    browser: Chromium, reports: Mapping[str, Shown]
) -> None:
    before = len(browser.requests)
    browser.problems.clear()
    browser.open(reports["grouped"].page)
    move(browser, [0.5, 0.0, 0.0])
    fetched = [url for url in browser.requests[before:] if not url.startswith("data:image/")]
    assert fetched == [reports["grouped"].page.resolve().as_uri()]
    assert browser.problems == []
    browser.run(
        """(() => {
          const script = document.createElement("script");
          script.textContent = "window.intruder = true";
          document.body.append(script);
        })()"""
    )
    assert browser.run("window.intruder === undefined")
    assert any("Content Security Policy" in problem for problem in browser.problems)


def test_without_script_the_rest_of_the_page_is_there(
    browser: Chromium, reports: Mapping[str, Shown]
) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(reports["seven"].page)
        drawn = "document.querySelector('{}').getClientRects().length"
        assert not browser.run(drawn.format("#panel"))
        assert browser.run(drawn.format("#response noscript p"))
        assert browser.run("document.querySelectorAll('#response svg .cell').length") == 49
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.parametrize("name", ["seven", "many", "grouped"])
def test_the_section_fits_a_phone(
    browser: Chromium, reports: Mapping[str, Shown], name: str
) -> None:
    browser.resize(PHONE)
    browser.open(reports[name].page)
    browser.run("document.querySelectorAll('details').forEach(part => part.open = true)")
    browser.run("document.querySelector('[aria-controls=panel-command]').click()")
    assert browser.run("document.documentElement.scrollWidth") == PHONE
    furthest = browser.run(
        "Math.max(...[...document.querySelectorAll('#panel *')].map(part =>"
        " part.getBoundingClientRect().right))"
    )
    assert furthest <= PHONE
    browser.resize(1280)
