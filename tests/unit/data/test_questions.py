"""One question and one answer per record, for processors without a chat template."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cotbal.data.batches.collate import RejectedImages, Row
from cotbal.data.batches.questions import QuestionCollator, collator_for
from cotbal.data.files import default_cache
from cotbal.data.reading.record import Record, Turn
from cotbal.data.reading.records import open_records
from cotbal.errors import DataError
from cotbal.loss import IGNORED
from cotbal.training import vlm
from helpers.errors import raises
from helpers.further_families import FURTHER
from helpers.plain_rows import valid_tokens
from helpers.tiny_families import FAMILIES, build


@pytest.fixture(scope="module")
def processor(tmp_path_factory: pytest.TempPathFactory) -> object:
    return vlm.load(
        str(build(FAMILIES["paligemma"], tmp_path_factory.mktemp("paligemma"))), "float32", False
    )[1]


def test_the_row_is_question_line_break_and_answer(processor: object, tmp_path: Path) -> None:
    collator = collator_for(processor, tmp_path, 100)
    assert isinstance(collator, QuestionCollator)
    turns = (Turn("system", "you are"), Turn("user", "what is it?"), Turn("assistant", "a tree"))
    row = Row(Record("r1", None, (), turns, ("a tree",), 1), "task", "one word.")
    batch = collator.training([row])
    tokenizer, ids = collator.tokenizer, batch["input_ids"][0]
    assert tokenizer.decode(ids).replace(" ", "") == "<bos>youare\nwhatisit?\noneword.\natree<eos>"
    assert tokenizer.decode(ids[batch["labels"][0] != IGNORED]).replace(" ", "") == "atree<eos>"
    asked = replace(row.record, turns=(Turn("user", "what?\none word."), turns[2]))
    once = collator.training([replace(row, record=asked)])["input_ids"][0]
    assert tokenizer.decode(once).replace(" ", "") == "<bos>what?\noneword.\natree<eos>"
    apart = replace(row.record, turns=(Turn("user", "what<image>is <image>it"), turns[2]))
    split = collator.training([replace(row, record=apart)])["input_ids"][0]
    assert tokenizer.decode(split).replace(" ", "") == "<bos>what\nisit\noneword.\natree<eos>"
    unlearnt = replace(row.record, turns=(*turns[:2], replace(turns[2], loss=False)))
    silent = replace(row, record=unlearnt)
    labels = collator.training([row, silent])["labels"]
    assert (labels != IGNORED).sum(dim=1).tolist() == [valid_tokens(collator, row), 0]
    assert valid_tokens(collator, silent) == 0
    prompt = collator.prompts([row])["input_ids"][0]
    assert ids[: len(prompt)].tolist() == prompt.tolist()


def test_conversations_are_rejected_with_the_first_of_them(
    processor: object, tmp_path: Path
) -> None:
    asked, answered = {"from": "human", "value": "What?"}, {"from": "gpt", "value": "tree"}
    system = {"from": "system", "value": "Be brief."}
    rows = [
        [asked, answered],
        [system, asked, answered],
        [asked, answered] * 2,
        [system, *[asked, answered] * 3],
    ]
    path = tmp_path / "chat.jsonl"
    path.write_text(
        "".join(
            json.dumps({"id": f"r{i}", "conversations": row}) + "\n" for i, row in enumerate(rows)
        )
    )
    records = open_records(path, default_cache())
    assert records.answers().tolist() == [1, 1, 2, 3]
    names = ("chat.jsonl, record 3 (r2)", "PaliGemmaProcessor", "2 records")
    with raises(DataError, "several-questions", *names):
        collator_for(processor, tmp_path, 100, [records])


def test_records_without_an_image_are_rejected_where_they_would_depend_on_others(
    tmp_path: Path,
) -> None:
    mllama = vlm.load(str(build(FURTHER["mllama"], tmp_path / "mllama")), "float32", False)[1]
    turns = [{"from": "human", "value": "<image>What?"}, {"from": "gpt", "value": "tree"}]
    with_image = {"id": "a", "image": "a.png", "conversations": turns}
    plain = {"id": "b", "conversations": [{"from": "human", "value": "What?"}, turns[1]]}
    files = []
    for name, rows in (("shown", [with_image]), ("plain", [plain]), ("mixed", [with_image, plain])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        files.append(open_records(tmp_path / f"{name}.jsonl", default_cache()))
    assert files[2].image_counts().tolist() == [1, 0]
    for whole in files[:2]:
        collator_for(mllama, tmp_path, 100, [whole])
    names = ("mixed.jsonl, record 2 (b)", "MllamaProcessor")
    with raises(DataError, "records-without-image", *names):
        collator_for(mllama, tmp_path, 100, [files[2]])
    with raises(DataError, "records-without-image", "plain.jsonl, record 1 (b)"):
        collator_for(mllama, tmp_path, 100, files[:2])


def test_processors_that_cannot_show_an_image_are_rejected(tmp_path: Path) -> None:
    processor = vlm.load(str(build(FURTHER["llava_next"], tmp_path / "model")), "float32", False)[1]
    row = Row(
        Record("r1", None, (), (Turn("user", "what?"), Turn("assistant", "<image> n")), ("n",), 1),
        "task",
        None,
    )
    with raises(RejectedImages, "rejected-image", "record 1 (r1)", "LlavaNextProcessor"):
        collator_for(processor, tmp_path, 100).training([row])
    processor.image_token = None
    with raises(DataError, "model-not-supported", "LlavaNextProcessor"):
        collator_for(processor, tmp_path, 100)
