"""Reports of more tasks than a reader can look at: both ends are shown, files hold the rest."""

from __future__ import annotations

import base64
import csv
import io
import math
import re
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cotbal.balance import balance
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.weigh import write_balance
from cotbal.report import page as page_module
from cotbal.report import panel, response_views, write_report
from cotbal.report.contents import read_contents
from cotbal.report.crowds import END, MANY, NAMED, ends, some
from cotbal.report.figures import Axis, Point, dots
from cotbal.report.map_images import NEGATIVE, POSITIVE, UNKNOWN
from cotbal.report.tables import contribution_csv
from cotbal.scores.interval import Interval
from cotbal.scores.matrix import ScoreMatrix
from helpers.errors import names_all
from helpers.fake_response import add_response, noisy_trials
from helpers.fake_run import fake_run

MEGABYTE = 2**20
LIMIT = 5  # megabytes of a page
LOOPS = 40  # time of a report in times of `loop`; one of 500 tasks takes 12 to 16


def names(count: int) -> tuple[str, ...]:
    return tuple(f"task_{number:03d}" for number in range(count))


def loop() -> float:
    """Seconds of CPU time of a fixed piece of work: what is fast on this machine, now."""
    times = []
    for _ in range(3):
        begin = time.process_time()
        sum(number * number for number in range(1_000_000))
        times.append(time.process_time() - begin)
    return sorted(times)[1]


def reported(directory: Path) -> tuple[str, float]:
    """The page of a report, and the times of `loop` that it took."""
    before = loop()
    begin = time.process_time()
    page = write_report(directory).read_text()
    seconds = time.process_time() - begin
    return page, seconds / max(before, loop())


def written(directory: Path, count: int) -> tuple[RunDir, str, float]:
    """The report of a table of scores, and the times of `loop` that it took."""
    tasks, random = names(count), np.random.default_rng(0)
    mini = random.uniform(0.2, 0.5, count)
    shares = random.normal(0, 0.15, (count, count))
    np.fill_diagonal(shares, 1)
    values = np.vstack([mini, mini + shares * random.uniform(0.1, 0.4, count)])
    runs = ("mini", *(f"full:{task}" for task in tasks))
    matrix = ScoreMatrix(runs, tasks, values)
    files = RunDir(directory)
    write_balance(files, matrix, balance([matrix]))
    return files, *reported(directory)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, str, float]:
    return written(tmp_path_factory.mktemp("large") / "run", 500)


@pytest.fixture(scope="module")
def contribution(large: tuple[RunDir, str, float]) -> np.ndarray:
    """Giver by receiver, as it is read back."""
    result = read_contents(large[0].root).balance
    assert result is not None
    return result.contribution


def test_a_report_of_500_tasks_is_small_and_fast(large: tuple[RunDir, str, float]) -> None:
    files, page, loops = large
    assert loops < LOOPS
    assert len(page.encode()) < LIMIT * MEGABYTE
    assert (files.report / "tables.md").stat().st_size < LIMIT * MEGABYTE


def pixels(page: str) -> np.ndarray:
    """Colours and opacity of the embedded heat map."""
    [content] = re.findall(r'<image [^>]*href="data:image/png;base64,([^"]*)"', page)
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    return np.asarray(image.convert("RGBA")).astype(int)


def test_the_map_has_a_pixel_per_contribution(
    large: tuple[RunDir, str, float], contribution: np.ndarray
) -> None:
    drawn = pixels(large[1])
    values = contribution.copy()
    np.fill_diagonal(values, 0)
    assert drawn.shape == (500, 500, 4)
    strong = np.abs(values) > 0.02
    assert (drawn[strong & (values > 0)][:, :3] == POSITIVE).all()
    assert (drawn[strong & (values < 0)][:, :3] == NEGATIVE).all()
    assert (np.diagonal(drawn[..., 3]) == 0).all()
    assert np.corrcoef(drawn[..., 3].ravel(), np.abs(values).ravel())[0, 1] > 0.999


