from __future__ import annotations

import importlib
import sys
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from cotbal.data.batches.tokens import open_tokenizer
from cotbal.data.checks.references import AnswerPath, check_references
from cotbal.data.reading.record import Record, Turn
from helpers import byte_checkpoint

NFD = unicodedata.normalize("NFD", "café")


def record(number: int, *references: str, **details: str) -> Record:
    turns = (Turn("user", "What?"), Turn("assistant", references[0]))
    return Record(f"r{number}", None, (f"{number}.png",), turns, references, number, details)


def records(*references: Sequence[str] | str) -> list[Record]:
    lists = [[each] if isinstance(each, str) else each for each in references]
    return [record(i, *each) for i, each in enumerate(lists, 1)]


@pytest.fixture
def path(tmp_path: Path) -> AnswerPath:
    """A tokenizer of bytes that normalises to NFC, and answers of at most 20 tokens."""
    checkpoint = byte_checkpoint.write(tmp_path / "base")
    return AnswerPath(open_tokenizer(checkpoint / "tokenizer.json", "a test"), 20)


def problems(found: Sequence[Record], metric: str, path: AnswerPath) -> list[tuple[int, str]]:
    """Number of the record, and what was found."""
    every = check_references(found, metric, path)
    assert every.warnings == ()
    start = f"{metric}: expected references that score their maximum as the answer; found "
    assert all(message.startswith(start) for _, message in every.problems)
    return [(number, message.removeprefix(start)) for number, message in every.problems]


def test_references_that_can_be_answered(path: AnswerPath) -> None:
    sound = records("a frog", ["café", "Café."], " left ", "twenty tokens long..")
    assert problems(sound, "exact_match", path) == []
    assert problems(sound, "exact_match", AnswerPath(None, 1)) == []


def test_what_gets_lost_between_a_model_and_the_metric(path: AnswerPath) -> None:
    forms = ["bar", "café", NFD]
    found = records("frog", NFD, ["toad", "one and twenty tokens"], "a<|box|>b", forms)
    assert problems(found, "exact_match", path) == [
        (
            2,
            f"{NFD!r}, which scores 0 instead of 1: it becomes 'café', the same characters in"
            " another Unicode form, when the tokenizer of the checkpoint has written it",
        ),
        (
            4,
            "'a<|box|>b', which scores 0 instead of 1: it becomes 'ab' when the tokenizer of the"
            " checkpoint has written it",
        ),
        (
            3,
            "'one and twenty tokens', which scores 0 instead of 1: it has 21 tokens, and"
            " generation.max_new_tokens is 20",
        ),
    ], "the other form of record 5 is a reference too"


def test_what_gets_lost_may_be_a_part(path: AnswerPath) -> None:
    assert problems(records("a frog", NFD), "anls", path)[0][1].startswith(
        f"{NFD!r}, which scores 0.6 instead of 1: it becomes 'café', the same characters"
    )


@pytest.mark.parametrize("metric", ["anls", "gleu", "cider"])
def test_long_texts_that_score_less_when_they_are_cut_are_a_warning(
    metric: str, path: AnswerPath
) -> None:
    long = "a very long caption of a cat"
    found = check_references(records("a frog", long, "the dog that"), metric, path)
    assert found.problems == ()
    (warning,) = found.warnings
    assert warning.startswith(
        f"{metric}: 1 references have more tokens than generation.max_new_tokens = 20; answers like"
        " them are cut off and score less, as in record 2 (28 tokens: 0."
        if metric != "cider"
        else "cider: 1 references have more tokens"
    )


def test_what_a_metric_does_not_look_at_may_get_lost(path: AnswerPath) -> None:
    found = records("A. a very long text of an option", "(B) <|box|>")
    assert problems(found, "multiple_choice", path) == []
    assert problems(records("[0.1,0.2,0.5,0.6] is the box"), "box_iou", path) == []


def test_white_space_is_lost_without_a_tokenizer_too(own_metric: Callable[..., str]) -> None:
    name = own_metric("2.0 * (a == r[0])")
    assert problems(records("a", "12% "), name, AnswerPath(None, 9)) == [
        (
            2,
            "'12% ', which scores 0 instead of 2: it starts or ends with white space, which is"
            " removed from answers",
        )
    ]


def test_references_that_are_no_answer_to_themselves(own_metric: Callable[..., str]) -> None:
    name = own_metric("2.0 * (float(a) == float(r[0]))")
    plain = AnswerPath(None, 64)
    assert problems(records("7", "nan"), name, plain) == [(2, "'nan', which scores 0 of 2")]
    assert problems(records("A", ["B", "a frog"]), "multiple_choice", plain) == [
        (2, "'a frog', which scores 0 of 1")
    ]
    alone = problems(records("a cat sat down"), "cider", plain)
    assert alone == [(1, "'a cat sat down', which scores 0 of 10")], "no word of one file is rare"


