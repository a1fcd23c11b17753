"""`cotbal zeroshot` with the stand-in of `conftest.py`; what it shows, keeps, refuses and
writes."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cotbal.balance.improvement import overall
from cotbal.scores.results import read_results
from helpers.errors import a_line_names, names_all

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def zeroshot(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, python: str
) -> Iterator[Command]:
    """`zeroshot(*arguments)` in this process: exit code, and everything that was printed."""
    from cotbal.cli.app import main

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "none")

    def command(*arguments: object) -> tuple[int, str]:
        options = ("--out", "out", "--python", python, "--workers", "2")
        monkeypatch.setattr(sys, "argv", ["cotbal", "zeroshot", *map(str, arguments), *options])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out + shown.err

    yield command
    for number, handler in handlers.items():
        signal.signal(number, handler)


def run_well(zeroshot: Command, checkpoints: tuple[Path, Path], *options: object) -> str:
    code, shown = zeroshot(*checkpoints, *options)
    assert code == 0, shown
    return shown


def test_eight_columns_and_the_improvement(
    zeroshot: Command, checkpoints: tuple[Path, Path], tmp_path: Path
) -> None:
    shown = run_well(zeroshot, checkpoints)
    for words in (
        "EW: do_pad: false",
        "--as-trained",
        "-m lmms_eval --model cotbal_llava --model_args pretrained=",
        "CoTBal, SQA: 83.33 after",
        "EW, TextVQA: cotbal_textvqa: expected 5000",
        "EW, LLaVA-W: ",
        "3 of 4 answers",
        "EW, SQA: cotbal_scienceqa: 1 of 6 answers",
        "Table: out/results.csv",
    ):
        assert words in shown
    table = read_results(tmp_path / "out" / "results.csv")
    assert table.methods == ("EW", "CoTBal")
    assert [str(column) for column in table.columns][:3] == [
        "TextVQA:accuracy",
        "POPE:f1",
        "MME:perception",
    ]
    improvement = overall(table, "EW")["CoTBal"]
    gains = {
        "TextVQA": 100 * 0.025 / 0.725,
        "MME": -7.5,
        "SQA": 200 / 3,
        "MMBench": 100,
        "SEED-IMG": 100 / 3,
        "MM-Vet": 0,
    }
    assert {name: improvement.tasks[name] for name in gains} == pytest.approx(gains)
    assert improvement.improvement == pytest.approx(sum(improvement.tasks.values()) / 8)


def test_the_command_is_what_runs(
    zeroshot: Command, checkpoints: tuple[Path, Path], tmp_path: Path
) -> None:
    run_well(zeroshot, checkpoints, "--columns", "MME")
    log = (tmp_path / "out" / "EW" / "MME" / "log.txt").read_text()
    assert f"evaluating EW on mme {tmp_path}/out/lmms/plugin" in log


def test_a_dry_run_writes_nothing(
    zeroshot: Command, checkpoints: tuple[Path, Path], tmp_path: Path
) -> None:
    shown = run_well(zeroshot, checkpoints, "--dry-run")
    assert shown.count("-m lmms_eval") == 16
    assert not (tmp_path / "out").exists()


def test_what_is_done_is_kept(
    zeroshot: Command, checkpoints: tuple[Path, Path], tmp_path: Path
) -> None:
    run_well(zeroshot, checkpoints, "--columns", "MME,SQA")
    done = tmp_path / "out" / "EW" / "MME" / "done.json"
    before = done.stat().st_mtime_ns
    shown = run_well(zeroshot, checkpoints, "--columns", "MME,SQA,POPE")
    begun = re.findall(r"^(\w+), (\w+):$", shown, re.MULTILINE)
    assert begun == [("EW", "POPE"), ("CoTBal", "POPE")]
    for model in ("EW", "CoTBal"):
        for column in ("MME", "SQA"):
            assert f"{model}, {column}: " in shown
    assert shown.count("-m lmms_eval") == 2
    assert done.stat().st_mtime_ns == before
    assert len(read_results(tmp_path / "out" / "results.csv").columns) == 3


@pytest.mark.parametrize("code", [0, 1])
def test_a_failure_leaves_the_others(
    zeroshot: Command,
    checkpoints: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    tmp_path: Path,
) -> None:
    """Also one that ends with code 0, as lmms-eval does."""
    monkeypatch.setenv("FAKE_FAULT", "mme")
    monkeypatch.setenv("FAKE_CODE", str(code))
    ended, shown = zeroshot(*checkpoints, "--columns", "MME,SQA")
    assert ended == 2
    assert "2 of 4" in shown
    assert "OutOfFrogs: no frog is left" in shown
    assert "cotbal zeroshot" in shown, "the command that resumes"
    assert not (tmp_path / "out" / "EW" / "MME" / "done.json").exists()
    monkeypatch.delenv("FAKE_FAULT")
    again = run_well(zeroshot, checkpoints, "--columns", "MME,SQA")
    assert again.count("-m lmms_eval") == 2, "the two that failed"


def test_a_retrained_model_is_evaluated_again(
    zeroshot: Command, checkpoints: tuple[Path, Path]
) -> None:
    run_well(zeroshot, checkpoints, "--columns", "MME")
    (checkpoints[0] / "model.safetensors").write_bytes(b"other weights")
    code, shown = zeroshot(*checkpoints, "--columns", "MME")
    assert code == 2
    assert "out/EW/MME" in shown
    assert "checkpoint: was" in shown
    again = run_well(zeroshot, checkpoints, "--columns", "MME", "--restart-changed")
    assert "out/EW/MME.old-1" in again


def test_models_that_were_evaluated_differently_are_named(
    zeroshot: Command, checkpoints: tuple[Path, Path]
) -> None:
    first, second = checkpoints
    zeroshot(first, "--columns", "MME,SQA")
    code, shown = zeroshot(second, "--columns", "MME", "--limit", "8")
    assert code == 0
    assert "MME: CoTBal and EW" in shown
    assert "(limit: 8, None)" in shown
    assert re.search("CoTBal: .*SQA", shown)


def test_what_is_there_can_be_shown_again(
    zeroshot: Command, checkpoints: tuple[Path, Path]
) -> None:
    run_well(zeroshot, checkpoints, "--columns", "MME,SQA")
    code, shown = zeroshot("--json", "--baseline", "CoTBal")
    assert code == 0
    table = json.loads(shown)
    assert table["columns"] == ["MME:perception", "SQA:accuracy"]
    assert table["values"]["EW"] == pytest.approx([2000, 50])
    assert table["improvement"]["EW"]["tasks"]["MME"] == pytest.approx(100 * 150 / 1850)
    code, shown = zeroshot("--baseline", "STL")
    assert "STL" in shown


def test_nothing_to_show(zeroshot: Command) -> None:
    code, shown = zeroshot()
    assert code == 2
    assert "cotbal: out: " in shown


def test_a_judge_is_needed(
    zeroshot: Command,
    checkpoints: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    code, shown = zeroshot(*checkpoints)
    assert code == 2
    assert names_all(shown, "MM-Vet", "LLaVA-W")
    assert "OPENAI_API_KEY" in shown
    assert not (tmp_path / "out" / "EW").exists()
    run_well(zeroshot, checkpoints, "--columns", "MME")


def test_names(zeroshot: Command, checkpoints: tuple[Path, Path], tmp_path: Path) -> None:
    run = tmp_path / "final" / "ew" / "checkpoint"
    run.parent.mkdir(parents=True)
    checkpoints[0].rename(run)
    shown = run_well(zeroshot, (run, checkpoints[1]), "--columns", "MME", "--dry-run")
    assert "EW, MME:" in shown
    assert "CoTBal, MME:" in shown
    for texts in (("a=CoTBal", "a=CoTBal"), ("=CoTBal",), ("a/b=CoTBal",), ("lmms=CoTBal",)):
        code, shown = zeroshot(*texts, "--columns", "MME")
        assert code == 2
        assert "NAME=DIRECTORY" in shown
    code, shown = zeroshot("nowhere")
    assert code == 2
    assert "cotbal: nowhere: " in shown


def test_an_executor_of_this_process_and_a_missing_interpreter(
    zeroshot: Command, checkpoints: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, shown = zeroshot(*checkpoints, "--columns", "MME", "--on", "inline")
    assert code == 2
    assert "--on inline" in shown
    from cotbal.cli.app import main

    monkeypatch.setattr(sys, "argv", ["cotbal", "zeroshot", str(checkpoints[0]), "--out", "out"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2


def test_a_base_can_be_prepared_before_it_is_trained(
    checkpoints: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    from cotbal.benchmarks.zeroshot.checkpoint import plan_preparation
    from cotbal.cli.app import main

    monkeypatch.setattr(
        sys, "argv", ["cotbal", "prepare", "llava", str(checkpoints[0]), str(tmp_path / "base")]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert "do_pad: false, now true" in capsys.readouterr().out
    assert plan_preparation(tmp_path / "base", as_trained=False).changes == ()


def test_import_and_weigh(
    zeroshot: Command,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """From recorded runs to weights, with samples and without."""
    from helpers.fake_lmms import RECORDED

    def cotbal(*arguments: object) -> str:
        from cotbal.cli.app import main

        monkeypatch.setattr(sys, "argv", ["cotbal", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        assert not ended.value.code, shown
        return shown.out

    tasks = ("--task", "ocr=cotbal_textvqa:exact_match", "--task", "science=cotbal_scienceqa")
    runs = [
        f"{run}={RECORDED / model}"
        for run, model in (("mini", "EW"), ("full:ocr", "CoTBal"), ("full:science", "CoTBal"))
    ]
    said = cotbal("import", "lmms-eval", *runs, *tasks, "--out", "scores.json")
    assert a_line_names(said, "scores.json", "3 runs", "2 tasks")
    weights = json.loads(cotbal("weights", "--scores", "scores.json", "--json"))
    assert weights["samples"] == {"ocr": 4, "science": 6}
    assert weights["intervals"]["difficulty"][0] == pytest.approx([0.0, 0.1])
    said = cotbal("import", "lmms-eval", *runs, *tasks, "--out", "scores.csv")
    assert a_line_names(said, ".csv", ".json")
    bare = json.loads(cotbal("weights", "--scores", "scores.csv", "--json"))
    assert bare["intervals"] is None
    kit = RECORDED.parent / "vlmevalkit"
    runs = [
        f"{run}={kit / model}"
        for run, model in (
            ("mini", "LLaVA-mini"),
            ("full:ocr", "LLaVA-EW"),
            ("full:vet", "LLaVA-EW"),
        )
    ]
    chosen = ("--task", "ocr=TextVQA_VAL", "--task", "vet=MMVet_gpt-4-turbo:Overall:acc")
    said = cotbal("import", "vlmevalkit", *runs, *chosen, "--out", "kit.csv")
    assert a_line_names(said, "TextVQA_VAL", "Overall")
    assert (tmp_path / "kit.csv").read_text().splitlines()[:2] == ["run,ocr,vet", "mini,55.02,30.1"]
    assert set(json.loads(cotbal("weights", "--scores", "kit.csv", "--json"))["weights"]) == {
        "ocr",
        "vet",
    }
