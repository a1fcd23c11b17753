from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from cotbal.benchmarks.judge.pairs import read_pairs
from cotbal.benchmarks.judge.prompts import Prompt, default_prompt, load_prompt
from cotbal.data.reading.records import open_records
from cotbal.errors import CotbalError
from helpers.errors import raises

PAGE = Path(__file__).parents[3] / "docs" / "judge.md"
FIELDS = {
    "context": "A man.",
    "question": "What?",
    "first": "A {second} hat.",
    "second": "{rule} \\1 {}",
}


def test_the_prompt_of_the_house_has_the_layout_of_the_protocol() -> None:
    system, user = default_prompt().messages("conv", **FIELDS)
    assert system["role"] == "system"
    expected = (
        "[Context]\nA man.\n\n[Question]\nWhat?\n\n[Assistant 1]\nA {second} hat.\n\n[End of"
        " Assistant 1]\n\n[Assistant 2]\n{rule} \\1 {}\n\n[End of Assistant 2]\n\n[System]\n"
    )
    assert user["content"].startswith(expected)
    assert user["role"] == "user"


def test_every_category_of_the_protocol_has_a_rule_and_all_others_share_one() -> None:
    texts = [
        default_prompt().messages(name, **FIELDS)[1]["content"]
        for name in ("conv", "detail", "complex", "", "x")
    ]
    assert len(set(texts)) == 4
    assert texts[3] == texts[4]


def test_a_prompt_of_the_users_own(tmp_path: Path) -> None:
    path = tmp_path / "prompt.yaml"
    path.write_text(
        "user: |\n  {question} {first} {second} {rule} {other}\nrules: {conv: be kind}\n"
    )
    prompt = load_prompt(path)
    assert prompt.messages("conv", **FIELDS) == [
        {"role": "user", "content": "What? A {second} hat. {rule} \\1 {} be kind {other}\n"}
    ]
    with raises(CotbalError, "invalid-prompt", "'detail'", "conv"):
        prompt.messages("detail", **FIELDS)
    assert Prompt(**asdict(prompt)) == prompt


def test_rules_in_the_form_of_llava(tmp_path: Path) -> None:
    rules = {
        "conv": {"role": "Assistant", "prompt": "Rate."},
        "llava_bench_conv": {"prompt": "Rate too."},
    }
    (tmp_path / "rule.json").write_text(json.dumps(rules))
    path = tmp_path / "prompt.yaml"
    path.write_text('system: be good\nuser: "{question}{first}{second}|{rule}"\nrules: rule.json\n')
    prompt = load_prompt(path)
    assert prompt.rules == {"conv": "Rate.", "llava_bench_conv": "Rate too."}
    assert prompt.messages("llava_bench_conv", **FIELDS)[1]["content"].endswith("|Rate too.")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("user: [", "prompt.yaml"),
        ("- a", "prompt.yaml"),
        ("system: x", "user"),
        ("user: '{question}{first}{second}'\nrule: x", "rule:"),
        ("user: '{question} {first}'", "{second}"),
        ("user: '{question}{first}{second}'\nrules: none.json", "none.json"),
        ("user: '{question}{first}{second}'\nrules: prompt.yaml", "prompt.yaml"),
    ],
)
def test_what_is_no_prompt_is_rejected_in_one_sentence(
    tmp_path: Path, text: str, name: str
) -> None:
    path = tmp_path / "prompt.yaml"
    path.write_text(text)
    with raises(CotbalError, "invalid-prompt", name, tmp_path) as caught:
        load_prompt(path)
    assert "\n" not in str(caught.value)


def test_a_prompt_that_is_not_there(tmp_path: Path) -> None:
    with raises(CotbalError, "invalid-prompt", "missing.yaml"):
        load_prompt(tmp_path / "missing.yaml")


def test_what_the_page_shows_can_be_read(tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    record, answer = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    (prompt,) = re.findall(r"```yaml\n(system:.*?)```", page, re.DOTALL)
    (tmp_path / "prompt.yaml").write_text(prompt)
    prompt = load_prompt(tmp_path / "prompt.yaml")
    default_layout = default_prompt().user.partition("[System]")[0]
    assert prompt.user.partition("[System]")[0] == default_layout
    (tmp_path / "records.jsonl").write_text(json.dumps(json.loads(record)) + "\n")
    (read,) = open_records(tmp_path / "records.jsonl", tmp_path, evaluation=True)
    assert set(read.details) == {"category", "context"}
    (pair,) = read_pairs([json.loads(answer)], PAGE)
    assert (pair.category, pair.context, pair.reference) == ("conv", "A man with a hat.", "A hat.")
