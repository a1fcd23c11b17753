from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cotbal.data.checks import texts
from cotbal.data.checks.texts import check_texts, need_sound_texts
from cotbal.errors import DataError
from cotbal.recipe.recipe import load_recipe
from helpers import byte_checkpoint
from helpers.errors import names_all, raises
from helpers.record_rows import llava, write


class Lab:
    """A mixture of one task without images, with a checkpoint of tokenizer files alone."""

    def __init__(self, root: Path) -> None:
        self.root = root
        byte_checkpoint.write(root / "base")
        self.task: dict[str, Any] = {"metric": "exact_match", "instruction": "Be brief."}
        self.more: dict[str, Any] = {
            "model": {"checkpoint": "base"},
            "generation": {"max_new_tokens": 9},
        }
        for split in ("train", "validation", "test"):
            self.write(split, f"a {split[:4]}", "frog")

    def write(self, split: str, *answers: Any) -> None:
        rows = [
            llava(f"{split}{i}", f"What {split} {i}?", answer, image=None)
            for i, answer in enumerate(answers)
        ]
        self.task[split] = write(self.root / f"{split}.jsonl", rows).name

    def recipe(self) -> Any:
        path = self.root / "recipe.yaml"
        path.write_text(yaml.safe_dump({"name": "lab", "tasks": {"vqa": self.task}, **self.more}))
        return load_recipe(path)

    def findings(self) -> list[tuple[str, int, str]]:
        report = check_texts(self.recipe(), self.root / "cache")
        return [(f.file.name, f.number, f.message) for f in report.problems]

    def starts(self) -> list[tuple[str, int, str, str]]:
        """File, number, code and the beginning of the message."""
        problems = check_texts(self.recipe(), self.root / "cache").problems
        return [(p.file.name, p.number, p.code, p.message.partition(": ")[0]) for p in problems]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_a_sound_mixture(lab: Lab) -> None:
    assert lab.findings() == []
    assert need_sound_texts(lab.recipe(), lab.root / "cache") == ()


def test_everything_is_reported_with_its_file_and_record(lab: Lab) -> None:
    lab.write("train", "frog", "a frog</s>and more", "ten tokens and more are fine here")
    lab.write("validation", "frog", "ten tokens", "a<pad>")
    lab.write("test", "frog", ["toad", "cafe\u0301"], "<|box|>")
    lab.task["instruction"] = "Answer <|user|>"
    lab.task["test_metrics"] = ["exact_match", "anls"]
    assert lab.starts() == [
        ("recipe.yaml", 0, "special-token", "task vqa"),
        ("train.jsonl", 2, "special-token", "turn 2 (assistant)"),
        ("validation.jsonl", 3, "special-token", "turn 2 (assistant)"),
        ("validation.jsonl", 2, "unreachable-reference", "exact_match"),
        ("test.jsonl", 3, "unreachable-reference", "exact_match"),
        ("test.jsonl", 2, "unreachable-reference", "exact_match"),
        ("test.jsonl", 3, "unreachable-reference", "anls"),
        ("test.jsonl", 2, "unreachable-reference", "anls"),
    ], "record 3 of the validation set is reported once"
    with raises(DataError, "invalid-records", "8 texts", "train.jsonl, record 2: ", "3 more"):
        need_sound_texts(lab.recipe(), lab.root / "cache")


def test_without_a_checkpoint_what_needs_none_is_checked(lab: Lab) -> None:
    lab.write("train", "a frog</s>and more")
    lab.write("validation", "A. far more than nine tokens", ["B", "a frog"])
    lab.task |= {"metric": "multiple_choice", "test_metrics": ["exact_match"]}
    expected = [("validation.jsonl", 2, "unreachable-reference", "multiple_choice")]
    del lab.more["model"]
    assert lab.starts() == expected
    lab.more["model"] = {"checkpoint": "nobody/nothing"}
    assert lab.starts() == expected
    (lab.root / "base" / "tokenizer.json").unlink()
    lab.more["model"] = {"checkpoint": "base"}
    assert lab.starts() == expected


