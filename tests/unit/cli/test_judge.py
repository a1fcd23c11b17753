"""`cotbal judge` as a user meets it: on a file of answers, and in the middle of a job."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cotbal.errors import CotbalError, RunError
from cotbal.scores.matrix import read_measured
from helpers.commands import Command
from helpers.errors import a_line_names
from helpers.judge_server import KEY, JudgeServer, breaks_off, fails, hangs, marks, says
from helpers.pipeline_fakes import EXECUTOR, write_mixture
from helpers.run_directory_page import differences, example

ON = ("--on", EXECUTOR)
CHEAP = ("--price-in", 1, "--price-out", 2, "--max-usd", 1)
BY_HATS = marks(lambda answer: 8 if "hat" in answer else 2)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[JudgeServer]:
    with JudgeServer(usual=BY_HATS) as judge:
        monkeypatch.setenv("OPENAI_BASE_URL", judge.url)
        yield judge


def answers(path: Path, count: int = 6, **details: str) -> Path:
    """Answers to questions of three categories in turn; every other one is right."""
    rows = [
        {
            "id": f"q{i}",
            "images": [f"{i // 2}.png"],
            "question": f"What is on head {i}?",
            "references": ["A hat."],
            "answer": "A cat." if i % 2 else "A hat, I think.",
            "details": {
                "category": ("conv", "detail", "complex")[i % 3],
                "context": "A man with a hat.",
                **details,
            },
        }
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def written(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def test_a_file_of_answers(cotbal: Command, server: JudgeServer, tmp_path: Path) -> None:
    path = answers(tmp_path / "a.jsonl")
    ended = cotbal("judge", path, "--model", "gpt-judge", *CHEAP)
    assert ended.code == 0, ended.err
    assert re.search(r"^6 requests .* 0 ", ended.out, re.MULTILINE)
    lines = [line.split() for line in ended.out.splitlines()]
    assert ["a.jsonl", "conv", "2", "0", "5.00", "8.00", "62.5"] in lines
    assert ["a.jsonl", "all", "6", "0", "5.00", "8.00", "62.5"] in lines
    content = json.loads((tmp_path / "a.jsonl.judge/scores.json").read_text())
    assert (content["n"], content["clusters"]) == (6, [0, 0, 1, 1, 2, 2])
    assert (
        read_measured(content["metrics"]["judge"]).score
        == content["metrics"]["judge"]["score"]
        == 62.5
    )
    replies = (tmp_path / "a.jsonl.judge/judgements.jsonl").read_text().splitlines()
    assert len(replies) == 6
    shown = example("judge/judgements.jsonl")
    assert [line for reply in replies for line in differences(shown, json.loads(reply))] == []


def test_once_judged_nothing_is_asked_nor_needed(
    cotbal: Command, server: JudgeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = answers(tmp_path / "a.jsonl")
    first = json.loads(cotbal("judge", path, "--model", "gpt-judge", "--json", *CHEAP).out)
    before = written(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY")
    again = cotbal("judge", path, "--json")
    assert json.loads(again.out) == {**first, "usd": None}
    assert first["usd"] == pytest.approx(6 * (100 + 2 * 10) / 1e6)
    assert len(server.asked) == 6
    assert written(tmp_path) == before


def test_what_is_new_is_asked_alone(cotbal: Command, server: JudgeServer, tmp_path: Path) -> None:
    path = answers(tmp_path / "a.jsonl", 4)
    assert cotbal("judge", path, "--model", "gpt-judge", "--no-cap").code == 0
    answers(path, 6)
    ended = cotbal("judge", path, "--no-cap")
    assert re.search(r"^2 requests .* 4 ", ended.out, re.MULTILINE)
    assert len(server.asked) == 6
    assert len(set(server.questions)) == 6


def test_dry_run_shows_the_cost_and_does_nothing(
    cotbal: Command, server: JudgeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    path = answers(tmp_path / "a.jsonl")
    before = written(tmp_path)
    shown = cotbal(
        "judge", path, "--model", "m", "--dry-run", "--price-in", 10, "--price-out", 30, "--json"
    )
    content = json.loads(shown.out)
    assert content["requests"] == 6
    assert content["expected"]["output"] == 6 * 256
    assert content["most"]["output"] == 6 * 1024
    sent = sum(len(text.encode()) for text in written(tmp_path).values())
    assert sent < content["expected"]["input"] < content["most"]["input"] / 2
    cost = (10 * content["expected"]["input"] + 30 * content["expected"]["output"]) / 1e6
    assert content["expected"]["usd"] == pytest.approx(cost, rel=1e-3)
    text = cotbal("judge", path, "--model", "m", "--dry-run").out
    assert "tokens read" in text
    assert "$" not in text
    assert (server.asked, written(tmp_path)) == ([], before)


def test_both_orders(cotbal: Command, server: JudgeServer, tmp_path: Path) -> None:
    """This judge gives whoever comes first two marks more."""
    server.usual = says("9 7")
    path = answers(tmp_path / "a.jsonl")
    assert json.loads(cotbal("judge", path, "--model", "m", "--no-cap", "--json").out)["sets"][
        "a.jsonl"
    ][-1]["score"] == pytest.approx(700 / 9)
    refused = cotbal("judge", path, "--swap", "--no-cap")
    refused.expect(RunError, None, "swap: was False, is True", "--change-judge")
    content = json.loads(
        cotbal("judge", path, "--swap", "--change-judge", "--no-cap", "--json").out
    )["sets"]["a.jsonl"]
    assert content[-1]["score"] == 100
    assert len(server.asked) == 12


def test_another_judge_leaves_the_replies_of_the_first(
    cotbal: Command, server: JudgeServer, tmp_path: Path
) -> None:
    path = answers(tmp_path / "a.jsonl")
    for model, change in (("one", ()), ("two", ("--change-judge",)), ("one", ("--change-judge",))):
        assert cotbal("judge", path, "--model", model, "--no-cap", *change).code == 0
        assert (
            json.loads((tmp_path / "a.jsonl.judge/scores.json").read_text())["metrics"]["judge"][
                "judge"
            ]
            == model
        )
    assert len(server.asked) == 12


def test_scores_of_the_judge_before_go_before_another_is_asked(
    cotbal: Command, server: JudgeServer, tmp_path: Path
) -> None:
    """Otherwise marks of two judges could be compared after an error in between."""
    path = answers(tmp_path / "a.jsonl")
    assert cotbal("judge", path, "--model", "one", "--no-cap").code == 0
    server.usual = fails(401)
    assert cotbal("judge", path, "--model", "two", "--no-cap", "--change-judge").code == 2
    assert json.loads((tmp_path / "a.jsonl.judge/scores.json").read_text())["metrics"] == {}
    assert cotbal("judge", path, "--model", "one", "--change-judge").code == 0
    assert "judge" in json.loads((tmp_path / "a.jsonl.judge/scores.json").read_text())["metrics"]


def test_the_prompt_of_the_user_is_kept(
    cotbal: Command, server: JudgeServer, tmp_path: Path
) -> None:
    prompt = tmp_path / "prompt.yaml"
    prompt.write_text(
        'user: "Rate: {question} {first} / {second} {rule}"\nrules: {default: In two numbers.}\n'
    )
    path = answers(tmp_path / "a.jsonl", 1)
    server.usual = says("8 4")
    assert cotbal("judge", path, "--model", "m", "--prompt", prompt, "--no-cap").code == 0
    assert server.questions == ["Rate: What is on head 0? A hat. / A hat, I think. In two numbers."]
    prompt.unlink()
    assert cotbal("judge", path).code == 0


@pytest.mark.parametrize(
    ("options", "code", "name"),
    [
        ((), None, "COTBAL_JUDGE_MODEL"),
        (("--model", "m"), "missing-option", "--max-usd"),
        (("--model", "m", "--no-cap", "--max-usd", 1), "conflicting-options", "--no-cap"),
        (("--model", "m", "--max-usd", 1), "missing-option", "--price-in"),
        (("--model", "m", "--price-in", 1), "missing-option", "--price-out"),
        (("--model", "m", "--price-out", 1), "missing-option", "--price-in"),
        (("--model", "m", *CHEAP[:4], "--max-usd", 0.0001), "over-budget", "--max-usd 0.0001"),
        (("--model", "m", "--no-cap", "--key-env", "MINE"), None, "MINE"),
        (("--model", "m", "--no-cap", "--base-url", "x"), None, "--base-url"),
        (("--model", "m", "--no-cap", "--field", "x"), "invalid-option", "'x'"),
        (("--model", "m", "--no-cap", "--field", "n=2"), "invalid-option", "--field: n"),
        (("--model", "m", "--no-cap", "--field", "max_tokens=null"), None, "max_tokens"),
    ],
)
def test_what_is_checked_before_anything_is_spent(
    cotbal: Command,
    server: JudgeServer,
    tmp_path: Path,
    options: tuple[Any, ...],
    code: str | None,
    name: str,
) -> None:
    path = answers(tmp_path / "a.jsonl")
    ended = cotbal("judge", path, *options)
    ended.expect(CotbalError, code, name)
    assert len(ended.err.strip().splitlines()) == 1
    assert server.asked == []
    assert not (tmp_path / "a.jsonl.judge").exists()


def test_a_free_endpoint_may_have_a_cap(
    cotbal: Command, server: JudgeServer, tmp_path: Path
) -> None:
    path, free = answers(tmp_path / "a.jsonl"), ("--price-in", 0, "--price-out", 0)
    ended = cotbal("judge", path, "--model", "m", *free, "--max-usd", 1, "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["usd"] is None
    assert len(server.asked) == 6


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ('{"question": "", "references": ["a"], "answer": "b"}\nnonsense\n', 2),
        ('{"question": ""}\n', 1),
    ],
)
def test_what_is_no_file_of_answers(cotbal: Command, tmp_path: Path, text: str, line: int) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    ended = cotbal("judge", tmp_path / "a.jsonl", "--model", "m", "--no-cap")
    ended.expect(CotbalError, None, f"a.jsonl, line {line}")


def test_a_judge_who_sees_nothing_is_remarked_on(
    cotbal: Command, server: JudgeServer, tmp_path: Path
) -> None:
    path = answers(tmp_path / "a.jsonl", context="")
    shown = cotbal("judge", path, "--model", "m", "--dry-run").out
    assert a_line_names(shown, "warning", "6 of 6", "`context`")
    described = answers(tmp_path / "b.jsonl")
    shown = cotbal("judge", described, "--model", "m", "--dry-run").out
    assert not a_line_names(shown, "`context`")


def test_what_was_left_out_is_counted(cotbal: Command, server: JudgeServer, tmp_path: Path) -> None:
    server.queue += [says("no")] * 4
    ended = cotbal(
        "judge", answers(tmp_path / "a.jsonl"), "--model", "m", "--no-cap", "--concurrency", 1
    )
    assert ended.code == 0
    assert re.search(r"^warning  1 answer ", ended.out, re.MULTILINE)
    entry = json.loads((tmp_path / "a.jsonl.judge/scores.json").read_text())["metrics"]["judge"]
    assert entry["left_out"] == ["q0"]
    assert entry["weights"] == [0, 8, 8, 8, 8, 8]
    assert entry["score"] == 100 * (2 + 8 + 2 + 8 + 2) / 40


def process(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cotbal", *map(str, arguments)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.extended)]
)
def test_killed_in_the_middle_it_resumes_and_asks_nothing_twice(
    server: JudgeServer, tmp_path: Path, number: signal.Signals
) -> None:
    """All but the one request that was under way."""
    path = answers(tmp_path / "a.jsonl")
    server.queue += [BY_HATS, BY_HATS, BY_HATS, hangs(60, says("1 1"))]
    options = ("--model", "m", "--no-cap", "--concurrency", 1)
    first = process("judge", path, *options)
    server.wait_for(4)
    first.send_signal(number)
    out, err = first.communicate(timeout=60)
    assert first.returncode == (-9 if number == signal.SIGKILL else 130), out + err
    second = process("judge", path, *options)
    out, err = second.communicate(timeout=60)
    assert second.returncode == 0, out + err
    assert re.search(r"^3 requests .* 3 ", out, re.MULTILINE)
    assert len(server.asked) == 7
    assert server.questions[3] == server.questions[4]
    assert len(set(server.questions)) == 6
    assert "62.5" in out


def test_the_key_is_in_no_file_and_in_nothing_that_is_shown(
    server: JudgeServer, tmp_path: Path
) -> None:
    """A server that sends the key back whenever it can, and a client that logs all it may."""
    path = answers(tmp_path / "a.jsonl")
    server.queue += [
        says(f"8 8\n{KEY}", model=KEY),
        fails(500, KEY),
        says(KEY),
        breaks_off,
        fails(400, KEY),
    ]
    server.usual = fails(401, f"Incorrect key {KEY}")
    ended = process(
        "judge", path, "--model", "m", "--no-cap", "--concurrency", 1, OPENAI_LOG="debug"
    )
    out, err = ended.communicate(timeout=60)
    assert ended.returncode == 2
    assert "access denied (401: Incorrect key ***)" in err
    assert server.asked[0]["key"] == f"Bearer {KEY}"
    texts = {**written(tmp_path), "out": out, "err": err}
    assert "8 8\\n***" in texts["a.jsonl.judge/judgements.jsonl"]
    assert [name for name, text in texts.items() if KEY in text] == []


def test_in_the_middle_of_a_job(cotbal: Command, server: JudgeServer, tmp_path: Path) -> None:
    """`balance` stops after the probes, `judge` judges them, and the same `balance` continues to
    weights.
    """
    recipe = write_mixture(tmp_path / "mixture", unbalanced=False)
    recipe.write_text(recipe.read_text().replace("  ocr:\n", "  ocr:\n    metric: judge\n"))
    server.usual = marks(lambda answer: 1 if "no idea" in answer else 8)
    stopped = cotbal("balance", recipe, *ON)
    names = ("mini", "full:ocr", "full:vqa", "full:count", "mini, seed 2")
    stopped.expect(RunError, None, "`cotbal judge runs/small`", *names)
    assert cotbal("report", "runs/small").code == 0
    done = cotbal("judge", "runs/small", "--model", "m", "--no-cap", "--json")
    assert done.code == 0, done.err
    sets = json.loads(done.out)["sets"]
    assert list(sets) == [
        *(f"probes/{r}, ocr, validation" for r in ("mini", "full-ocr", "full-vqa", "full-count")),
        *(f"seed-{seed}/probes/mini, ocr, validation" for seed in (1, 2)),
    ]
    balanced = cotbal("balance", recipe, "--json", *ON)
    assert balanced.code == 0, balanced.err
    assert set(json.loads(balanced.out)["weights"]) == {"ocr", "vqa", "count"}
    root = tmp_path / "runs/small"
    rows = dict(line.split(",")[:2] for line in (root / "scores.csv").read_text().splitlines())
    assert float(rows["full:ocr"]) == pytest.approx(
        sets["probes/full-ocr, ocr, validation"][0]["score"]
    )
    content = json.loads((root / "probes/full-ocr/scores/ocr.validation.json").read_text())[
        "metrics"
    ]["judge"]
    assert read_measured(content).linear.mean() == pytest.approx(content["score"])
    assert json.loads((root / "balance.json").read_text())["intervals"] is not None
    # An answer that several probes gave is judged once.
    asked = len(server.asked)
    assert asked == len(set(server.questions)) < 4 * 80


def test_final_models_wait_for_the_judge_too(
    cotbal: Command, server: JudgeServer, tmp_path: Path
) -> None:
    recipe = write_mixture(tmp_path / "mixture", unbalanced=False)
    recipe.write_text(
        recipe.read_text().replace("  ocr:\n", "  ocr:\n    test_metrics: [exact_match, judge]\n")
    )
    server.usual = marks(lambda answer: 1 if "no idea" in answer else 8)
    options = (recipe, "--methods", "ew,cotbal", *ON)
    stopped = cotbal("compare", *options)
    stopped.expect(RunError, None, "(ew)")
    assert cotbal("judge", "runs/small", "--model", "m", "--no-cap").code == 0
    stopped = cotbal("compare", *options)
    stopped.expect(RunError, None, "(cotbal)")
    assert cotbal("judge", "runs/small", "--no-cap").code == 0
    compared = cotbal("compare", *options)
    assert compared.code == 0, compared.err
    results = (tmp_path / "runs/small/comparison/results.csv").read_text().splitlines()
    column = results[0].split(",").index("ocr:test.judge")
    scores = np.array([float(line.split(",")[column]) for line in results[1:]])
    assert len(scores) == 2
    assert np.all((scores > 10) & (scores <= 100))
    assert cotbal("train", recipe, *ON).code == 0


def test_a_directory_without_anything_to_judge(cotbal: Command, tmp_path: Path) -> None:
    recipe = write_mixture(tmp_path / "mixture", unbalanced=False)
    missing = cotbal("judge", "runs/small", "--model", "m", "--no-cap")
    missing.expect(CotbalError, None, "plan.json")
    assert cotbal("balance", recipe, *ON).code == 0
    ended = cotbal("judge", "runs/small", "--model", "m", "--no-cap")
    ended.expect(CotbalError, None, "judge")
