"""A mixture whose records have everything that an export must transfer, and exports of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

import cotbal.benchmarks.pocket
from cotbal.export import Guide, Order, export
from cotbal.jobs.rundir import RunDir
from cotbal.recipe.recipe import load_recipe

POCKET = Path(cotbal.benchmarks.pocket.__file__).parent / "base"  # a tokenizer to count with
WEIGHTS = {"short": 1.6, "talk": 0.4}
SIZES = {"short": 10, "talk": 6, "extra": 4}


def write_recipe(directory: Path, **sections: Any) -> Path:
    """Short answers about an image with an instruction; talks of two turns, the second of two
    images; extra text.
    """
    (directory / "images").mkdir(parents=True)
    for name in ("a", "b"):
        Image.new("RGB", (4, 4), "red").save(directory / "images" / f"{name}.png")
    rows = {
        "short": [
            _record(f"s{i}", ["a.png"], ("<image>\nWhich color?", "red"))
            for i in range(SIZES["short"])
        ],
        "talk": [
            {
                "id": f"t{i}",
                "image": ["a.png", "b.png"],
                "conversations": [
                    {"from": "system", "value": "Be brief."},
                    *_turns(
                        ("Hello.", "Good day."),
                        ("Compare <image>\nand <image>.", "Both are red, one more so."),
                    ),
                ],
            }
            for i in range(SIZES["talk"])
        ],
        "extra": [
            _record(f"e{i}", [], ("Say something.", "Something.")) for i in range(SIZES["extra"])
        ],
    }
    for task, records in rows.items():
        (directory / f"{task}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in records))
        held_out = _record(f"v_{task}", [], ("What now?", "nothing"))
        (directory / f"{task}_validation.jsonl").write_text(json.dumps(held_out) + "\n")
    tasks: dict[str, Any] = {
        t: {"train": f"{t}.jsonl", "validation": f"{t}_validation.jsonl"} for t in rows
    }
    tasks["short"]["instruction"] = "Answer in one word."
    tasks["extra"] = {"train": "extra.jsonl", "balanced": False}
    content = {
        "name": "mixed",
        "images": "images",
        "tasks": tasks,
        "model": {"checkpoint": str(POCKET), "dtype": "bfloat16", "max_length": 512},
        "optimization": {"batch_size": 8, "micro_batch_size": 2, "learning_rate": 1e-4},
        **sections,
    }
    (directory / "recipe.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    (directory / "weights.json").write_text(json.dumps({"weights": WEIGHTS}))
    return directory / "recipe.yaml"


def _record(identity: str, images: list[str], *pairs: tuple[str, str]) -> dict[str, Any]:
    field = {"image": images} if images else {}
    return {"id": identity, **field, "conversations": _turns(*pairs)}


def _turns(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [
        {"from": who, "value": text}
        for pair in pairs
        for who, text in zip(("human", "gpt"), pair, strict=True)
    ]


def exported(trainer: str, recipe: Path, out: Path, *overrides: str) -> Guide:
    """Export with the weights beside the recipe."""
    weights = recipe.parent / "weights.json"
    return export(
        Order(load_recipe(recipe, overrides), RunDir(recipe.parent / "run"), weights), trainer, out
    )


def rows_of(out: Path) -> list[dict[str, Any]]:
    """The rows of an export."""
    return [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]


def configuration(out: Path) -> dict[str, Any]:
    """Its `train.yaml`."""
    return yaml.safe_load((out / "train.yaml").read_text())
