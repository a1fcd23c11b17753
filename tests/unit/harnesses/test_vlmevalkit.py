"""Score files in the layout and with the columns that VLMEvalKit writes; the numbers are made
up."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cotbal.errors import ScoresError
from cotbal.scores.harnesses.vlmevalkit import read
from helpers.errors import raises

RECORDED = Path(__file__).parent / "recorded" / "vlmevalkit"
RUN = "T20261124_G1a2b3c4d"
POPE = """"split","Overall","acc","precision","recall"
"Overall","86.39472398632145","87.62222222222222","95.9056399132321","78.60000000000001"
"random","87.52783964365256","88.8","98.74371859296483","78.60000000000001"
"adversarial","85.31114327062228","86.46666666666667","93.2753164556962","78.60000000000001"
"popular","86.37362637362638","87.6","95.85365853658536","78.60000000000001"
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(RECORDED / "LLaVA-EW", tmp_path / "LLaVA-EW")
    return tmp_path / "LLaVA-EW"


def rejected(directory: Path, *names: object) -> None:
    with raises(ScoresError, "invalid-scores", *names):
        read(directory)


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
    evaluation = read(RECORDED / "LLaVA-EW").benchmarks
    assert len(evaluation) == 8
    assert evaluation[dataset].metrics[metric] == value


def test_the_folder_of_one_run_can_be_given() -> None:
    assert (
        read(RECORDED / "LLaVA-EW" / RUN).benchmarks.keys()
        == read(RECORDED / "LLaVA-EW").benchmarks.keys()
    )


def test_two_runs_with_different_numbers_are_refused(copy: Path) -> None:
    path = copy / RUN / "LLaVA-EW_OCRBench_score.json"
    path.write_text(path.read_text().replace("312", "313"))
    rejected(copy, "OCRBench", path)


def test_a_file_that_is_not_named_after_its_folder(copy: Path) -> None:
    (copy / "other_MME_score.csv").write_text("perception\n1\n")
    rejected(copy, "LLaVA-EW_<dataset>")


def test_nothing_there(tmp_path: Path) -> None:
    rejected(tmp_path, tmp_path, "VLMEvalKit")


def metrics_of(folder: Path, text: str, name: str = "A_Some_score.csv") -> dict[str, float]:
    (folder / "A").mkdir()
    (folder / "A" / name).write_text(text)
    (benchmark,) = read(folder / "A").benchmarks.values()
    return dict(benchmark.metrics)


@pytest.mark.parametrize("label", ["Subject", "Setting", "split", "Task&Skill", "category", ""])
def test_the_first_column_of_text_names_the_rows(tmp_path: Path, label: str) -> None:
    text = (
        f'"{label}","tot","acc"\n"Overall","304","21.4"\n"algebra","19","26.3"\n"level 1","9","3"\n'
    )
    assert metrics_of(tmp_path, text) == {
        "Overall:tot": 304,
        "Overall:acc": 21.4,
        "algebra:tot": 19,
        "algebra:acc": 26.3,
        "level 1:tot": 9,
        "level 1:acc": 3,
    }


def test_a_column_of_text_may_follow_numbers(tmp_path: Path) -> None:
    """An index before it is no label; a cell without a number belongs to a column of numbers."""
    text = ",Category,acc,hit\n0,a,0.5,N/A\n1,b,0.25,3\n"
    assert metrics_of(tmp_path, text) == {"a:acc": 0.5, "b:acc": 0.25, "b:hit": 3}


@pytest.mark.parametrize(
    ("text", "twice"),
    [
        ("level,acc\n1,0.5\n2,0.25\n", "'level'"),
        ("Category,acc\na,0.5\na,0.25\n", "'a:acc'"),
        ("Category,acc,acc\na,0.5,0.25\n", "'a:acc'"),
    ],
)
def test_a_metric_that_is_set_twice_is_rejected(tmp_path: Path, text: str, twice: str) -> None:
    with raises(ScoresError, "invalid-scores", "A_Some_score.csv", twice):
        metrics_of(tmp_path, text)


def test_a_row_of_another_length_is_rejected(tmp_path: Path) -> None:
    with raises(ScoresError, "invalid-scores", "line 3"):
        metrics_of(tmp_path, "Category,acc\na,0.5\nb,1,234.5\n")


def test_numbers_inside_a_mapping_keep_its_name(tmp_path: Path) -> None:
    text = '{"total": 3, "ocr": {"acc": 0.5, "model": "A"}, "done": true}'
    assert metrics_of(tmp_path, text, "A_Some_score.json") == {"total": 3, "ocr:acc": 0.5}


def test_files_that_the_kit_wrote(tmp_path: Path) -> None:
    """POPE of LLaVA-1.6 (vicuna 7B) as `POPE_rating` of VLMEvalKit wrote it."""
    values = metrics_of(tmp_path, POPE)
    assert values["Overall:Overall"] == 86.39472398632145
    assert values["adversarial:Overall"] == 85.31114327062228
    assert len(values) == 16


def test_the_folders_of_several_models_are_rejected(tmp_path: Path) -> None:
    """Whether or not they were scored on the same datasets."""
    for model, dataset in (("A", "POPE"), ("B", "POPE"), ("C", "MME")):
        (tmp_path / model).mkdir()
        (tmp_path / model / f"{model}_{dataset}_score.csv").write_text(POPE)
    rejected(tmp_path, *(tmp_path / model for model in "ABC"))
    assert list(read(tmp_path / "C").benchmarks) == ["MME"]


@pytest.mark.parametrize(
    ("name", "text", "named"),
    [
        ("LLaVA-EW_MME_score.csv", "", ""),
        ("LLaVA-EW_MME_score.csv", "perception\n", ""),
        ("LLaVA-EW_MME_score.csv", "split,text\nnone,much\n", "text"),
        ("LLaVA-EW_MME_score.csv", "perception\nnan\n", ""),
        ("LLaVA-EW_OCRBench_score.json", f'{{"all": 1{"0" * 400}}}', "all"),
        ("LLaVA-EW_OCRBench_score.json", "[1, 2]", "[1, 2]"),
        ("LLaVA-EW_OCRBench_score.json", "{", ""),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str, text: str, named: str) -> None:
    folder = tmp_path / "LLaVA-EW"
    folder.mkdir()
    (folder / name).write_text(text)
    rejected(folder, name, named)
