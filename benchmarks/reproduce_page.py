"""Write the tables of docs/reproduce.md: published numbers, room for the reader's own, and the cost
of `gpu_hours`.

    python benchmarks/reproduce_page.py

Text of the page stays; what stands between `<!-- begin NAME -->` and `<!-- end NAME -->` is written
again. Published numbers come from tests/golden/data, where tests compute them again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpu_hours import GPUS, MODELS, anchor, cost_table, loading, memory

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reproduce.md"
GOLDEN = ROOT / "tests" / "golden" / "data"
YOURS = "yours"
PARTS, TEMPERATURES = slice(0, 6), slice(6, 9)  # rows of the ablation
DIFFICULTIES = slice(9, 11)
LATER_SUMMARY = {"delta_I": "ΔI, %", "delta_E": "ΔE, %"}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def beside(first: str, columns: Mapping[str, Sequence[str]], names: Sequence[str]) -> list[str]:
    """One row a name, one column a key, and beside each column an empty one."""
    head = [first, *(part for column in columns for part in (column, YOURS))]
    rows = [
        [name, *(p for values in columns.values() for p in (values[i], ""))]
        for i, name in enumerate(names)
    ]
    return table(head, rows)


def results(tables: Mapping[str, Any], name: str, rows: slice = slice(None)) -> list[str]:
    """Table 1, or some rows of Table 12: a row a metric, a column a method."""
    metrics = [metric["id"] for metric in tables["table1"]["metrics"]]
    chosen = tables[name]["rows"][rows]
    columns = {row["method"]: [*row["values_printed"], *_summary(row)] for row in chosen}
    return beside("metric", columns, [*metrics, "ΔI, %", "ΔE, %"])


def _summary(row: Mapping[str, Any]) -> list[str]:
    return [
        f"{row['printed'][key]:.2f}" if row["printed"] else "" for key in ("delta_I", "delta_E")
    ]


def later(tables: Mapping[str, Any], name: str, *, transposed: bool = False) -> list[str]:
    """A table of the later version of the paper; `transposed`: one row per method, where there
    are few columns.
    """
    rows, columns = tables[name]["rows"], tables[name]["columns"]
    keys = [key for key in LATER_SUMMARY if any(key in (row["printed"] or {}) for row in rows)]
    printed = [
        [*row["values_printed"], *((row["printed"] or {}).get(key, "") for key in keys)]
        for row in rows
    ]
    names, methods = (
        [*columns, *(LATER_SUMMARY[key] for key in keys)],
        [row["method"] for row in rows],
    )
    if transposed:
        return beside(
            "method", dict(zip(names, map(list, zip(*printed, strict=True)), strict=True)), methods
        )
    return beside("metric", dict(zip(methods, printed, strict=True)), names)


def summary(tables: Mapping[str, Any]) -> list[str]:
    """Table 5."""
    rows = tables["table5"]["rows"]
    columns = {
        "ΔI, %": [_summary(row)[0] for row in rows],
        "ΔE, %": [_summary(row)[1] for row in rows],
    }
    return beside("weights", columns, [row["method"] for row in rows])


def weights(tables: Mapping[str, Any], name: str) -> list[str]:
    """Tables 10 and 11: a row a unit, a column a part of the weights."""
    units = tables[name]["columns"]
    columns = {
        row["strategy"]: [f"{row['weights'][unit]:.4f}" for unit in units]
        for row in tables[name]["rows"]
    }
    return beside("unit", columns, units)


def inputs(published: Mapping[str, Any]) -> list[str]:
    """What the weights of Table 10 were made of, from the published code."""
    names = {
        "outward_contribution": "outward",
        "inward_contribution": "inward",
        "mini_over_full_ratio": "mini / full",
    }
    columns = {shown: [f"{value:.4f}" for value in published[key]] for key, shown in names.items()}
    return beside("task", columns, published["tasks"])


def sizes(tables: Mapping[str, Any]) -> list[str]:
    """Table 8."""
    rows = tables["table8"]["rows"]
    return table(
        ["task", "conversations", YOURS, "instruction"],
        [[row["task"], row["size"], "", row["instruction"] or "none"] for row in rows],
    )


def instructions(tables: Mapping[str, Any]) -> list[str]:
    """Table 9."""
    return table(
        ["benchmarks", "instruction"],
        [
            [", ".join(row["tasks"]), row["instruction"] or "none"]
            for row in tables["table9"]["rows"]
        ],
    )


def assumed() -> list[str]:
    """What the formula gives where somebody else reported a time, and what one training holds in
    memory.
    """
    formula, reported = anchor()
    held = ", ".join(f"{name} {memory(model):.0f} GB" for name, model in MODELS.items())
    shared = ", ".join(f"{name} {memory(model) / GPUS:.0f} GB" for name, model in MODELS.items())
    loaded = ", ".join(f"{name} {GPUS * loading(model):.0f} GB" for name, model in MODELS.items())
    return [
        (
            f"- For LLaVA-1.5-7B's own tuning the formula gives {formula:.0f} GPU-hours; its README"
            f" reports about {reported:.0f}."
        ),
        (
            f"- Weights, gradients and Adam of full training in float32, computed: {held}, whatever"
            f" the batch. Sharded over {GPUS} GPUs: {shared} each, plus activations and the layer"
            " at work."
        ),
        (
            f"- CPU memory of a node while {GPUS} ranks load the model, each of them whole,"
            f" computed: {loaded}."
        ),
    ]


def blocks() -> dict[str, list[str]]:
    """Every written part of the page, by its name."""
    tables = json.loads((GOLDEN / "paper_tables.json").read_text(encoding="utf-8"))["tables"]
    published = json.loads((GOLDEN / "academic_7b_weights.json").read_text(encoding="utf-8"))
    third = json.loads((GOLDEN / "paper_tables_v3.json").read_text(encoding="utf-8"))["tables"]
    made: dict[str, Callable[[], list[str]]] = {
        "cost": cost_table,
        "assumed": assumed,
        "table 1": lambda: results(tables, "table1"),
        "fine-tuned, 13B": lambda: later(third, "fine_tuned_13b"),
        "zero-shot, 7B": lambda: later(third, "zero_shot_7b"),
        "zero-shot, 13B": lambda: later(third, "zero_shot_13b"),
        "zero-shot, ablation": lambda: later(third, "zero_shot_ablation", transposed=True),
        "chat": lambda: later(third, "chat"),
        "large": lambda: later(third, "large"),
        "table 5": lambda: summary(tables),
        "table 12, parts": lambda: results(tables, "table12", PARTS),
        "table 12, temperatures": lambda: results(tables, "table12", TEMPERATURES),
        "table 12, difficulties": lambda: results(tables, "table12", DIFFICULTIES),
        "table 8": lambda: sizes(tables),
        "table 9": lambda: instructions(tables),
        "table 10": lambda: weights(tables, "table10"),
        "inputs of table 10": lambda: inputs(published),
        "table 11": lambda: weights(tables, "table11"),
    }
    return {name: make() for name, make in made.items()}


def written(page: str) -> str:
    """The page with every part as it is computed now; raises ValueError for a part that the page
    does not have once.
    """
    for name, lines in blocks().items():
        pattern = re.compile(
            rf"(<!-- begin {re.escape(name)} -->\n).*?(<!-- end {re.escape(name)} -->)", re.DOTALL
        )
        text = "\n".join(lines)
        page, replaced = pattern.subn(
            lambda match, text=text: f"{match[1]}{text}\n{match[2]}", page
        )
        if replaced != 1:
            raise ValueError(f"{PAGE}: expected the part {name!r} once; found it {replaced} times")
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
