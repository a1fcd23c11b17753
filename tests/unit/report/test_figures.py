from __future__ import annotations

import re
from importlib import resources
from xml.etree import ElementTree

import numpy as np
import pytest

from cotbal.jobs.elbow import POINTS, curve
from cotbal.report.figures import Axis, Point, bars, dots
from cotbal.report.formatting import NOT_IDENTIFIED
from cotbal.report.heat_maps import STRONGEST, contribution_map
from cotbal.report.line_plots import BOTTOM, HEIGHT, TOP, Line, Scale, line_plot
from cotbal.report.svg import shortened, ticks
from cotbal.scores.interval import Interval, with_bounds
from helpers.errors import names_all

UNITS = ("ocr", "<b>&", "a_very_long_name_of_a_task_that_nobody_wants")
VALUES = np.array([[1.0, np.nan, -0.2], [0.456, np.nan, 0.1], [0.0, np.nan, 1.0]])
CELLS = [with_bounds(row, np.stack([row - 0.15, row + 0.15], axis=-1)) for row in VALUES]
BARE = [with_bounds(row, None) for row in VALUES]


def texts(figure: str, kind: str = "text") -> list[str]:
    tree = ElementTree.fromstring(figure)  # also proves that the markup is well formed
    return ["".join(node.itertext()) for node in tree.iter(kind)]


def test_heat_map_holds_every_cell() -> None:
    figure = contribution_map(UNITS, CELLS)
    assert figure.count('class="cell"') == 9
    printed = texts(figure)
    for value in ("0.46", "\N{MINUS SIGN}0.20", "0.10", "0.00"):
        assert value in printed
    assert printed.count("n/i") == 3
    titles = texts(figure, "title")
    assert "<b>& → ocr: 0.456 [0.306, 0.606]" in titles
    assert f"ocr → <b>&: {NOT_IDENTIFIED}" in titles
    diagonal = [title for title in titles if "→" not in title]
    assert any(names_all(title, "ocr", ": 1 ") for title in diagonal)


def test_heat_map_bold_marks_intervals_without_zero() -> None:
    tree = ElementTree.fromstring(contribution_map(UNITS, CELLS))
    strong = {node.text for node in tree.iter("text") if "strong" in node.get("class", "")}
    assert strong == {"\N{MINUS SIGN}0.20", "0.46"}


def test_heat_map_colour_follows_sign_and_size() -> None:
    tree = ElementTree.fromstring(contribution_map(UNITS, BARE))
    opacity = {
        (node.get("class"), float(node.get("fill-opacity", "nan")))
        for node in tree.iter("rect")
        if node.get("fill-opacity")
    }
    assert ("positive", STRONGEST) in opacity  # 0.456, the strongest
    assert any(kind == "negative" and 0 < value < STRONGEST for kind, value in opacity)


def test_dots_are_filled_where_the_interval_excludes_the_reference() -> None:
    points = [
        Point("up", Interval(1.2, 1.1, 1.3)),
        Point("same", Interval(1.1, 0.9, 1.3)),
        Point("none", Interval(0.9)),
    ]
    tree = ElementTree.fromstring(dots(points, Axis("weights", 1.0)))
    assert [node.get("class") for node in tree.iter("circle")] == [
        "dot",
        "dot hollow",
        "dot hollow",
    ]
    places = [float(node.get("cx", "").rstrip("%")) for node in tree.iter("circle")]
    assert places[0] > places[1] > places[2]
    assert "up: 1.200 [1.100, 1.300]" in texts(dots(points, Axis("weights", 1.0)), "title")


def test_bars_start_at_the_reference_and_say_what_is_unknown() -> None:
    points = [
        Point("half", Interval(0.5, 0.4, 1.0)),
        Point("minus", Interval(-0.25)),
        Point("unknown", Interval(float("nan"))),
    ]
    figure = bars(points, Axis("difficulty", 0.0))
    tree = ElementTree.fromstring(figure)
    widths = [
        float(n.get("width", "").rstrip("%")) for n in tree.iter("rect") if n.get("class") == "bar"
    ]
    assert widths[0] == pytest.approx(2 * widths[1], abs=0.02)
    assert "n/i" in texts(figure)
    assert "unknown: not identified" in texts(figure, "title")


def test_curve_is_thinned_and_weighted_by_tokens() -> None:
    rows = [
        {
            "epoch": k / 600,
            "task_losses": {"ocr": float(k % 2)},
            "task_tokens": {"ocr": 1 + 2 * (k % 2)},
        }
        for k in range(600)
    ]
    points = curve(rows, "ocr")
    assert len(points) == POINTS
    assert {loss for _, loss in points} == {0.75}
    assert curve(rows, "vqa") == ()


