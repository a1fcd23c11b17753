"""Raw replies on disk: what they say, and what is left to ask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cotbal.benchmarks.judge.budget import Tokens
from cotbal.benchmarks.judge.judge import Request
from cotbal.benchmarks.judge.replies import ATTEMPTS, Ratings, Replies, Reply, read_ratings


def ask(key: str = "k", reference_first: bool = True) -> Request:
    return Request(key, {"model": "m"}, "7", reference_first, Tokens(10, 20))


def reply(text: str | None, key: str = "k", **changed: Any) -> Reply:
    model = changed.pop("model", "m")
    used = changed.pop("used", Tokens(100, 10))
    return Reply(key, "7", model, text, used, {"ended": "stop", **changed})


@pytest.mark.parametrize(
    "text",
    [
        "8 7",
        "8 7\nbecause",
        "\n \n8 7",
        "8,7",
        "8, 7",
        "8; 7",
        "8.0 7.0",
        "**8 7**",
        "**8** **7**",
        "[8, 7]",
        "8\t7",
        "(8, 7)",
        " 8  7. ",
        "`8 7`\r\nx",
        "8 7\u2028x",
    ],
)
def test_marks_are_two_numbers_in_the_first_line(text: str) -> None:
    assert read_ratings(text, True) == Ratings(answer=7, reference=8)
    assert read_ratings(text, False) == Ratings(answer=8, reference=7)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "bad",
        "8",
        "8 7 6",
        "8/10 7/10",
        "-8 7",
        "8 -7",
        "8 7 because",
        "Assistant 1: 8\nAssistant 2: 7",
        "11 7",
        "8 10.5",
        "80 70",
        "0 7",
        "1e1 7",
        "87",
        "nan inf",
        "because\n8 7",
        "8" + " " * 100_000 + "x",
    ],
)
def test_anything_else_is_no_marks(text: str) -> None:
    assert read_ratings(text, True) is None


def test_an_answer_may_get_nothing_and_a_reference_may_not() -> None:
    assert read_ratings("8 0", True) == Ratings(answer=0, reference=8)
    assert read_ratings("8 0.5", False) is None


def test_replies_are_found_again(tmp_path: Path) -> None:
    kept = Replies(tmp_path / "deep" / "judgements.jsonl")
    kept.add(reply("nonsense \u2028 ☃"))
    kept.add(reply("8 7"))
    kept.add(reply(None, "other", lost="no reply", used=Tokens(5, 6)))
    kept.add(reply("1 1", "third", model="n"))
    for again in (kept, Replies(kept.path)):
        assert again.ratings(ask()) == Ratings(7, 8)
        assert again.used("m") == Tokens(205, 26)
        assert again.reply_length("m") == 10
        assert again.reply_length("x") is None
    assert (
        len(kept.path.read_text().splitlines()) == 4 + 1
    )  # the line separator of Unicode ends no line of the file


def test_what_is_settled(tmp_path: Path) -> None:
    kept = Replies(tmp_path / "judgements.jsonl")
    for _ in range(ATTEMPTS - 1):
        kept.add(reply("nonsense"))
        kept.add(reply(None, lost="the connection failed"))
    assert not kept.settled(ask())
    kept.add(reply("nonsense"))
    assert kept.settled(ask())
    assert kept.ratings(ask()) is None
    assert not kept.settled(ask("new"))
    kept.add(reply(None, "new", rejected="400"))
    assert kept.settled(ask("new"))


def test_a_reply_that_was_changed_is_asked_for_again(tmp_path: Path) -> None:
    path = tmp_path / "judgements.jsonl"
    kept = Replies(path)
    kept.add(reply("8 7"))
    kept.add(reply("5 5", "later"))
    path.write_bytes(path.read_bytes().replace(b"8 7", b"9 7"))
    again = Replies(path)
    assert not again.settled(ask())
    assert again.ratings(ask("later")) == Ratings(5, 5)


def test_a_line_that_was_cut_off_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "judgements.jsonl"
    kept = Replies(path)
    kept.add(reply("8 7"))
    whole = path.read_bytes()
    path.write_bytes(whole + '{"key": "k", "text": "8 ☃'.encode()[:-1])
    again = Replies(path)
    assert again.ratings(ask()) == Ratings(7, 8)
    again.add(reply("5 5", "later"))
    assert Replies(path).ratings(ask("later")) == Ratings(5, 5)
    assert path.read_bytes().startswith(whole)
