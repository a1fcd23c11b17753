"""The tables that the paper prints: improvement and error (Eq. 12-14), and what holds inside the
tables of weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cotbal.balance.improvement import Overall, overall
from cotbal.balance.weights import weight_parts
from cotbal.scores.results import Column, Results

DATA = Path(__file__).parent / "data"
TABLES: dict[str, Any] = json.loads((DATA / "paper_tables.json").read_text())["tables"]
LATER: dict[str, Any] = json.loads((DATA / "paper_tables_v3.json").read_text())["tables"]
ACADEMIC = TABLES["table1"]
BASELINE = next(row["values"] for row in ACADEMIC["rows"] if row["method"] == ACADEMIC["baseline"])
HALF_A_CENT = 0.00501  # two decimals, and a cell that lies almost on the edge
HALF_A_DIGIT = 5.1e-5  # four decimals
ROWS = [
    pytest.param(row, id=f"{name}-{row['method']}")
    for name in ("table1", "table12")
    for row in TABLES[name]["rows"]
    if row["printed"]
]


COLUMNS = tuple(
    Column(metric["task"], f"{metric['split']} {metric['metric']}")
    for metric in ACADEMIC["metrics"]
)


def against_stl(values: list[float]) -> Overall:
    return overall(Results(("STL", "method"), COLUMNS, np.array([BASELINE, values])), "STL")[
        "method"
    ]


@pytest.mark.parametrize("row", ROWS)
def test_summary_columns_come_out_of_the_metrics(row: dict[str, Any]) -> None:
    by_method = against_stl(row["values"])
    assert by_method.tasks == pytest.approx(row["recomputed"]["per_task_improvement"], abs=1e-6)
    assert by_method.improvement == pytest.approx(row["printed"]["delta_I"], abs=HALF_A_CENT)
    assert by_method.error == pytest.approx(row["printed"]["delta_E"], abs=HALF_A_CENT)


def test_every_cell_that_the_paper_prints_is_compared() -> None:
    assert len(ROWS) >= 17
    assert {row["method"] for row in TABLES["table5"]["rows"]} == {
        row["method"] for row in TABLES["table12"]["rows"]
    }


@pytest.mark.parametrize("row", TABLES["table5"]["rows"], ids=lambda row: row["method"])
def test_the_ablation_summary_is_that_of_its_metrics(row: dict[str, Any]) -> None:
    values = next(
        other["values"] for other in TABLES["table12"]["rows"] if other["method"] == row["method"]
    )
    by_method = against_stl(values)
    assert by_method.improvement == pytest.approx(row["printed"]["delta_I"], abs=HALF_A_CENT)
    assert by_method.error == pytest.approx(row["printed"]["delta_E"], abs=HALF_A_CENT)


def moved(printed: list[str], halves: int) -> list[float]:
    """The printed values, each moved by half of its last digit, up or down."""
    return [float(text) + halves * 0.5 * 10.0 ** -len(text.partition(".")[2]) for text in printed]


@pytest.mark.parametrize("name", LATER)
def test_later_tables_agree_with_themselves_as_far_as_their_digits_go(name: str) -> None:
    """A digit that was copied wrong would move a summary further than this, but for last digits of
    long tables.
    """
    table = LATER[name]
    rows = {row["method"]: row for row in table["rows"]}
    base = rows.pop(table["baseline"])
    columns = tuple(Column(task, "score") for task in table["columns"])
    for method, row in rows.items():
        pairs = [
            [moved(base["values_printed"], -up), moved(row["values_printed"], up)]
            for up in (-1, 0, 1)
        ]
        low, middle, high = (
            overall(Results(("base", method), columns, np.array(p)), "base")[method] for p in pairs
        )
        printed = {key: float(text) for key, text in row["printed"].items()}
        assert (
            low.improvement - HALF_A_CENT <= printed["delta_I"] <= high.improvement + HALF_A_CENT
        ), method
        assert middle.improvement == pytest.approx(printed["delta_I"], abs=0.05), method
        if "delta_E" in printed:
            assert high.error - HALF_A_CENT <= printed["delta_E"] <= low.error + HALF_A_CENT, method
    assert len(rows) >= 1


def test_later_tables_hold_the_same_models() -> None:
    """CoTBal of one table is CoTBal of the others, and the ablation names the rows that version 2
    has.
    """
    ablation = {row["method"]: row["values_printed"] for row in LATER["zero_shot_ablation"]["rows"]}
    main = {row["method"]: row["values_printed"] for row in LATER["zero_shot_7b"]["rows"]}
    assert (ablation["EW"], ablation["CoTBal (all)"]) == (main["EW"], main["CoTBal"])
    parts = {
        f"CoTBal ({part})"
        for part in ("outward", "inward", "inter", "intra", "all", "precise difficulty")
    }
    assert parts <= set(ablation) & {row["method"] for row in TABLES["table12"]["rows"]}


@pytest.mark.parametrize("name", ["table10", "table11"])
def test_printed_weights_are_combined_as_ours_are(name: str) -> None:
    printed = {
        row["strategy"]: np.array(list(row["weights"].values())) for row in TABLES[name]["rows"]
    }
    for weights in printed.values():
        assert weights.mean() == pytest.approx(1, abs=HALF_A_DIGIT)
    # Eq. 5, 7 and 10 turned round: any numbers that have these weights, put through our own
    # combination.
    temperature = 0.5
    logs = {part: temperature * np.log(printed[part]) for part in ("outward", "inward", "intra")}
    ours = weight_parts(logs["outward"], -logs["inward"], logs["intra"], temperature)
    for part, weights in printed.items():
        np.testing.assert_allclose(ours[part], weights, rtol=0, atol=2 * HALF_A_DIGIT, err_msg=part)
