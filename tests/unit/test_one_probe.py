"""The comparison of a probe with separate scripts: they do the same, and what differs is found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from helpers import shell
from helpers.scripts import BENCHMARKS, loaded
from helpers.tiny_vlm import mixture

pytestmark = pytest.mark.extended

one_probe = loaded(BENCHMARKS / "one_probe.py")
BALANCE = ["mini", "mini seed 1", "full:color", "full:paint"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mixture(tmp_path_factory.mktemp("mixture") / "data", {"color": 1, "paint": 2})


@pytest.fixture(autouse=True)
def _processes_with_imports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Processes are forked, and take 100 seconds."""
    monkeypatch.setenv("COTBAL_CACHE", str(tmp_path / "unused"))  # restored after the test

    def run(argv: Sequence[str]) -> float:
        shell.script(*argv)
        return 100.0

    monkeypatch.setattr(one_probe, "seconds", run)


def test_scripts_do_what_a_probe_does(recipe: Path, tmp_path: Path) -> None:
    spent = one_probe.measured(recipe, ["mini", "full:paint"], tmp_path)
    assert spent.scripts == {"mini": 200.0, "full:paint": 200.0}
    assert list(spent.probes) == ["mini", "full:paint"]
    assert spent.before == pytest.approx(100.0 - sum(spent.probes.values()))
    answers = json.loads((tmp_path / "scripts-0" / "answers.json").read_text())
    assert {task: len(texts) for task, texts in answers.items()} == {"color": 8, "paint": 8}


def test_another_order_of_the_records_is_found(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = one_probe.training_rows
    monkeypatch.setattr(one_probe, "training_rows", lambda *given: plain(*given)[::-1])
    with pytest.raises(AssertionError, match="losses"):
        one_probe.measured(recipe, ["mini"], tmp_path)


def test_other_answers_are_found_unless_they_are_ties(
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plain = one_probe.read_sealed_rows

    def changed(path: Path) -> list[dict[str, str]]:
        first, *others = plain(path)
        return [{**first, "answer": first["answer"] + "!"}, *others]

    monkeypatch.setattr(one_probe, "read_sealed_rows", changed)
    with pytest.raises(AssertionError, match="answers differ beyond rounding"):
        one_probe.measured(recipe, ["mini"], tmp_path / "strict")
    monkeypatch.setattr(one_probe, "TIE", 2.0)  # of logits between -1 and 1 times the largest
    one_probe.measured(recipe, ["mini"], tmp_path / "lax")
    assert "2 answers differ" in capsys.readouterr().out


def test_probes_that_are_not_measured_count_as_the_others_of_their_kind() -> None:
    ours, theirs = {"mini": 10.0, "full:color": 20.0}, {"mini": 40.0, "full:color": 90.0}
    spent = one_probe.Round(5.0, ours, theirs)
    assert spent.alone == pytest.approx(15 / 40)
    assert spent.whole(BALANCE) == pytest.approx((5 + 2 * 10 + 2 * 20) / (2 * 40 + 2 * 90))
    assert one_probe.Round(5.0, {"mini": 10.0}, {"mini": 40.0}).whole(BALANCE) is None


def test_the_labels_of_all_probes(recipe: Path) -> None:
    labels, every = one_probe.labels_of(recipe, ["all"])
    assert labels == every == ["mini", "full:color", "full:paint"]