def test_every_contribution_is_beside_the_page(
    large: tuple[RunDir, str, float], contribution: np.ndarray
) -> None:
    files, page, _ = large
    with (files.report / "contribution.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 500 * 500
    of_pairs = {(row["giver"], row["receiver"]): row for row in rows}
    known = of_pairs["task_003", "task_499"]
    assert float(known["contribution"]) == pytest.approx(contribution[3, 499], abs=1e-4)
    assert known["low"] == known["high"] == ""
    assert "contribution.csv" in page


def test_names_are_quoted_and_what_is_not_known_is_empty() -> None:
    tasks = ("a,b", 'say "hi"', "nan", "100%", "two\nlines")
    runs = ("mini", *(f"full:{task}" for task in tasks))
    scores = np.random.default_rng(2).uniform(0.2, 0.5, (len(runs), len(tasks)))
    values = np.full((5, 5), 0.25)
    values[1, 2], values[2, 1] = math.nan, -0.00004
    result = replace(balance([ScoreMatrix(runs, tasks, scores)]), contribution=values)
    header, *rows = csv.reader(io.StringIO(contribution_csv(result)))
    assert header == ["giver", "receiver", "contribution", "low", "high"]
    assert [tuple(row[:2]) for row in rows] == list(product(tasks, tasks))
    known = {tuple(row[:2]): row[2:] for row in rows}
    assert known['say "hi"', "nan"] == ["", "", ""]
    assert known["nan", 'say "hi"'] == ["-0.0000", "", ""]
    assert known["100%", "a,b"] == ["0.2500", "", ""]


def test_tables_name_the_strongest_pairs(
    large: tuple[RunDir, str, float], contribution: np.ndarray
) -> None:
    files, _, _ = large
    values = contribution.copy()
    np.fill_diagonal(values, np.nan)
    giver, receiver = np.unravel_index(np.nanargmax(values), values.shape)
    text = (files.report / "tables.md").read_text()
    section = text[text.index("## Contribution") :]
    _, _, _, _, first, *_ = section.splitlines()
    assert first.startswith(f"| task_{giver:03d} | task_{receiver:03d} |")


def test_intervals_are_beside_the_page(tmp_path: Path) -> None:
    files = fake_run(tmp_path)
    write_report(files.root)
    result = read_contents(files.root).balance
    assert result is not None
    assert result.intervals is not None
    with (files.report / "contribution.csv").open() as file:
        rows = list(csv.DictReader(file))
    shown = [[float(row[bound] or "nan") for bound in ("low", "high")] for row in rows]
    bounds = result.intervals["contribution"].reshape(-1, 2)
    np.testing.assert_allclose(shown, bounds, atol=1e-4)


def test_a_few_tasks_are_shown_in_full(tmp_path: Path) -> None:
    _, page, _ = written(tmp_path / "run", MANY)
    assert page.count('class="cell"') == MANY**2
    assert "<image" not in page


def test_ends_are_the_largest_and_the_smallest() -> None:
    values = np.random.default_rng(1).permutation(200.0 + np.arange(3 * MANY))
    values[5] = math.nan
    chosen = values[ends(values)]
    expected = np.sort(values[~np.isnan(values)])[::-1]
    np.testing.assert_array_equal(chosen, [*expected[:END], *expected[-END:]])
    assert ends([1.0, 3.0, 2.0]) == [0, 1, 2]
    assert ends([math.nan] * 100) == list(range(MANY))
    assert ends([math.nan] * 100 + [1.0, 2.0]) == [101, 100]


def test_a_sentence_does_not_list_hundreds_of_names() -> None:
    assert some(["a", "b"]) == "a and b"
    sentence = some(names(500))
    assert names_all(sentence, 500 - NAMED)
    assert "task_006" not in sentence


def test_a_plot_of_many_values_counts_what_it_leaves_out() -> None:
    points = [Point(name, Interval(float(i))) for i, name in enumerate(names(100))]
    mean = Point("mean over tasks", Interval(50.0), is_summary=True)
    drawn = str(dots([*points, mean], Axis("x", 0.0)))
    assert drawn.count('class="mark"') == 2 * END + 1
    assert "mean over tasks" in drawn
    assert str(100 - 2 * END) in drawn
    assert "mean over tasks" in str(dots([*points[:3], mean], Axis("x", 0.0)))


def test_the_effects_of_40_weights_are_shown_in_full(tmp_path: Path) -> None:
    files = RunDir(tmp_path / "run")
    add_response(files, noisy_trials(names(40)))
    page, loops = reported(files.root)
    assert loops < LOOPS
    assert len(page.encode()) < LIMIT * MEGABYTE
    assert page.count('class="cell"') == 40**2
    assert 'id="panel"' in page


def test_the_effects_of_many_weights_are_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of five tasks, called many here: `cotbal response` plans trials of at most 40."""
    for module in (page_module, panel, response_views):
        monkeypatch.setattr(module, "MANY", 4)
    files = RunDir(tmp_path / "run")
    response = add_response(files, noisy_trials(names(5)))
    page = write_report(files.root).read_text()
    drawn = pixels(page)
    hidden = [task in response.unmeasurable for task in response.scored]
    assert (drawn[:, hidden, :3] == UNKNOWN).all()
    strong = (np.abs(response.effects) > 0.1) & ~np.array(hidden)
    assert (drawn[strong & (response.effects > 0)][:, :3] == POSITIVE).all()
    assert 'id="panel"' not in page
    assert "effects.csv" in page


@pytest.mark.extended
def test_a_job_of_many_tasks_draws_those_with_the_extreme_weights(tmp_path: Path) -> None:
    tasks = names(MANY + 4)
    files = fake_run(tmp_path, tasks)
    page, loops = reported(files.root)
    assert loops < 3 * LOOPS  # it reads 4,000 files of answers and scores
    assert len(page.encode()) < LIMIT * MEGABYTE
    contents = read_contents(files.root)
    assert contents.balance is not None
    assert len(contents.drawn) == 2 * END
    weights = contents.balance.weights
    assert contents.drawn[0] == max(weights, key=weights.__getitem__)
    section = page[page.index('<section id="losses">') :]
    assert section.count("<polyline") <= 2 * 2 * 2 * END  # two kinds of panels, two lines each
