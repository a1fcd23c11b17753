"""Score files in the layout and with the columns that VLMEvalKit writes; the numbers are made
up."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cotbal.errors import ScoresError
from cotbal.scores.harnesses.vlmevalkit import read

RECORDED = Path(__file__).parent / "recorded" / "vlmevalkit"
RUN = "T20261124_G1a2b3c4d"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(RECORDED / "LLaVA-EW", tmp_path / "LLaVA-EW")
    return tmp_path / "LLaVA-EW"


def fault(directory: Path) -> str:
    with pytest.raises(ScoresError) as caught:
        read(directory)
    return str(caught.value)


@pytest.mark.parametrize(
    ("dataset", "metric", "value"),
    [
        ("MMBench_DEV_EN", "dev:Overall", 0.6701),
        ("SEEDBench_IMG", "Overall", 0.6602),
        ("TextVQA_VAL", "Overall", 58.21),
        ("MME", "perception", 1489.5),
        ("POPE", "Overall:Overall", 86.1),
        ("MMVet_gpt-4-turbo", "Overall:acc", 32.9),
        ("LLaVABench", "overall:Relative Score (main)", 63.4),
        ("OCRBench", "Final Score", 312.0),
    ],
)
def test_numbers_are_kept_as_they_stand(dataset: str, metric: str, value: float) -> None:
    found = read(RECORDED / "LLaVA-EW").benchmarks
    assert len(found) == 8
    assert found[dataset].metrics[metric] == value


def test_the_folder_of_one_run_can_be_given() -> None:
    assert (
        read(RECORDED / "LLaVA-EW" / RUN).benchmarks.keys()
        == read(RECORDED / "LLaVA-EW").benchmarks.keys()
    )


def test_two_runs_with_different_numbers_are_refused(copy: Path) -> None:
    path = copy / RUN / "LLaVA-EW_OCRBench_score.json"
    path.write_text(path.read_text().replace("312", "313"))
    message = fault(copy)
    assert "OCRBench was scored twice, with different numbers" in message
    assert str(path) in message


def test_a_file_that_is_not_named_after_its_folder(copy: Path) -> None:
    (copy / "other_MME_score.csv").write_text("perception\n1\n")
    assert "expected a file named LLaVA-EW_<dataset>" in fault(copy)


def test_nothing_there(tmp_path: Path) -> None:
    assert "expected score files of VLMEvalKit" in fault(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("LLaVA-EW_MME_score.csv", "", "a table of scores"),
        ("LLaVA-EW_MME_score.csv", "perception\n", "a table of scores"),
        (
            "LLaVA-EW_MME_score.csv",
            "split,text\nnone,much\n",
            "expected numbers; found split, text",
        ),
        ("LLaVA-EW_MME_score.csv", "perception\nnan\n", "expected numbers"),
        (
            "LLaVA-EW_OCRBench_score.json",
            f'{{"all": 1{"0" * 400}}}',
            "expected numbers; found all without any",
        ),
        ("LLaVA-EW_OCRBench_score.json", "[1, 2]", "a table of scores"),
        ("LLaVA-EW_OCRBench_score.json", "{", "expected a score file of VLMEvalKit"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str, text: str, why: str) -> None:
    folder = tmp_path / "LLaVA-EW"
    folder.mkdir()
    (folder / name).write_text(text)
    message = fault(folder)
    assert why in message
    assert name in message
