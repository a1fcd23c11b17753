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
    lists = [[texts] if isinstance(texts, str) else texts for texts in references]
    return [record(i, *texts) for i, texts in enumerate(lists, 1)]


@pytest.fixture
def path(tmp_path: Path) -> AnswerPath:
    """A tokenizer of bytes that normalises to NFC, and answers of at most 20 tokens."""
    checkpoint = byte_checkpoint.write(tmp_path / "base")
    return AnswerPath(open_tokenizer(checkpoint / "tokenizer.json", "a test"), 20)


def check(records: Sequence[Record], metric: str, path: AnswerPath, *expected: Any) -> None:
    """Every expected error is the number of a record and what its message names."""
    every = check_references(records, metric, path)
    assert every.warnings == ()
    assert {code for _, _, code in every.problems} <= {"unreachable-reference"}
    for (number, message, _), (wanted, *names) in zip(every.problems, expected, strict=True):
        assert number == wanted
        assert all(name in message for name in (metric, *names)), message


def test_references_that_can_be_answered(path: AnswerPath) -> None:
    sound = records("a frog", ["café", "Café."], " left ", "twenty tokens long..")
    check(sound, "exact_match", path)
    check(sound, "exact_match", AnswerPath(None, 1))


def test_what_gets_lost_between_a_model_and_the_metric(path: AnswerPath) -> None:
    forms = ["bar", "café", NFD]
    rows = records("frog", NFD, ["toad", "one and twenty tokens"], "a<|box|>b", forms)
    check(  # the other form of record 5 is a reference too
        rows,
        "exact_match",
        path,
        (2, repr(NFD), "scores 0 instead of 1", "'café'", "Unicode"),
        (4, "'a<|box|>b'", "scores 0 instead of 1", "'ab'", "tokenizer"),
        (3, "'one and twenty tokens'", "scores 0 instead of 1", "max_new_tokens is 20"),
    )


def test_what_gets_lost_may_be_a_part(path: AnswerPath) -> None:
    check(records("a frog", NFD), "anls", path, (2, repr(NFD), "scores 0.6 instead of 1"))


@pytest.mark.parametrize("metric", ["anls", "gleu", "cider"])
def test_long_texts_that_score_less_when_they_are_cut_are_a_warning(
    metric: str, path: AnswerPath
) -> None:
    long = "a very long caption of a cat"
    report = check_references(records("a frog", long, "the dog that"), metric, path)
    assert report.problems == ()
    (warning,) = report.warnings
    for name in (f"{metric}: 1 references", "max_new_tokens = 20", "record 2 (28 tokens: "):
        assert name in warning


def test_what_a_metric_does_not_look_at_may_get_lost(path: AnswerPath) -> None:
    rows = records("A. a very long text of an option", "(B) <|box|>")
    check(rows, "multiple_choice", path)
    check(records("[0.1,0.2,0.5,0.6] is the box"), "box_iou", path)


def test_white_space_is_lost_without_a_tokenizer_too(own_metric: Callable[..., str]) -> None:
    name = own_metric("2.0 * (a == r[0])")
    expected = (2, "'12% '", "scores 0 instead of 2", "white space")
    check(records("a", "12% "), name, AnswerPath(None, 9), expected)


def test_references_that_are_no_answer_to_themselves(own_metric: Callable[..., str]) -> None:
    name = own_metric("2.0 * (float(a) == float(r[0]))")
    plain = AnswerPath(None, 64)
    check(records("7", "nan"), name, plain, (2, "'nan'", "scores 0 of 2"))
    expected = (2, "'a frog'", "scores 0 of 1")
    check(records("A", ["B", "a frog"]), "multiple_choice", plain, expected)
    alone = (1, "'a cat sat down'", "scores 0 of 10")  # no word of one file is rare
    check(records("a cat sat down"), "cider", plain, alone)


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
    check(records(*references), metric, path)


def test_a_metric_of_references_that_disagree_still_loses_nothing(path: AnswerPath) -> None:
    rows = records(["frog"] * 9 + ["café"], [NFD] * 10, ["toad"] * 9 + ["one and twenty tokens"])
    check(
        rows,
        "vqa_soft",
        path,
        (2, repr(NFD), "scores 0 instead of 1"),
        (3, "'one and twenty tokens'", "scores 0 instead of 0.3"),
    )


def test_what_a_judge_compares_is_a_warning(path: AnswerPath) -> None:
    report = check_references(records("a frog", "one and twenty tokens", "a  toad"), "judge", path)
    assert report.problems == ()
    (warning,) = report.warnings
    for named in ("judge: 1 references", "record 2: 'one and twenty tokens' has 21 tokens"):
        assert named in warning


def test_records_that_the_metric_rejects_are_reported_elsewhere(path: AnswerPath) -> None:
    check(records("[1,2]", "[0.1,0.2,0.5,0.6]"), "box_iou", path)
    check(records("none"), "box_iou", path)


def test_categories_that_a_metric_does_not_score_are_found_before_a_run(path: AnswerPath) -> None:
    rows = [record(i, "Yes", category="color") for i in (1, 2)]
    ((number, message, _),) = check_references(rows, "mme_cognition", path).problems
    assert number == 0
    assert "color" in message


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
    first, second = check_references(records("4", "0", "7", "many"), name, path).problems
    assert (first[0], first[2]) == (2, "metric-failed")
    assert "ZeroDivisionError: division by zero" in first[1]
    assert (second[0], second[2]) == (4, "metric-failed")
    assert "ValueError: invalid literal" in second[1]
    name = own_metric("undefined")
    ((number, message, code),) = check_references(records("4", "0"), name, path).problems
    assert (number, code) == (0, "metric-failed")
    assert "NameError" in message
    name = own_metric("float('nan')")
    ((number, message, _),) = check_references(records("4", "0"), name, path).problems
    assert number == 0
    assert name in message


def test_a_metric_below_its_maximum_is_a_warning(
    own_metric: Callable[..., str], path: AnswerPath
) -> None:
    """A metric of a user's own may do so on purpose, as BLEU of short texts does."""
    score = "2.0 * (a == r[0]) / (1 + (len(a) < 3))"
    name = own_metric(score)
    report = check_references(records("frog", "ox", "a"), name, path)
    assert report.problems == ()
    (warning,) = report.warnings
    for named in (f"{name}: 2 references of 3", "'ox' in record 2 (1)", "PARTIAL_REFERENCES"):
        assert named in warning
    name = own_metric(score, "PARTIAL_REFERENCES = True")
    assert check_references(records("frog", "ox", "a"), name, path).warnings == ()
