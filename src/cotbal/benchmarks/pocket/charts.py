"""Bar charts of real numbers: four countries of the Gapminder excerpt, one measure, one year."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from random import Random

from PIL import Image, ImageDraw

from cotbal.benchmarks.pocket.drawings import SIDE, package_folder

BARS = 4
BAR_COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 48, 49),
    "blue": (41, 98, 214),
    "green": (46, 160, 67),
    "orange": (245, 150, 30),
    "purple": (142, 68, 173),
    "black": (40, 40, 40),
}
# Column of the table, and what one unit of the axis (0 to 100) stands for.
MEASURES: dict[str, tuple[str, float]] = {
    "life expectancy": ("lifeExp", 1.0),
    "population": ("pop", 1e6),
    "income": ("gdpPercap", 100.0),
}
FLOOR, HEIGHT = 45, 42
# A bar is at most this far from a multiple of ten, so that "to the nearest ten" has one readable
# answer.
READABLE = 3.5


@dataclass(frozen=True)
class Bar:
    """One country's value on an axis from 0 to 100."""

    colour: str
    country: str
    value: float

    @property
    def tens(self) -> int:
        """The value to the nearest ten."""
        return round(self.value / 10) * 10


@dataclass(frozen=True)
class Chart:
    """Four bars from left to right; no two of them share a colour or a rounded value."""

    measure: str
    year: int
    bars: tuple[Bar, ...]
    paper: int
    left: int


def random_chart(rng: Random) -> Chart:
    """Four countries whose values of one measure and year can be distinguished."""
    measure = rng.choice(list(MEASURES))
    while True:
        year = rng.choice(sorted(_table(measure)))
        rows = _apart(rng, _table(measure)[year])
        if rows is not None:
            break
    colours = rng.sample(list(BAR_COLOURS), BARS)
    bars = tuple(
        Bar(colour, country, value) for colour, (country, value) in zip(colours, rows, strict=True)
    )
    return Chart(measure, year, bars, rng.randint(235, 255), rng.randint(3, 7))


def render_chart(chart: Chart) -> Image.Image:
    """The image of a chart, RGB, 48 x 48: the axis at the bottom, thin lines at 50 and 100."""
    image = Image.new("RGB", (SIDE, SIDE), (chart.paper,) * 3)
    pen = ImageDraw.Draw(image)
    for value in (50, 100):
        pen.line((0, _y(value), SIDE, _y(value)), fill=(200, 200, 200))
    for bar, box in zip(chart.bars, bar_boxes(chart), strict=True):
        left, top, right, bottom = box
        pen.rectangle((left, top, right - 1, bottom - 1), fill=BAR_COLOURS[bar.colour])
    pen.line((0, FLOOR, SIDE, FLOOR), fill=(90, 90, 90))
    return image


def bar_boxes(chart: Chart) -> list[tuple[int, int, int, int]]:
    """The pixel box (x1, y1, x2, y2) of every bar, from left to right."""
    return [
        (chart.left + 10 * i, _y(bar.value), chart.left + 10 * i + 8, FLOOR)
        for i, bar in enumerate(chart.bars)
    ]


def _y(value: float) -> int:
    return round(FLOOR - value / 100 * HEIGHT)


def _apart(rng: Random, rows: list[tuple[str, float]]) -> list[tuple[str, float]] | None:
    """Four random rows with four different rounded values, or None when this year has too few."""
    by_ten: dict[int, list[tuple[str, float]]] = {}
    for country, value in rows:
        by_ten.setdefault(round(value / 10), []).append((country, value))
    if len(by_ten) < BARS:
        return None
    tens = rng.sample(sorted(by_ten), BARS)
    return [rng.choice(by_ten[ten]) for ten in tens]


@cache
def _table(measure: str) -> dict[int, list[tuple[str, float]]]:
    """year -> [(country, value on the axis)], without values that cannot be read off to the nearest
    ten.
    """
    column, unit = MEASURES[measure]
    table: dict[int, list[tuple[str, float]]] = {}
    for row in gapminder_rows():
        value = float(row[column]) / unit
        nearest = round(value / 10) * 10
        if 5 < value < 100 and abs(value - nearest) <= READABLE:
            table.setdefault(int(row["year"]), []).append((row["country"], value))
    return table


@cache
def gapminder_rows() -> list[dict[str, str]]:
    """The table of the package `gapminder`: country, continent, year, lifeExp, pop, gdpPercap."""
    with (package_folder("gapminder") / "gapminder.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))
