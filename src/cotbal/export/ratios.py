"""Sampling ratios for any trainer: how often each task is to be shown.

With `r_t` records and the weight `w_t` of every task, `times = w_t sum_s r_s / sum_s w_s r_s` is
how often each record is shown, so that the number of records stays, and
`probability = w_t r_t / sum_s w_s r_s` the share of the task among the rows. docs/exports.md says
how that approximates a weight on the loss (importance sampling, Kahn and Marshall 1953).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cotbal.data.files import write_text
from cotbal.export import Guide, Order
from cotbal.export._material import Material, open_material
from cotbal.export._rows import count
from cotbal.export._settings import left_out
from cotbal.scores.csv_table import CsvTable, Kind, to_csv

KIND = Kind("task", "<quantity>", "ratios")
COLUMNS = ("weight", "records", "times", "rows", "probability")
MEANING = """\
- A task is shown in proportion to its weight: the expected gradient is that of the weighted loss,
  but its variance differs, since rows are repeated or left out.
- Approximate: exact only on average over many steps, where the loss of the trainer is the mean over
  all tokens of a step.
"""
_COLUMNS = """\
- `times` is how often each record is to be shown, and `rows` the resulting number of rows;
  `probability` is the task's share of the rows, in the order of the recipe, as
  `datasets.interleave_datasets` expects it.
"""
_EPOCH = """\
- Where rows are drawn until the first task is exhausted, the epoch ends early: draw until all are,
  or repeat the rows beforehand, as `--to llamafactory`, `axolotl` and `trl` do.
"""
_COMMAND = (
    "python -c \"import csv; print([float(row['probability']) for row in"
    " csv.DictReader(open('ratios.csv'))])\""
)


def write(order: Order, out: Path) -> Guide:
    """Write `ratios.csv`."""
    material = open_material(order)
    write_text(out / "ratios.csv", to_csv(KIND, _table(material)))
    return Guide(
        "sampling ratios",
        material.table("times shown", material.copies),
        _COMMAND,
        _COLUMNS + MEANING + _EPOCH,
        "- Rows and images: only the numbers are written.\n" + left_out(order.recipe),
    )


def _table(material: Material) -> CsvTable:
    times = material.copies
    total = sum(times[part.name] * part.size for part in material.parts)
    values = []
    for part in material.parts:
        shown = times[part.name]
        values.append(
            [part.weight, part.size, shown, count(part, shown), shown * part.size / total]
        )
    return CsvTable(tuple(material.weights), COLUMNS, np.array(values, float))
