"""Files of lmms-eval 0.7.3, recorded from its own code with scripted answers
(`recorded/lmms_eval`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cotbal.errors import ScoresError
from cotbal.scores.harnesses.lmms_eval import read
from helpers.errors import raises

RECORDED = Path(__file__).parent / "recorded" / "lmms_eval"
WRONG = '{"results": [1], "config": {}, "n-samples": {}, "date": "20261125_020805"}'
LATER = "20261126_000000"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(RECORDED / "EW", tmp_path / "EW")
    return tmp_path / "EW"


def results_of(directory: Path) -> Path:
    return next(directory.glob("checkpoints__*/*_results.json"))


def change(path: Path, by: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    by(content)
    path.write_text(json.dumps(content))


def rejected(directory: Path, *names: object) -> None:
    with raises(ScoresError, "invalid-scores", *names):
        read(directory)


def test_every_task_metric_and_answer_is_read() -> None:
    evaluation = read(RECORDED / "EW")
    assert evaluation.warnings == ()
    assert len(evaluation.benchmarks) == 10
    textvqa = evaluation.benchmarks["cotbal_textvqa"]
    assert textvqa.metrics == pytest.approx({"exact_match": 0.725})
    assert textvqa.questions == len(textvqa.rows) == 4
    assert [row["filtered_resps"] for row in textvqa.rows] == ["Nokia", "no", "wrong", "nokia"]
    assert evaluation.benchmarks["mme"].metrics == {
        "mme_perception_score": 2000,
        "mme_cognition_score": 200,
    }
    assert not any(benchmark.lower_is_better for benchmark in evaluation.benchmarks.values())


def test_the_orientation_is_that_of_the_harness(copy: Path) -> None:
    change(
        results_of(copy),
        lambda c: c["higher_is_better"]["cotbal_textvqa"].update(exact_match=False),
    )
    evaluation = read(copy)
    assert evaluation.benchmarks["cotbal_textvqa"].lower_is_better == {"exact_match"}
    assert not evaluation.benchmarks["mme"].lower_is_better


def test_filters_other_than_none_keep_their_name(copy: Path) -> None:
    change(
        results_of(copy),
        lambda c: c["results"]["cotbal_textvqa"].update({"exact_match,strict": 0.5}),
    )
    assert read(copy).benchmarks["cotbal_textvqa"].metrics == {
        "exact_match": 0.725,
        "exact_match,strict": 0.5,
    }


def test_a_group_without_numbers_is_no_benchmark(copy: Path) -> None:
    change(
        results_of(copy),
        lambda c: c["results"].update({"pope_full": {" ": " ", "alias": "pope_full"}}),
    )
    assert "pope_full" not in read(copy).benchmarks


def test_the_newest_result_counts_and_is_named(copy: Path) -> None:
    old = results_of(copy)
    new = old.with_name(f"{LATER}_results.json")
    shutil.copy(old, new)
    assert read(copy).warnings == ()
    change(new, lambda c: c["results"]["mme"].update({"mme_perception_score,none": 1000.0}))
    evaluation = read(copy)
    assert evaluation.benchmarks["mme"].metrics["mme_perception_score"] == 1000
    assert evaluation.benchmarks["mme"].rows == ()
    assert [line for line in evaluation.warnings if "mme" in line and new.name in line]
    assert len(evaluation.warnings) == 1


def test_results_of_several_models_are_rejected(tmp_path: Path) -> None:
    """Each model has a folder below the one that was given to lmms-eval."""
    for model in ("EW", "CoTBal"):
        shutil.copytree(RECORDED / model, tmp_path, dirs_exist_ok=True)
    rejected(tmp_path, "checkpoints/CoTBal", tmp_path / "checkpoints__EW")
    assert len(read(tmp_path / "checkpoints__EW").benchmarks) == 10


def test_models_of_one_name_in_different_places_are_several(copy: Path) -> None:
    """lmms-eval names the folder after the end of a path alone."""
    old = results_of(copy)
    new = old.with_name(f"{LATER}_results.json")
    shutil.copy(old, new)
    change(new, lambda c: c.update(model_name="other/checkpoints/EW"))
    rejected(copy, "checkpoints/EW", "other/checkpoints/EW")


def test_results_without_the_name_of_a_model_are_distinguished_by_their_folder(
    tmp_path: Path,
) -> None:
    for model in ("EW", "CoTBal"):
        shutil.copytree(RECORDED / model, tmp_path, dirs_exist_ok=True)
    for path in tmp_path.glob("checkpoints__*/*_results.json"):
        change(path, lambda c: c.pop("model_name"))
    rejected(tmp_path, "checkpoints__CoTBal")


def test_a_metric_that_is_set_twice_is_rejected(copy: Path) -> None:
    change(results_of(copy), lambda c: c["results"]["cotbal_textvqa"].update(exact_match=0.5))
    rejected(copy, "cotbal_textvqa", "exact_match")


def test_a_limit_is_said(copy: Path) -> None:
    change(results_of(copy), lambda c: c["config"].update(limit=8.0, offset=2))
    (warning,) = read(copy).warnings
    assert "limit 8" in warning
    assert "offset 2" in warning


def test_no_results(tmp_path: Path) -> None:
    (tmp_path / "submissions").mkdir()
    (tmp_path / "submissions" / "mmbench_en_dev_static_results.json").write_text("{}")
    rejected(tmp_path, tmp_path, "lmms-eval")


@pytest.mark.parametrize(
    "text", ["", "[]", '{"results": {}}', WRONG, WRONG.replace("[1]", '{"mme": 1}')]
)
def test_not_a_result_file(copy: Path, text: str) -> None:
    path = results_of(copy)
    path.write_text(text)
    rejected(copy, path)


def test_a_number_that_is_none(copy: Path) -> None:
    change(
        results_of(copy),
        lambda c: c["results"]["mme"].update({"mme_perception_score,none": float("nan")}),
    )
    rejected(copy, "mme, mme_perception_score,none", "nan")


@pytest.mark.parametrize(
    "changed",
    [
        {"higher_is_better": None},
        {"higher_is_better": {"mme": 1}},
        {"n-samples": {"mme": 4}},
        {"config": {"limit": "8"}},
    ],
)
def test_what_may_be_left_out_may_be_anything(copy: Path, changed: dict[str, Any]) -> None:
    change(results_of(copy), lambda content: content.update(changed))
    evaluation = read(copy)
    assert len(evaluation.benchmarks) == 10
    assert len(evaluation.warnings) == ("config" in changed)


def test_a_number_that_no_table_could_hold(copy: Path) -> None:
    change(
        results_of(copy),
        lambda content: content["results"]["mme"].update({"mme_perception_score,none": 10**400}),
    )
    rejected(copy, "mme, mme_perception_score,none", "1000")


@pytest.mark.parametrize("line", ['{"doc_id": 1', "[1]", '{"target": "A"}'])
def test_a_broken_answer_is_named(copy: Path, line: str) -> None:
    path = next(copy.rglob("*_samples_mme.jsonl"))
    path.write_text(path.read_text() + line + "\n")
    rejected(copy, f"{path}, line 29")


def test_answers_that_cannot_be_read_are_named(copy: Path) -> None:
    path = next(copy.rglob("*_samples_mme.jsonl"))
    path.write_bytes(path.read_bytes() + b"\xff")
    rejected(copy, path, "utf-8")


def test_line_separators_inside_an_answer(copy: Path) -> None:
    path = next(copy.rglob("*_samples_cotbal_textvqa.jsonl"))
    path.write_text(path.read_text().replace("Nokia", "No\u2028kia"))
    assert read(copy).benchmarks["cotbal_textvqa"].rows[0]["filtered_resps"] == "No\u2028kia"
