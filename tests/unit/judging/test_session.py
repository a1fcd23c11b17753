"""Against a real server on this machine that misbehaves in every way we could think of."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cotbal.benchmarks.judge.budget import Budget, CapReached, Prices, Tokens
from cotbal.benchmarks.judge.endpoint import Access, check_key, check_url
from cotbal.benchmarks.judge.judge import FIELDS, Judge, Request
from cotbal.benchmarks.judge.pairs import Pair
from cotbal.benchmarks.judge.prompts import default_prompt
from cotbal.benchmarks.judge.replies import ATTEMPTS, Replies
from cotbal.benchmarks.judge.session import Session
from cotbal.errors import CotbalError, MissingDependency, RunError
from helpers.errors import raises
from helpers.judge_server import KEY, Action, JudgeServer, breaks_off, fails, hangs, says, sends

Settle = Callable[..., Budget]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with JudgeServer() as judge:
        yield judge


@pytest.fixture
def kept(tmp_path: Path) -> Replies:
    return Replies(tmp_path / "judgements.jsonl")


def asks(count: int, **fields: Any) -> list[Request]:
    judge = Judge("gpt-judge", "", default_prompt(), {**FIELDS, **fields}, False)
    pairs = [
        Pair(str(i), f"What is {i}?", f"cat {i}", "A hat.", "A man.", "conv", "conv", True)
        for i in range(count)
    ]
    return [ask for pair in pairs for ask in judge.requests(pair)]


@pytest.fixture
def settle(server: JudgeServer, kept: Replies) -> Settle:
    """Request so many things, one after the other by default; what was spent."""

    def run(
        count: int,
        concurrency: int = 1,
        cap: float = math.inf,
        requests: list[Request] | None = None,
        **how: Any,
    ) -> Budget:
        access = Access(server.url, KEY, **{"timeout": 20.0, "retries": 3, "pause": 0.01, **how})
        budget = Budget(Prices(1e6, 1e6), cap, kept.used("gpt-judge"))  # a dollar a token
        session = Session(access, kept, budget, concurrency, lambda done, total: None)
        session.settle(requests or asks(count))
        return budget

    return run


def lines(kept: Replies) -> list[dict[str, Any]]:
    return [json.loads(line) for line in kept.path.read_text().split("\n") if line]


def test_what_is_sent_and_what_is_kept(server: JudgeServer, kept: Replies, settle: Settle) -> None:
    budget = settle(2)
    first = server.asked[0]
    assert first["path"] == "/v1/chat/completions"
    assert first["key"] == f"Bearer {KEY}"
    assert {name: first[name] for name in ("model", "temperature", "max_tokens")} == {
        "model": "gpt-judge",
        "temperature": 0.2,
        "max_tokens": 1024,
    }
    assert [message["role"] for message in first["messages"]] == ["system", "user"]
    assert "[Assistant 1]\nA hat." in server.questions[0]
    line = lines(kept)[0]
    assert len(line.pop("sha256")) == 64
    assert line.pop("time") == pytest.approx(time.time(), abs=600)
    assert line == {
        "key": asks(1)[0].key,
        "id": "0",
        "model": "gpt-judge",
        "text": "8 6\nThe second misses the hat.",
        "tokens": {"input": 100, "output": 10},
        "answered_by": "judge-2026",
        "ended": "stop",
        "reference": "first",
    }
    assert budget.spent == Tokens(200, 20)


def test_fields_that_are_null_are_not_sent_and_others_are(
    server: JudgeServer, settle: Settle
) -> None:
    settle(
        1,
        requests=asks(
            1,
            temperature=None,
            max_tokens=None,
            max_completion_tokens=99,
            reasoning={"effort": "low"},
        ),
    )
    assert {"temperature", "max_tokens"}.isdisjoint(server.asked[0])
    assert (server.asked[0]["max_completion_tokens"], server.asked[0]["reasoning"]) == (
        99,
        {"effort": "low"},
    )


@pytest.mark.parametrize(
    ("action", "charged"),
    [
        (fails(429), False),
        (fails(429, Retry_After="0.01"), False),
        (fails(429, Retry_After="Wed, 21 Oct 2037 07:28:00 GMT"), False),
        (fails(500), False),
        (fails(503), False),
        (breaks_off, True),
        (sends('{"choices": [{"mess'), True),
        (sends("{}"), True),
        (sends("[]"), True),
        (sends('{"choices": []}'), True),
        (sends("<html>busy</html>", "text/html"), True),
        (sends("[" * 100_000), True),
        (hangs(20, says("1 1")), True),
    ],
    ids=[
        "429",
        "429-wait",
        "429-date",
        "500",
        "503",
        "breaks-off",
        "half",
        "empty",
        "list",
        "none",
        "html",
        "deep",
        "slow",
    ],
)
def test_an_error_that_passes_is_waited_out(
    server: JudgeServer, kept: Replies, settle: Settle, action: Action, charged: bool
) -> None:
    """Twice, then it answers. A request that may have been worked on counts with its worst."""
    server.queue += [action, action]
    budget = settle(1, timeout=0.3)
    (ask,) = asks(1)
    assert len(server.asked) == 3
    assert kept.ratings(ask) is not None
    assert [bool(line.get("lost")) for line in lines(kept)] == (
        [True, True, False] if charged else [False]
    )
    assert budget.spent.output == 10 + (2 * ask.worst.output if charged else 0)
    assert Replies(kept.path).used("gpt-judge") == budget.spent


def test_the_server_says_how_long_to_wait(server: JudgeServer, settle: Settle) -> None:
    server.queue += [fails(429, Retry_After="0.4")]
    started = time.monotonic()
    settle(1)
    assert time.monotonic() - started > 0.4


def test_an_error_that_stays_stops_and_the_next_command_resumes(
    server: JudgeServer, kept: Replies, settle: Settle
) -> None:
    server.queue += [says("8 6"), *[fails(500, "out of frogs")] * 4]
    with raises(RunError, "no-reply", "4 tries", "500: out of frogs"):
        settle(3)
    assert len(server.asked) == 5
    settle(3)
    assert len(server.asked) == 7
    assert len(lines(kept)) == 3


def test_one_error_stops_all_workers_at_once(server: JudgeServer, settle: Settle) -> None:
    server.queue += [fails(429, Retry_After="60"), hangs(0.2, fails(401))]
    started = time.monotonic()
    with raises(RunError, "access-denied"):
        settle(8, concurrency=2)
    assert time.monotonic() - started < 30
    assert len(server.asked) == 2


def test_nonsense_is_asked_again_then_left_out(
    server: JudgeServer, kept: Replies, settle: Settle
) -> None:
    server.queue += [
        says("I would rather not."),
        says(None),
        says(""),
        says("8 7 6"),
        says("bad"),
        says("9 5"),
    ]
    settle(2)
    first, second = asks(2)
    assert kept.settled(first)
    assert kept.ratings(first) is None
    assert kept.ratings(second) is not None
    assert len(server.asked) == ATTEMPTS + 2
    settle(2)
    assert len(server.asked) == ATTEMPTS + 2


def test_tries_are_counted_over_all_starts(
    server: JudgeServer, kept: Replies, settle: Settle
) -> None:
    server.usual = says("bad")
    server.queue += [says("bad"), says("bad"), fails(401)]
    with raises(RunError, "access-denied"):
        settle(1)
    settle(1)
    assert len(server.asked) == 5
    assert [line["text"] for line in lines(kept)] == ["bad"] * ATTEMPTS


@pytest.mark.parametrize("status", [401, 403, 404])
def test_denied_access_stops_at_once(server: JudgeServer, settle: Settle, status: int) -> None:
    server.usual = fails(status, f"no such thing, you with your {KEY}")
    with raises(RunError, "access-denied", "gpt-judge", status, "***"):
        settle(3)
    assert len(server.asked) == 1


def test_a_rejected_first_request_is_an_error_and_a_later_one_is_left_out(
    server: JudgeServer, kept: Replies, settle: Settle
) -> None:
    server.queue += [fails(400, "unknown field temperature")]
    with raises(RunError, "request-rejected", "400: unknown field temperature", "--field"):
        settle(3)
    server.queue += [says("8 6"), fails(400, f"improper content {KEY}")]
    settle(3)
    assert [kept.ratings(ask) is None for ask in asks(3)] == [False, True, False]
    assert lines(kept)[1]["rejected"] == "400: improper content ***"
    asked = len(server.asked)
    settle(3)
    assert len(server.asked) == asked


def test_nobody_there(kept: Replies, settle: Settle, server: JudgeServer) -> None:
    """A connection that was never made costs nothing."""
    server.url = "http://127.0.0.1:9/v1"
    with raises(RunError, "no-reply", "127.0.0.1:9/v1"):
        settle(1)
    assert not kept.path.exists()


def test_concurrency_is_used_and_bounded(server: JudgeServer, settle: Settle) -> None:
    server.usual = hangs(0.05, says("8 6"))
    settle(12, concurrency=3)
    assert server.most == 3
    assert len(server.asked) == 12


def test_the_cap_stops_before_it_could_be_passed(
    server: JudgeServer, kept: Replies, settle: Settle
) -> None:
    """The server counts more than was expected; what is judged is kept, and a higher cap goes
    on."""
    server.usual = says("8 6", usage={"prompt_tokens": 700, "completion_tokens": 300})
    worst = asks(1)[0].worst
    cap = 3000 + worst.input + worst.output
    with raises(CapReached, "cap-reached", "4000.0000"):
        settle(9, concurrency=2, cap=cap)
    assert len(server.asked) == len(lines(kept)) == 4
    with raises(CapReached, "cap-reached"):
        settle(9, cap=cap)
    assert len(server.asked) == 4
    assert settle(9, cap=1e9).cost == 9000


def test_a_server_that_counts_no_tokens_is_charged_with_the_worst(
    server: JudgeServer, settle: Settle
) -> None:
    server.queue += [
        says("8 6", usage=None),
        says("8 6", usage={"prompt_tokens": -1, "completion_tokens": "x"}),
    ]
    budget, (one, two) = settle(2), asks(2)
    assert budget.spent == one.worst + two.worst


def test_the_same_question_is_asked_once(server: JudgeServer, settle: Settle) -> None:
    settle(3, requests=[*asks(3), *asks(3)])
    assert len(server.asked) == 3


def test_a_reply_may_hold_anything(server: JudgeServer, kept: Replies, settle: Settle) -> None:
    server.queue += [says(f"8 6\n\ud83d \x00 \u2028 {KEY}")]
    settle(1)
    assert lines(kept)[0]["text"] == "8 6\n? \x00 \u2028 ***"


def test_the_key_is_nowhere(
    server: JudgeServer, kept: Replies, settle: Settle, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in a file, not in a message, not in the text of an object, even if the server sends it
    back.
    """
    caplog.set_level(0)
    server.queue += [
        sends(f'{{"error": "{KEY}"}}'),
        says(f"8 {KEY}"),
        says("8 6", model=KEY),
        fails(500, KEY),
    ]
    server.usual = fails(500, KEY)
    with raises(RunError, "no-reply") as caught:
        settle(2)
    texts = [
        kept.path.read_text(),
        str(caught.value),
        repr(caught.value),
        caplog.text,
        repr(Access(server.url, KEY)),
    ]
    assert [KEY in text for text in texts] == [False] * len(texts)
    assert lines(kept)[-1]["answered_by"] == "***"
    assert {request["key"] for request in server.asked} == {f"Bearer {KEY}"}


