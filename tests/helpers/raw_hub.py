"""Releases that hold parts of the benchmarks in another form: the authors' own (VisATB), and copies
of lmms-lab.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from helpers.raw_releases import (
    CHARTS,
    DARK,
    LIGHT,
    SIZES,
    as_json,
    as_parquet,
    drawing,
    refs,
    talk,
    write_image,
)

COLOURS = {LIGHT: "teal", DARK: "navy", 700001: "olive"}


def visatb_records(task: str, image: str | None, *talks: tuple[str, Any]) -> list[dict[str, Any]]:
    """One record a pair of question and answer, as the authors' files have them."""
    shown = {} if image is None else {"image": image}
    mark = "" if image is None else "<image>\n"
    return [
        {
            "id": f"{k:012d}",
            "task": task,
            **shown,
            "conversations": talk(f"{mark}{question}", answer),
        }
        for k, (question, answer) in enumerate(talks)
    ]


def visatb(raw: Path, benchmark: str, files: Mapping[str, list[dict[str, Any]]]) -> Path:
    """Files by `split/name`; none of their images."""
    for name, rows in files.items():
        as_json(raw / "YanqiDai/VisATB" / benchmark / name, rows)
    return raw


def lmms_refcoco(raw: Path, coco: bool = False) -> None:
    """A row a region, with its sentences and its image; `coco`: the user has COCO's images
    besides.
    """
    for dataset, name, splits in (
        ("refcoco", "RefCOCO", ("testA", "testB")),
        ("refcocog", "RefCOCOg", ("test",)),
    ):
        for split in splits:
            rows = [
                lmms_region(number, image, said)
                for number, image, s, said in refs(dataset)
                if s == split
            ]
            as_parquet(raw / f"lmms-lab/{name}/data/{split}-00000-of-00001.parquet", rows)
    for image in SIZES if coco else ():
        write_image(raw, f"coco/train2017/{image:012d}.jpg")


def lmms_region(number: int, shown: int, said: list[str], **changed: Any) -> dict[str, Any]:
    content = drawing(COLOURS[shown], size=SIZES[shown])
    return {
        "question_id": str(number),
        "image": {"bytes": content, "path": None},
        "question": "What is in the box?",
        "answer": said,
        "segmentation": [1.5, 2.5],
        "bbox": [64.0 + number, 48.5, 100.0, 96.25],
        "iscrowd": 0,
        "file_name": f"COCO_train2014_{shown:012d}_{number}.jpg",
        **changed,
    }


def lmms_chartqa(raw: Path) -> None:
    rows = [
        {
            "type": f"{kind}_test",
            "question": q,
            "answer": a,
            "image": {"bytes": drawing("gold", "PNG"), "path": None},
        }
        for kind, asked in CHARTS.items()
        for _, q, a in asked
    ]
    as_parquet(raw / "lmms-lab/ChartQA/data/test-00000-of-00001.parquet", rows)