def test_panel_of_a_single_point() -> None:
    figure = line_plot("ocr", "Training loss", [Line("mini", "baseline", ((0.0, 0.0),))])
    assert "nan" not in figure
    assert "mini 0.00" in ElementTree.fromstring(figure).get("aria-label", "")


def test_a_plot_on_a_scale_has_a_dot_and_an_interval_at_every_mark() -> None:
    marks = ((-3.0, "1/8", "120"), (-1.0, "1/2", "480"), (0.0, "1", "960"))
    intervals = (Interval(0.2, 0.1, 0.3), Interval(0.6, 0.5, 0.7), Interval(0.8, 0.2, 1.4))
    drawn = Line("together", "ours", ((-3.0, 0.2), (-1.0, 0.6), (0.0, 0.8)), intervals=intervals)
    tree = ElementTree.fromstring(line_plot("ocr", "Score", [drawn], Scale(marks, limit=1.0)))
    dots = [(float(n.get("cx", "")), float(n.get("cy", ""))) for n in tree.iter("circle")]
    bars = [n for n in tree.iter("line") if n.get("class") == "span ours"]
    assert len(dots) == len(bars) == 3
    steps = np.diff([x for x, _ in dots])
    assert steps[0] == pytest.approx(2 * steps[1], rel=0.01)
    lengths = [abs(float(n.get("y2", "")) - float(n.get("y1", ""))) for n in bars]
    assert lengths[0] == pytest.approx(lengths[1], abs=0.02)
    assert lengths[2] == pytest.approx(4 * lengths[0], abs=0.1), (
        "cut off at the largest possible value"
    )
    assert "together, 1: 0.800 [0.200, 1.400]" in [
        "".join(node.itertext()) for node in tree.iter("title")
    ]
    assert {"1/8", "120", "1/2", "480", "1", "960"} <= {node.text for node in tree.iter("text")}


def test_texts_below_a_panel_leave_room_for_each_other() -> None:
    marks = tuple((float(k), f"1/{2 ** (20 - k)}", "") for k in range(21))
    points = tuple((float(k), 0.5) for k in range(21))
    tree = ElementTree.fromstring(
        line_plot("ocr", "Score", [Line("a", "ours", points)], Scale(marks, 1.0))
    )
    below = [
        (float(n.get("x", "")), n.text)
        for n in tree.iter("text")
        if (n.text or "").startswith("1/")
    ]
    assert below[-1][1] == "1/1"
    assert np.min(np.diff([x for x, _ in below])) >= 38


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0.62, 1.31) == [0.8, 1.0, 1.2]
    assert ticks(-21, 42, 4) == [-20, 0, 20, 40]
    assert ticks(1, 1) == [1]


def test_long_labels_keep_both_ends() -> None:
    short = shortened(UNITS[2], 18)
    assert len(short) == 18
    assert UNITS[2].startswith(short.split("…")[0])
    assert UNITS[2].endswith(short.split("…")[1])


def schemes() -> list[dict[str, str]]:
    style = (resources.files("cotbal.report") / "templates/style.css").read_text()
    light, dark = (
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block))
        for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    )
    return [light, {**light, **dark}]


def luminance(colour: np.ndarray) -> float:
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: np.ndarray, other: np.ndarray) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", schemes(), ids=["light", "dark"])
def test_contrast_is_readable_in_both_schemes(scheme: dict[str, str]) -> None:
    colour = {
        name: np.array([int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        for name, code in scheme.items()
    }
    for ink in ("text", "muted", "accent"):
        assert contrast(colour[ink], colour["page"]) >= 4.5
    for ink in ("text", "muted", "good", "bad"):
        assert contrast(colour[ink], colour["surface"]) >= 4.5
    assert contrast(colour["text"], colour["note"]) >= 4.5
    for fill in ("positive", "negative"):
        strongest = STRONGEST * colour[fill] + (1 - STRONGEST) * colour["surface"]
        assert contrast(colour["text"], strongest) >= 4.5


def test_values_below_zero_are_below_the_line_of_zero() -> None:
    """The larger value is higher up, whatever the sign."""
    points = ((1.0, -2.0), (2.0, -1.0))
    tree = ElementTree.fromstring(line_plot("ocr", "Score", [Line("a", "ours", points)]))
    (line,) = tree.iter("polyline")
    first, second = (float(pair.split(",")[1]) for pair in line.attrib["points"].split())
    assert TOP <= second < first <= HEIGHT - BOTTOM