def test_a_word_in_place_of_a_key_is_left_in_replies(server: JudgeServer, kept: Replies) -> None:
    session = Session(Access(server.url, "6"), kept, Budget(Prices()), 1, lambda *_: None)
    session.settle(asks(1))
    assert kept.ratings(asks(1)[0]) is not None


def test_without_the_client_it_says_what_to_install(
    server: JudgeServer, settle: Settle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with raises(MissingDependency, "missing-dependency", "cotbal[judge]"):
        settle(1)
    assert server.asked == []


def test_addresses() -> None:
    assert check_url("https://host:8000/v1/") == "https://host:8000/v1"
    for wrong in ("host/v1", "ftp://host", "https://", "http://[", "/v1"):
        with raises(CotbalError, "invalid-option", "--base-url", repr(wrong)):
            check_url(wrong)
    for secret in ("https://me:hush@host/v1", "https://hush@host", "https://host/v1?key=hush"):
        with raises(CotbalError, "invalid-option", "--base-url") as caught:
            check_url(secret)
        assert "hush" not in str(caught.value)


def test_keys() -> None:
    assert check_key(" sk-1\n", "X") == "sk-1"
    for missing in (None, "", " \n"):
        with raises(CotbalError, "invalid-api-key", "MY_KEY"):
            check_key(missing, "MY_KEY")
    for wrong in ("sk hush", "hushé", "hush\x00hush"):
        with raises(CotbalError, "invalid-api-key", "MY_KEY") as caught:
            check_key(wrong, "MY_KEY")
        assert "hush" not in str(caught.value)
