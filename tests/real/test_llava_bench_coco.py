"""LLaVA-Bench on COCO: 90 questions, GPT-4's answers, captions and boxes of 80 images, rules.

Golden values: 30 records per category, and the prompt of LLaVA's `eval_gpt_review_visual.py`, whose
layout is restated here.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cotbal.benchmarks import chat
from cotbal.benchmarks.judge.judge import Judge
from cotbal.benchmarks.judge.pairs import read_pairs
from cotbal.benchmarks.judge.prompts import load_prompt
from cotbal.data.reading.record import Record
from cotbal.data.reading.records import open_records
from helpers import raw_mixtures

pytestmark = pytest.mark.needs("real_data")
TASKS = ("conversation", "detail", "complex_reasoning")
PLACES = {
    "qa90_questions.jsonl": "playground/data/coco2014_val_qa_eval",
    "qa90_gpt4_answer.jsonl": "playground/data/coco2014_val_qa_eval",
    "caps_boxes_coco2014_val_80.jsonl": "llava/eval/table",
}
SYSTEM = "You are a helpful and precise assistant for checking the quality of the answer."
PROMPT = f"""\
system: {SYSTEM}
rules: rule.json
user: |+
  [Context]
  {{context}}

  [Question]
  {{question}}

  [Assistant 1]
  {{first}}

  [End of Assistant 1]

  [Assistant 2]
  {{second}}

  [End of Assistant 2]

  [System]
  {{rule}}

"""


@pytest.fixture(scope="module")
def records(real: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """What `cotbal prepare chat` makes of the real questions; its other files are made up."""
    root = tmp_path_factory.mktemp("llava-bench")
    raw = raw_mixtures.chat(root / "raw")
    for name, folder in PLACES.items():
        shutil.copy(real / "llava_bench_coco" / name, raw / "llava" / folder / name)
    chat.prepare(
        chat.Places(raw, root / "out"),
        chat.Choices(on_missing_image="keep"),
        lambda what, done, total: None,
    )
    paths = [root / f"out/data/{task}_validation.jsonl" for task in TASKS]
    return [
        record for path in paths for record in open_records(path, root / "cache", evaluation=True)
    ]


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_there_are_thirty_records_per_category(records: list[Record]) -> None:
    assert Counter(record.details["category"] for record in records) == {
        "conv": 30,
        "detail": 30,
        "complex": 30,
    }


def test_the_judge_gets_the_prompt_of_the_reference(
    real: Path, records: list[Record], tmp_path: Path
) -> None:
    shutil.copy(real / "llava_bench_coco" / "rule.json", tmp_path)
    (tmp_path / "prompt.yaml").write_text(PROMPT)
    judge = Judge(
        "model",
        "http://localhost",
        load_prompt(tmp_path / "prompt.yaml"),
        {"max_tokens": 1024},
        False,
    )
    sent = {}
    for pair in read_pairs([answered(record) for record in records], tmp_path):
        (request,) = judge.requests(pair)
        sent[pair.id] = request.content["messages"]
    expected = {
        f"validation_{number}": text
        for number, text in expected_prompts(real / "llava_bench_coco").items()
    }
    assert {identity: user["content"] for identity, (_, user) in sent.items()} == expected
    assert {system["content"] for system, _ in sent.values()} == {SYSTEM}


def answered(record: Record) -> dict[str, Any]:
    """A line of a file of answers; the answer is made up."""
    question = record.turns[0].text.removeprefix("<image>\n")
    references, details = list(record.references), dict(record.details)
    return {
        "id": record.id,
        "question": question,
        "answer": f"An answer to {record.id}.",
        "references": references,
        "details": details,
    }


def expected_prompts(folder: Path) -> dict[int, str]:
    """The user's message of the reference program, for every question."""
    rules = json.loads((folder / "rule.json").read_text(encoding="utf-8"))
    contexts = {row["image"]: row for row in lines(folder / "caps_boxes_coco2014_val_80.jsonl")}
    answers = {row["question_id"]: row["text"] for row in lines(folder / "qa90_gpt4_answer.jsonl")}
    prompts = {}
    for row in lines(folder / "qa90_questions.jsonl"):
        number, context = row["question_id"], contexts[row["image"]]
        boxes = [f"{box['category']}: {box['bbox']}" for box in context["instances"]]
        sections = (
            "[Context]\n" + "\n".join(context["captions"]),
            "\n".join(boxes),
            f"[Question]\n{row['text']}",
            f"[Assistant 1]\n{answers[number]}",
            "[End of Assistant 1]",
            f"[Assistant 2]\nAn answer to validation_{number}.",
            "[End of Assistant 2]",
            f"[System]\n{rules[row['category']]['prompt']}",
            "",
        )
        prompts[number] = "\n\n".join(sections)
    assert len(prompts) == 90
    return prompts