@pytest.mark.parametrize(
    ("metric", "references"),
    [
        ("cider", ["cat", ["a dog ran off", "the dog runs"], "one more caption"]),
        ("vqa_soft", [["frog"] * 2 + ["toad"] * 3 + ["newt"] * 5, list("abcdefghij")]),
        ("gleu", ["cat", ["a dog ran off", "the dog runs"]]),
        ("gleu_corpus", ["cat", ["a dog ran off", "the dog runs"]]),
        ("pope_f1", ["yes", "No."]),
        ("mme", ["Yes", "No"]),
        ("anls", ["a", ["b", "c"]]),
    ],
)
def test_metrics_whose_maximum_is_not_that_of_a_reference(
    metric: str, references: list[Any], path: AnswerPath
) -> None:
    assert problems(records(*references), metric, path) == []


def test_a_metric_of_references_that_disagree_still_loses_nothing(path: AnswerPath) -> None:
    found = records(["frog"] * 9 + ["café"], [NFD] * 10, ["toad"] * 9 + ["one and twenty tokens"])
    every = problems(found, "vqa_soft", path)
    assert [(number, message.partition(":")[0]) for number, message in every] == [
        (2, f"{NFD!r}, which scores 0 instead of 1"),
        (3, "'one and twenty tokens', which scores 0 instead of 0.3"),
    ]


def test_what_a_judge_compares_is_a_warning(path: AnswerPath) -> None:
    found = check_references(records("a frog", "one and twenty tokens", "a  toad"), "judge", path)
    assert found.problems == ()
    assert found.warnings == (
        "judge: 1 references cannot be answered as they are; the first is in record 2:"
        " 'one and twenty tokens' has 21 tokens, and generation.max_new_tokens is 20",
    )


def test_records_that_the_metric_rejects_are_reported_elsewhere(path: AnswerPath) -> None:
    assert problems(records("[1,2]", "[0.1,0.2,0.5,0.6]"), "box_iou", path) == []
    assert problems(records("none"), "box_iou", path) == []


def test_categories_that_a_metric_does_not_score_are_found_before_a_run(path: AnswerPath) -> None:
    found = [record(i, "Yes", category="color") for i in (1, 2)]
    (problem,) = check_references(found, "mme_cognition", path).problems
    assert problem[0] == 0
    assert "expected categories of cognition; found only color" in problem[1]


@pytest.fixture
def own_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Writes a metric with this expression for a score, and gives its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(score: str, more: str = "") -> str:
        (tmp_path / "own_rule").mkdir(exist_ok=True)
        (tmp_path / "own_rule" / "__init__.py").write_text("")
        (tmp_path / "own_rule" / "metric.py").write_text(
            f"MAXIMUM, HIGHER_IS_BETTER = 2.0, True\n{more}\n"
            "def score(predictions, references):\n"
            f"    return [{score} for a, r in zip(predictions, references)]\n\n"
            "def constant_answer(references):\n    return references[0][0]\n"
        )
        for name in ("own_rule", "own_rule.metric"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()
        return "own_rule.metric"

    return write


def test_a_metric_that_fails_names_the_records(
    own_metric: Callable[[str], str], path: AnswerPath
) -> None:
    name = own_metric("2 * int(a) / int(r[0])")
    assert check_references(records("4", "0", "7", "many"), name, path).problems == (
        (2, f"{name}: fails on its own references as answers: ZeroDivisionError: division by zero"),
        (
            4,
            f"{name}: fails on its own references as answers: ValueError: invalid literal for int()"
            " with base 10: 'many'",
        ),
    )
    name = own_metric("undefined")
    assert check_references(records("4", "0"), name, path).problems == (
        (
            0,
            f"{name}: fails on its own references as answers: NameError: name 'undefined' is not"
            " defined",
        ),
    )
    name = own_metric("float('nan')")
    ((number, message),) = check_references(records("4", "0"), name, path).problems
    assert (number, "expected of score one finite number for each" in message) == (0, True)


def test_a_metric_below_its_maximum_is_a_warning(
    own_metric: Callable[..., str], path: AnswerPath
) -> None:
    """A metric of a user's own may mean it so, as BLEU of short texts does; nothing is wrong."""
    score = "2.0 * (a == r[0]) / (1 + (len(a) < 3))"
    name = own_metric(score)
    found = check_references(records("frog", "ox", "a"), name, path)
    assert found.problems == ()
    assert found.warnings == (
        f"{name}: 2 references of 3 records score less than the maximum 2 as the answer; the first"
        " is 'ox' in record 2 (1). If the metric means it so, set PARTIAL_REFERENCES = True in its"
        " module",
    )
    name = own_metric(score, "PARTIAL_REFERENCES = True")
    assert check_references(records("frog", "ox", "a"), name, path).warnings == ()
