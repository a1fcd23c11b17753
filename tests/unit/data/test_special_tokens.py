from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import cotbal.benchmarks.pocket
from cotbal.data.checks.special_tokens import (
    SpecialTokens,
    problems_of_instruction,
    problems_of_texts,
    read_special_tokens,
    warnings_of_texts,
)
from cotbal.data.reading.record import Problem
from cotbal.data.reading.records import Records, open_records
from cotbal.recipe.mixture import Task
from helpers import byte_checkpoint
from helpers.record_rows import llava, talk, write

TOKENS = SpecialTokens(frozenset({"</s>", "<|end|>", "[a|b]"}), frozenset({"<|box|>"}))


def test_kinds(tmp_path: Path) -> None:
    """Named by a role, by the model's configuration or by the template: structure. The marker of
    our records is neither.
    """
    checkpoint = byte_checkpoint.write(
        tmp_path, image_token_id="<|patch|>", video_token_index="<video>"
    )
    tokens = read_special_tokens(checkpoint)
    assert tokens.structure == {"<s>", "</s>", "<pad>", "<|user|>", "<|patch|>", "<video>"}
    assert tokens.others == {"<|box|>", "[a|b]", "<loc1>"}


def test_tokens_without_a_tokenizer_json(tmp_path: Path) -> None:
    """The configuration of a tokenizer lists them too."""
    entries = {"7": {"content": "<|im_end|>", "special": True}, "8": {"content": "<x>"}}
    config = {"added_tokens_decoder": entries, "chat_template": [{"template": "a<|im_end|>"}]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert read_special_tokens(tmp_path) == SpecialTokens(frozenset({"<|im_end|>"}))


@pytest.mark.parametrize("content", [None, "{broken", "[]"])
def test_a_checkpoint_without_readable_files_has_no_tokens(
    tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    assert read_special_tokens(tmp_path).all == set()


def test_a_real_checkpoint(tmp_path: Path) -> None:
    base = Path(cotbal.benchmarks.pocket.__file__).parent / "base"
    tokens = read_special_tokens(Path(shutil.copytree(base, tmp_path / "base")))
    assert tokens.structure == {
        "<pad>",
        "<unk>",
        "<|user|>",
        "<|assistant|>",
        "<|system|>",
        "<|end|>",
    }
    assert tokens.others == set()


def records(tmp_path: Path, *conversations: list[dict[str, object]]) -> Records:
    rows = [
        llava(f"r{i}", conversations=turns, image=None, images=[])
        for i, turns in enumerate(conversations)
    ]
    return open_records(write(tmp_path / "data.jsonl", rows), tmp_path / "cache")


def test_a_token_that_begins_another_one_is_distinguished() -> None:
    tokens = SpecialTokens(frozenset({"<a>", "<a>b"}))
    assert tokens.of("<a>b") == ["<a>b"]
    assert tokens.of("<a> <a>b") == ["<a>", "<a>b"]


def test_every_text_of_a_record_is_searched(tmp_path: Path) -> None:
    system = [{"from": "system", "value": "Say <|end|>."}, *talk("A?", "b")]
    rows = records(
        tmp_path,
        talk("What?", "a frog"),
        talk("What is </s> here?", "a <b>frog</b>"),
        talk("What?", "frog</s>and a toad", "More </s>?", "[a|b]</s>"),
        system,
        talk("What?", ["frog", "a </S> toad", "to</s>ad"]),
        talk("What?", "<|box|>(1,2)"),
    )
    problems = list(problems_of_texts(rows, TOKENS))
    assert [(problem.number, problem.message.partition(": ")[0]) for problem in problems] == [
        (2, "turn 1 (user)"),
        (3, "turn 2 (assistant)"),
        (3, "turn 3 (user)"),
        (3, "turn 4 (assistant)"),
        (4, "turn 1 (system)"),
        (5, "answer 3"),
    ]
    assert problems[1].file == rows.source
    assert {problem.code for problem in problems} == {"special-token"}
    for named in ("'</s>'", "'frog</s>and a toad'", "'< /s>'"):
        assert named in problems[1].message
    (warning,) = warnings_of_texts(rows, TOKENS)
    for named in (f"{rows.source}: 1 of 6 records", "'<|box|>' in record 6"):
        assert named in warning
    assert list(problems_of_texts(rows, SpecialTokens())) == []


def test_records_in_several_batches_keep_their_places(tmp_path: Path) -> None:
    texts = [f"answer {i}" + "</s>" * (i in (0, 2047, 2048, 4999)) for i in range(5000)]
    rows = records(tmp_path, *(talk("What?", text) for text in texts))
    assert [problem.number for problem in problems_of_texts(rows, TOKENS)] == [1, 2048, 2049, 5000]


def test_markers_of_images_are_no_special_tokens(tmp_path: Path) -> None:
    rows = [llava("a", "<image>\nWhat?")]
    opened = open_records(write(tmp_path / "data.jsonl", rows), tmp_path / "cache")
    tokens = read_special_tokens(byte_checkpoint.write(tmp_path / "base"))
    assert list(problems_of_texts(opened, tokens)) == []


def test_instructions(tmp_path: Path) -> None:
    """An instruction is added to each question, so an image marker in it is an image too many."""

    def problems(instruction: str | None) -> list[Problem]:
        task = Task("vqa", tmp_path, None, {}, "exact_match", (), instruction)
        return list(problems_of_instruction(task, tmp_path, TOKENS))

    assert problems(None) == problems("Answer in one word <|box|>.") == []
    for problem, token in zip(
        problems("Look at <image>, then </s>."), ("'</s>'", "'<image>'"), strict=True
    ):
        assert problem.code == "special-token"
        assert problem.message.startswith("task vqa: instruction: ")
        assert f"found {token}" in problem.message
