"""Small releases of the Chat and Large Benchmarks in their real formats, with texts of our own, and
data of a user.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from helpers.raw_releases import as_json, as_parquet, drawing, write_image

COLOURS = ("teal", "olive", "navy", "plum", "tan", "coral", "gold", "pink", "gray", "lime")
CATEGORIES = ("conv", "detail", "complex")
INSTRUCT = {
    "conversation_58k": 2,
    "detail_23k": 1,
    "complex_reasoning_77k": 1,
}  # file -> turns of a record


def as_lines(path: Path, rows: Iterable[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def talk(turns: int, marker: str = "<image>\n{}") -> list[dict[str, str]]:
    said = []
    for turn in range(turns):
        question = "What stands there?" if turn else marker.format("Who waits at the pier?")
        said += [
            {"from": "human", "value": question},
            {"from": "gpt", "value": f"A heron, {turn}."},
        ]
    return said


def chat(raw: Path) -> Path:
    """LLaVA-Instruct, LLaVA-Bench on COCO, LLaVA-Bench in the wild; the marker stands at the head
    and at the tail.
    """
    for file, turns in INSTRUCT.items():
        rows = [
            {"id": "000000442786", "image": "000000442786.jpg", "conversations": talk(turns)},
            {
                "id": "000000442786",
                "image": "000000442786.jpg",
                "conversations": talk(turns, "{}\n<image>"),
            },
        ]
        as_json(raw / f"liuhaotian/LLaVA-Instruct-150K/{file}.json", rows)
    write_image(raw, "coco/train2017/000000442786.jpg")
    write_image(raw, "coco/val2014/COCO_val2014_000000441147.jpg")
    bench_coco(raw / "llava")
    bench_wild(raw / "liuhaotian/llava-bench-in-the-wild")
    return raw


def bench_coco(repository: Path) -> None:
    questions = repository / "playground/data/coco2014_val_qa_eval"
    asked = [
        {
            "question_id": i,
            "image": "000000441147.jpg",
            "text": f"Ask {i}?\n<image>",
            "category": category,
        }
        for i, category in enumerate(CATEGORIES)
    ]
    as_lines(questions / "qa90_questions.jsonl", asked)
    answers = [
        {"question_id": i, "text": f"Said {i}.", "category": category}
        for i, category in enumerate(CATEGORIES)
    ]
    as_lines(questions / "qa90_gpt4_answer.jsonl", answers)
    boxes = [
        {"category": "suitcase", "bbox": [0.25, 0.5, 0.75, 1.0]},
        {"category": "cat", "bbox": [0, 0.1, 0.2, 0.3]},
    ]
    context = {
        "id": "441147",
        "image": "000000441147.jpg",
        "captions": ["Two cases.", "Old bags."],
        "instances": boxes,
    }
    as_lines(repository / "llava/eval/table/caps_boxes_coco2014_val_80.jsonl", [context])


def bench_wild(folder: Path) -> None:
    asked = [
        {"question_id": i, "image": "001.jpg", "text": f"Wild {i}?", "category": category}
        for i, category in enumerate((*CATEGORIES, "complex"))
    ]
    as_lines(folder / "questions.jsonl", asked)
    answers = [
        {
            "question_id": i,
            "prompt": "Wild?",
            "answer_id": "x",
            "model_id": "gpt-4",
            "text": f"Wise {i}.",
            "metadata": {},
        }
        for i in range(4)
    ]
    as_lines(folder / "answers_gpt4.jsonl", answers)
    as_lines(
        folder / "context.jsonl", [{"id": "001", "image": "001.jpg", "caption": "A beach at noon."}]
    )
    (folder / "images").mkdir()
    (folder / "images/001.jpg").write_bytes(drawing("khaki"))


def encoded(colour: str, size: tuple[int, int] = (32, 24)) -> str:
    return base64.b64encode(drawing(colour, size=size)).decode()


def unified(number: int, images: Iterable[str], inputs: str = "Is it?") -> dict[str, Any]:
    """A row of M3IT in the four columns of its loader."""
    return {
        "instruction": " Look well. ",
        "inputs": inputs,
        "image_base64_str": [encoded(colour) for colour in images],
        "outputs": f"Yes {number}",
    }


def export(raw: Path, config: str, rows: Mapping[str, Iterable[Mapping[str, Any]]]) -> Path:
    """Splits of one data set in parquet."""
    for split, content in rows.items():
        as_parquet(raw / f"m3it/{config}/{split}.parquet", content)
    return raw


def large(raw: Path, config: str, tested: bool) -> Path:
    """A data set with five rows in train and in validation, and three in test if it has one."""
    sizes = {"train": 5, "validation": 5, **({"test": 3} if tested else {})}
    return export(
        raw,
        config,
        {split: [unified(n, [COLOURS[n]]) for n in range(size)] for split, size in sizes.items()},
    )


def own_rows(number: int, turns: int = 1, per_image: int = 2) -> list[dict[str, Any]]:
    """LLaVA records of a user; images `0.jpg`, `1.jpg`, ... are shared."""
    return [
        {"id": n, "image": f"{n // per_image}.jpg", "conversations": talk(turns)}
        for n in range(number)
    ]


def own_images(folder: Path, number: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(number):
        (folder / f"{n}.jpg").write_bytes(drawing(COLOURS[n % len(COLOURS)]))
