"""Greedy answers: the same one by one and in batches, and in the order that was asked."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import GenerationConfig

from cotbal.data.batches.collate import Collator, Row
from cotbal.data.files import read_jsonl
from cotbal.data.reading.record import Record, Turn
from cotbal.recipe.schema import Generation
from cotbal.training import evaluation, vlm
from cotbal.training.run_paths import RunPaths
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
        "<image>\nHow many fruits are in the image with the big drum?",
    ]
    made = []
    for i, question in enumerate(questions):
        images = ("a.png",) if "<image>" in question else ()
        turns = (Turn("user", question), Turn("assistant", "red"))
        made.append(Row(Record(f"r{i}", None, images, turns, ("red",), i + 1), "task", None))
    return made


def answers(model: Any, collator: Collator, settings: Generation) -> list[str]:
    return evaluation.Answerer(model, collator, settings)(rows(), lambda _: None)


def test_answers_do_not_depend_on_the_batch(setup: tuple) -> None:
    model, collator = setup
    one_by_one, together = (
        answers(model, collator, Generation(max_new_tokens=6, batch_size=size)) for size in (1, 5)
    )
    assert together == one_by_one
    assert len(set(one_by_one)) > 1, "rows that all get one answer would prove nothing"


def test_progress_counts_every_answer(setup: tuple) -> None:
    seen: list[dict[int, str]] = []
    settings = Generation(max_new_tokens=1, batch_size=2)
    answers = evaluation.Answerer(*setup, settings)(rows(), seen.append)
    assert [len(some) for some in seen] == [2, 2, 1]
    assert {i: text for some in seen for i, text in some.items()} == dict(enumerate(answers))


def test_processes_that_make_the_batches_change_no_answer(setup: tuple) -> None:
    settings = Generation(max_new_tokens=6, batch_size=2)
    alone = answers(*setup, settings)
    for shared in (False, True):
        answerer = evaluation.Answerer(*setup, settings, workers=2, shared=shared)
        assert answerer(rows(), lambda _: None) == alone


SETTINGS = {
    "repetition_penalty": 1.5,
    "no_repeat_ngram_size": 2,
    "min_new_tokens": 5,
    "suppress_tokens": list(range(7, 60)),
    "bad_words_ids": [[8], [9]],
    "num_return_sequences": 2,
    "return_dict_in_generate": True,
    "do_sample": True,
    "temperature": 0.7,
    "num_beams": 3,
    "top_k": 5,
}


def most_likely(model: Any, collator: Collator, row: Row, count: int) -> str:
    """The answer by one forward pass per token."""
    batch = dict(collator.prompts([row]))
    ends = {collator.tokenizer.convert_tokens_to_ids(collator.end)}
    said: list[int] = []
    while len(said) < count and not ends & set(said):
        with torch.inference_mode():
            said.append(int(model(**batch).logits[0, -1].argmax()))
        more = torch.tensor([[said[-1]]])
        batch["input_ids"] = torch.cat([batch["input_ids"], more], 1)
        batch["attention_mask"] = torch.ones_like(batch["input_ids"])
        batch.pop("token_type_ids", None)
    return str(collator.tokenizer.decode(said, skip_special_tokens=True)).strip()


@pytest.mark.parametrize("name", [*SETTINGS, "all"])
def test_no_setting_of_the_checkpoint_changes_an_answer(setup: tuple, name: str) -> None:
    model, collator = setup
    settings = SETTINGS if name == "all" else {name: SETTINGS[name]}
    model.generation_config = GenerationConfig(eos_token_id=1, bos_token_id=3)
    for key, value in settings.items():
        setattr(model.generation_config, key, value)
    evaluation.set_greedy(model, collator)
    assert model.generation_config.bos_token_id == 3
    assert model.generation_config.eos_token_id == [1, 6], "its own end, and that of the template"
    expected = [most_likely(model, collator, row, 12) for row in rows()]
    assert answers(model, collator, Generation(max_new_tokens=12)) == expected


def test_ignored_settings_are_named(tmp_path: Path) -> None:
    GenerationConfig(**SETTINGS, eos_token_id=1, use_cache=True).save_pretrained(tmp_path)
    assert evaluation.ignored_settings(str(tmp_path), False) == SETTINGS
    plain = GenerationConfig(eos_token_id=[1, 2], pad_token_id=0, do_sample=False)
    plain.save_pretrained(tmp_path)
    assert evaluation.ignored_settings(str(tmp_path), False) == {}


def test_ignored_settings_are_those_of_the_model_where_there_is_no_file(tmp_path: Path) -> None:
    shutil.copy(BASE / "config.json", tmp_path)
    assert evaluation.ignored_settings(str(tmp_path), False) == {}


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
