"""Sampling ratios, for any trainer: how often each task is to be shown.

With `r_t` records and the weight `w_t` of every task:

* `times = w_t sum_s r_s / sum_s w_s r_s`: how often each record is shown, so that the number of
  records stays;
* `probability = w_t r_t / sum_s w_s r_s`: share of the task among the rows, for trainers that draw
  rows.

Why that does what a weight on the loss does, and how far: a trainer that takes the mean over the
tokens of large steps has in expectation the gradient `sum_t T_t g_t / sum_t T_t`, with `T_t` tokens
of task t shown and `g_t` the mean gradient of one of them. Showing a task `w_t` times turns `T_t`
into `w_t T_t`: the expected gradient of the weighted loss, Eq. 2 (importance sampling, Kahn and
Marshall 1953). What differs is its variance: rows that come several times, or not at all, instead
of rows that weigh more or less.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cotbal.data.files import write_text
from cotbal.export import Guide, Order
from cotbal.export._material import Material, open_material
from cotbal.export._rows import count
from cotbal.scores.csv_table import CsvTable, Kind, to_csv

KIND = Kind("task", "<quantity>", "ratios")
COLUMNS = ("weight", "records", "times", "rows", "probability")
MEANING = (
    (
        "A task is shown in proportion to its weight: in expectation the gradient of the weighted"
        " loss, but another variance, since rows come several times or not at all instead of"
        " weighing more or less."
    ),
    (
        "Approximate: exact on average over many steps alone, where the trainer takes the mean over"
        " all tokens of a step."
    ),
)


def write(order: Order, out: Path) -> Guide:
    """Write `ratios.csv`."""
    material = open_material(order)
    write_text(out / "ratios.csv", to_csv(KIND, _table(material)))
    return Guide(
        "sampling ratios",
        material.table("times shown", material.copies),
        "python -c \"import csv; print([float(row['probability']) for row in"
        " csv.DictReader(open('ratios.csv'))])\"",
        (
            (
                "`times` is how often each record is to be shown, and `rows` how many that makes;"
                " `probability` is the share of the task among the rows, in the order of the"
                " recipe, as `datasets.interleave_datasets` takes it."
            ),
            *MEANING,
            (
                "Where rows are drawn until the first task runs out, the epoch ends early: draw"
                " until all have run out, or repeat the rows beforehand, as `--to llamafactory`,"
                " `axolotl` and `trl` do."
            ),
        ),
        ("Rows and images: only the numbers are written.",),
    )


def _table(material: Material) -> CsvTable:
    times = material.copies
    total = sum(times[part.name] * part.size for part in material.parts)
    values = [
        [p.weight, p.size, times[p.name], count(p, times[p.name]), times[p.name] * p.size / total]
        for p in material.parts
    ]
    return CsvTable(tuple(material.weights), COLUMNS, np.array(values, float))
