"""Greedy answers: the same one by one and in batches, and in the order that was asked."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from cotbal import evaluation, vlm
from cotbal.data.collate import Collator, Row
from cotbal.data.records import Record, Turn
from cotbal.rundir import RunPaths, read_jsonl
from cotbal.sections import Generation
from helpers.tiny_vlm import BASE


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> tuple:
    folder = tmp_path_factory.mktemp("evaluation")
    Image.new("RGB", (48, 48), "red").save(folder / "a.png")
    model, processor = vlm.load(str(BASE), "float32", False)
    model.generation_config.temperature, model.generation_config.do_sample = 0.7, True
    collator = Collator(processor, folder, 200)
    evaluation.set_greedy(model.eval(), collator)
    return model, collator


def rows() -> list[Row]:
    questions = [
        "What is left of the drum?",
        "<image>\nWhich color has the bar?",
        "<image>\nWhat does the sign say?",
        "Where?",
        "<image>\nHow many fruits are in the picture with the big drum?",
    ]
    made = []
    for i, question in enumerate(questions):
        images = ("a.png",) if "<image>" in question else ()
        turns = (Turn("user", question), Turn("assistant", "red"))
        made.append(Row(Record(f"r{i}", None, images, turns, ("red",), i + 1), "task", None))
    return made


def test_answers_do_not_depend_on_the_batch(setup: tuple) -> None:
    model, collator = setup
    one_by_one = evaluation.generate(
        model, collator, rows(), Generation(max_new_tokens=6, batch_size=1), lambda n: None
    )
    together = evaluation.generate(
        model, collator, rows(), Generation(max_new_tokens=6, batch_size=5), lambda n: None
    )
    assert together == one_by_one
    assert len(set(one_by_one)) > 1, "rows that all get one answer would prove nothing"


def test_progress_counts_every_answer(setup: tuple) -> None:
    seen: list[int] = []
    evaluation.generate(*setup, rows(), Generation(max_new_tokens=1, batch_size=2), seen.append)
    assert seen == [2, 4, 5]


def test_processes_that_make_the_batches_change_no_answer(setup: tuple) -> None:
    settings, seen = Generation(max_new_tokens=6, batch_size=2), []
    alone = evaluation.generate(*setup, rows(), settings, lambda n: None)
    assert evaluation.generate(*setup, rows(), settings, seen.append, workers=2) == alone
    assert seen == [2, 4, 5]


def test_the_checkpoint_cannot_bring_sampling_back(setup: tuple) -> None:
    settings = setup[0].generation_config
    assert settings.do_sample is False
    assert settings.temperature is None
    torch.manual_seed(0)
    first = evaluation.generate(*setup, rows(), Generation(max_new_tokens=5), lambda n: None)
    torch.manual_seed(1)
    assert (
        evaluation.generate(*setup, rows(), Generation(max_new_tokens=5), lambda n: None) == first
    )


def test_answers_are_kept_beside_their_questions(tmp_path: Path) -> None:
    records = [row.record for row in rows()]
    evaluation.write_generations(
        RunPaths(tmp_path), "task", "validation", records, ["a\u2028b", "", "c", "d", "e"]
    )
    kept = read_jsonl(tmp_path / "generations" / "task.validation.jsonl")
    assert kept[0] == {
        "id": "r0",
        "images": [],
        "question": "What is left of the drum?",
        "references": ["red"],
        "details": {},
        "answer": "a\u2028b",
    }
    assert kept[1]["question"] == "Which color has the bar?"
    assert len(kept) == 5