def test_findings_are_kept_until_something_changes(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    check = texts.check_references

    def counted(records: Any, metric: str, path: Any) -> Any:
        calls.append(metric)
        return check(records, metric, path)

    monkeypatch.setattr(texts, "check_references", counted)

    def made(change: Callable[[], Any]) -> int:
        """How often references are checked after a change."""
        calls.clear()
        change()
        lab.findings()
        return len(calls)

    lab.write("validation", "ten tokens")
    assert made(lambda: None) == 2
    findings = lab.findings()
    assert made(lambda: None) == 0
    assert lab.findings() == findings != []
    assert made(lambda: lab.write("validation", "frog", "ten tokens")) == 1
    assert made(lambda: lab.more.update(generation={"max_new_tokens": 10})) == 2
    assert lab.findings() == []
    assert made(lambda: lab.task.update(metric="anls", test_metrics=["exact_match"])) == 1
    for kept, broken in zip((lab.root / "cache").glob("*.references.json"), "{[" * 9, strict=False):
        kept.write_text(broken + "]" * (broken == "["))
    assert made(lambda: None) == 2


def offer(lab: Lab, *rows: tuple[Any, Any]) -> None:
    """A validation set of these answers and options."""
    records = [
        llava(f"v{i}", f"What {i}?", answer, image=None, options=options)
        for i, (answer, options) in enumerate(rows)
    ]
    write(lab.root / "validation.jsonl", records)
    lab.task |= {"choose": "mean", "test": None}


def test_options_that_can_be_chosen(lab: Lab) -> None:
    longer = "ten tokens and more are fine here"
    offer(lab, ("frog", [" frog", "toad "]), (longer, [longer, "b", "c"]), (["x", "Y"], ["y", "z"]))
    assert lab.findings() == []
    lab.task["choose"] = None
    assert len(lab.findings()) == 1, "a generated answer has at most nine tokens"


def test_options_among_which_nothing_can_be_chosen(lab: Lab) -> None:
    offer(
        lab,
        ("frog", None),
        ("frog", ["frog"]),
        ("frog", "frog, toad"),
        ("frog", ["frog", 1.5]),
        ("frog", ["frog", "  "]),
        ("frog", ["frog", "to</s>ad"]),
        ("frog", ["frog", "<image>"]),
        ("frog", ["toad", "newt"]),
        (["3", "three"], [2, 3]),
    )
    codes = {problem.number: problem.code for problem in check(lab).problems}
    assert codes == {
        1: "missing-options",
        2: "missing-options",
        3: "missing-options",
        4: "missing-options",
        5: "empty-text",
        6: "special-token",
        7: "image-markers",
        8: "unreachable-reference",
    }
    with raises(DataError, "invalid-records", "8 texts", "validation.jsonl, record 1: "):
        need_sound_texts(lab.recipe(), lab.root / "cache")
    lab.task["choose"] = None
    lab.more["generation"] = {"max_new_tokens": 99}
    assert lab.findings() == [], "options matter only where one is chosen"


def check(lab: Lab) -> texts.TextReport:
    return check_texts(lab.recipe(), lab.root / "cache")


def test_repeated_options_are_a_warning(lab: Lab) -> None:
    offer(lab, ("frog", ["frog", "toad"]), ("frog", ["frog", "toad", "toad"]))
    assert not check(lab).problems
    (warning,) = check(lab).warnings
    assert names_all(warning, "validation.jsonl", 1, "record 2")


def test_letters_and_the_rotations_of_a_question_are_options(lab: Lab) -> None:
    offer(lab, ("B", ["A", "B"]), ("A", ["A", "B"]), ("A", ["B", "C"]))
    path = lab.root / "validation.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    write(path, [{**row, "rotation_of": "q"} for row in rows])
    lab.task["metric"] = "multiple_choice"
    assert [(p.number, p.code) for p in check(lab).problems] == [(3, "unreachable-reference")]


def test_a_metric_that_fails_on_options_is_an_error(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(lab, ("frog", ["frog", "toad"]))
    monkeypatch.setattr("cotbal.metrics.exact_match.score", lambda *_: 1 / 0)
    assert [(p.number, p.code) for p in check(lab).problems] == [(0, "metric-failed")]
