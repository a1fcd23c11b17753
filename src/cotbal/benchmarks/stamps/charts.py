"""Bar charts of real numbers (vega-datasets), with questions whose answers follow from the
numbers."""

from __future__ import annotations

import csv
import json
import random
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from cotbal.benchmarks.stamps.scenes import SIDE, Box

COLOURS = {
    "red": "#d62728",
    "blue": "#1f5fd0",
    "green": "#2ca02c",
    "orange": "#ff9f0e",
    "purple": "#8b3fc0",
    "black": "#222222",
}
BARS = 4
# bars that are nearly equal are no fair question at this size: at least so much of the highest bar
# between two
MIN_GAP = 0.12
# the lower edge of the bars and the height of the whole grid, in pixels
BOTTOM, HEIGHT = SIDE - 8, SIDE - 32
SECTORS = (
    "construction",
    "manufacturing",
    "retail_trade",
    "information",
    "financial_activities",
    "government",
)

Table = tuple[str, dict[str, float]]


@dataclass(frozen=True)
class Chart:
    """Four bars: what is shown, of whom, how high, in which colour; `top` is the value at the upper
    edge.
    """

    measure: str
    labels: tuple[str, ...]
    values: tuple[float, ...]
    colours: tuple[str, ...]
    top: float


def read_tables(data: Path) -> list[Table]:
    """Tables as (measure, {label: value}): one per year of gapminder, one per year or month of the
    two US series.
    """
    tables = gapminder_tables(json.loads((data / "gapminder.json").read_text(encoding="utf-8")))
    power: dict[str, dict[str, float]] = {}
    for row in rows(data / "iowa-electricity.csv"):
        power.setdefault(row["year"], {})[row["source"].lower()] = float(row["net_generation"])
    tables += [("power generation", table) for table in power.values()]
    for row in rows(data / "us-employment.csv"):
        jobs = {name.replace("_", " "): float(row[name]) for name in SECTORS}
        tables.append(("employment", jobs))
    return tables


def gapminder_tables(table: list[dict[str, object]]) -> list[Table]:
    """Life expectancy and fertility of all countries, one table per year each."""
    measures = {"life_expect": "life expectancy", "fertility": "fertility"}
    years = sorted({str(row["year"]) for row in table})
    tables = []
    for key, measure in measures.items():
        for year in years:
            of_year = [row for row in table if str(row["year"]) == year]
            values: dict[str, float] = {}
            for row in of_year:
                values[str(row["country"])] = float(str(row[key]))
            tables.append((measure, values))
    return tables


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def split_tables(tables: list[Table]) -> dict[str, list[Table]]:
    """Three fifths of the tables for training, one fifth each for validation and test: no table is
    in two splits.
    """
    homes = ("train", "train", "train", "validation", "test")
    splits: dict[str, list[Table]] = {split: [] for split in homes}
    for index, table in enumerate(tables):
        splits[homes[index % 5]].append(table)
    return splits


def draw_numbers(tables: list[Table], rng: random.Random) -> Chart:
    """Four entries of a table of a random measure whose bars can be distinguished."""
    measures = sorted({measure for measure, _ in tables})
    while True:
        measure = rng.choice(measures)
        table = rng.choice([table for name, table in tables if name == measure])
        labels = rng.sample(sorted(table), min(BARS, len(table)))
        values = [table[label] for label in labels]
        ordered = sorted(values)
        gap = MIN_GAP * ordered[-1]
        if all(high - low >= gap for low, high in pairwise(ordered)):
            colours = tuple(rng.sample(sorted(COLOURS), len(labels)))
            top = 100.0
            if measure != "life expectancy":
                top = ordered[-1] * rng.uniform(1.05, 1.5)
            return Chart(measure, tuple(labels), tuple(values), colours, top)


def ask(chart: Chart, rng: random.Random) -> tuple[str, str]:
    """A question about a chart and its answer."""
    if chart.measure == "life expectancy" and rng.random() < 0.4:
        at = rng.randrange(len(chart.values))
        question = (
            f"What is the {chart.measure} of {chart.labels[at]}, the {chart.colours[at]} bar, to"
            " the nearest ten?"
        )
        return question, str(nearest_ten(chart.values[at]))
    word, pick = rng.choice((("highest", max), ("lowest", min)))
    at = chart.values.index(pick(chart.values))
    return f"Which colour has the {word} {chart.measure}?", chart.colours[at]


def nearest_ten(value: float) -> int:
    """A value rounded to tens, halves upwards."""
    return int((value + 5) // 10 * 10)


def draw_chart(chart: Chart, font: Path, rng: random.Random) -> Image.Image:
    """The image of a chart: a title, a light grid of ten lines, one bar per value."""
    image = Image.new("RGB", (SIDE, SIDE), rng.choice(("white", "#f4f4ee", "#eef2f6")))
    pen = ImageDraw.Draw(image)
    pen.text((6, 3), chart.measure, fill="black", font=ImageFont.truetype(str(font), 13))
    for line in range(11):
        y = BOTTOM - HEIGHT * line // 10
        colour = "#888888" if line in (0, 5, 10) else "#d8d8d8"
        pen.line((6, y, SIDE - 6, y), fill=colour)
    for bar, colour in zip(bars(chart), chart.colours, strict=True):
        pen.rectangle(bar, fill=COLOURS[colour])
    return image


def bars(chart: Chart) -> list[Box]:
    """Where the bars of a chart are, in pixels, from left to right."""
    width = (SIDE - 24) // len(chart.values)
    boxes = []
    left = 14
    for value in chart.values:
        height = round(HEIGHT * value / chart.top)
        boxes.append((left, BOTTOM - height, left + width - 10, BOTTOM))
        left += width
    return boxes
