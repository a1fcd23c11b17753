from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cotbal.data.files import read_json, write_json, write_sealed_rows
from cotbal.errors import RunError
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.scoring import awaited, clusters, score_matrix, scores_of, write_scores
from cotbal.scores.measure import source_of
from cotbal.training.run_paths import RunPaths
from helpers.errors import raises

TRUTH = ["school", "frog", "frog", "bank", "frog"]
IMAGE_LISTS = [["1.png"], ["1.png"], ["2.png"], [], []]


def answer(paths: RunPaths, answers: list[str], task: str = "ocr", **changed: Any) -> RunPaths:
    image_lists = changed.get("image_lists", IMAGE_LISTS)
    rows = [
        {"id": f"{i}", "images": images, "question": "?", "references": [truth], "answer": said}
        for i, (images, truth, said) in enumerate(zip(image_lists, TRUTH, answers, strict=True))
    ]
    write_sealed_rows(paths.generations(task, "validation"), rows)
    return paths


@pytest.fixture
def probes(tmp_path: Path) -> dict[str, RunPaths]:
    root = RunDir(tmp_path)
    return {
        "mini": answer(root.probe("mini"), ["x", "frog", "x", "x", "x"]),
        "full:ocr": answer(root.probe("full:ocr"), ["School", "frog", "x", "bank", "frog"]),
    }


def test_matrix(probes: dict[str, RunPaths]) -> None:
    matrix = score_matrix(probes, {"ocr": "exact_match"})
    assert (matrix.runs, matrix.tasks) == (("mini", "full:ocr"), ("ocr",))
    np.testing.assert_allclose(matrix.values, [[0.2], [0.8]])
    samples = matrix.samples["ocr"]
    np.testing.assert_array_equal(samples.values, [[0, 1, 0, 0, 0], [1, 1, 0, 1, 1]])
    np.testing.assert_array_equal(samples.clusters, [0, 0, 1, 2, 3])
    assert samples.maximum == 1
    assert samples.constant_answer == "frog"
    assert samples.constant is not None
    np.testing.assert_array_equal(samples.constant, [0, 1, 1, 0, 1])


def test_rows_and_columns_are_as_asked(probes: dict[str, RunPaths]) -> None:
    for paths in probes.values():
        answer(paths, TRUTH, "vqa")
    matrix = score_matrix(
        dict(reversed(probes.items())), {"vqa": "exact_match", "ocr": "exact_match"}
    )
    assert matrix.runs == ("full:ocr", "mini")
    np.testing.assert_allclose(matrix.values, [[1, 0.8], [1, 0.2]])


def test_what_was_scored_is_not_scored_again(probes: dict[str, RunPaths]) -> None:
    score_matrix(probes, {"ocr": "exact_match"})
    file = probes["mini"].scores("ocr", "validation")
    written = file.stat().st_mtime_ns, file.stat().st_ino
    score_matrix(probes, {"ocr": "exact_match"})
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == written


def test_another_metric_needs_no_model(probes: dict[str, RunPaths]) -> None:
    score_matrix(probes, {"ocr": "exact_match"})
    matrix = score_matrix(probes, {"ocr": "cider"})
    assert matrix.samples["ocr"].maximum == 10
    assert matrix.values[1, 0] > matrix.values[0, 0]


def test_runs_that_answered_different_samples_cannot_be_compared(
    probes: dict[str, RunPaths],
) -> None:
    answer(probes["full:ocr"], ["x"] * 5, image_lists=[["1.png"], ["2.png"], ["2.png"], [], []])
    with raises(RunError, "different-samples", "ocr, validation", "full:ocr", "mini"):
        score_matrix(probes, {"ocr": "exact_match"})


def test_what_is_written(probes: dict[str, RunPaths]) -> None:
    write_scores(probes["full:ocr"], "ocr", "validation", ("exact_match", "cider"))
    content = read_json(probes["full:ocr"].scores("ocr", "validation"))
    assert (content["task"], content["split"], content["n"]) == ("ocr", "validation", 5)
    assert content["clusters"] == [0, 0, 1, 2, 3]
    assert set(content["metrics"]) == {"exact_match", "cider"}
    entry = content["metrics"]["exact_match"]
    assert entry == {
        "score": 0.8,
        "maximum": 1.0,
        "source": source_of("exact_match"),
        "samples": [1.0, 1.0, 0.0, 1.0, 1.0],
        "constant_answer": "frog",
        "constant_samples": [0.0, 1.0, 1.0, 0.0, 1.0],
    }


def test_scores_are_those_of_the_answers_whatever_characters_they_hold(tmp_path: Path) -> None:
    """A model answers what it likes; a line separator of Unicode must not end the file."""
    paths = answer(RunDir(tmp_path).probe("mini"), ["school", "\u2028", "frog\x85", "bank", "frog"])
    assert scores_of(paths, "ocr", "validation", ("exact_match",))["n"] == 5


def test_one_bad_answer_is_a_wrong_answer(tmp_path: Path) -> None:
    paths = answer(RunDir(tmp_path).probe("mini"), ["", "\0", "[" * 999, "bank", "🐸"])
    for metric in ("exact_match", "cider", "box_iou"):
        content = scores_of(paths, "ocr", "validation", (metric,))
        assert np.isfinite(content["metrics"][metric]["samples"]).all()


def test_samples_on_the_same_images_share_a_cluster() -> None:
    numbers = clusters([["a"], [], ["b"], ["a"], ["a", "b"], [], ["a", "b"]])
    assert numbers == [0, 1, 2, 0, 3, 4, 3]
    assert clusters([]) == []


def test_scores_that_somebody_cleared_are_made_again(probes: dict[str, RunPaths]) -> None:
    expected = score_matrix(probes, {"ocr": "exact_match"}).values
    write_json(probes["mini"].scores("ocr", "validation"), {"metrics": {}})
    np.testing.assert_array_equal(score_matrix(probes, {"ocr": "exact_match"}).values, expected)


def yes_no(paths: RunPaths, answers: str) -> RunPaths:
    """Five images with two questions each, the first true; the first six answers are of category
    `color`.
    """
    rows = [
        {
            "id": f"{i}",
            "images": [f"{i // 2}.png"],
            "question": "?",
            "references": [("Yes", "No")[i % 2]],
            "details": {"category": "color" if i < 6 else "count"},
            "answer": {"y": "Yes", "n": "No"}[said],
        }
        for i, said in enumerate(answers)
    ]
    write_sealed_rows(paths.generations("vqa", "validation"), rows)
    return paths


def test_a_metric_that_weighs_its_samples_reaches_the_matrix_as_its_score(tmp_path: Path) -> None:
    root = RunDir(tmp_path)
    runs = {
        "mini": yes_no(root.probe("mini"), "yyyyyyyyyy"),
        "full:vqa": yes_no(root.probe("full:vqa"), "ynynyyynnn"),
    }
    matrix = score_matrix(runs, {"vqa": "pope_f1"})
    np.testing.assert_allclose(matrix.values[:, 0], [2 / 3, (6 / 7 + 2 / 3) / 2])
    samples = matrix.samples["vqa"]
    np.testing.assert_allclose(samples.values.mean(axis=1), matrix.values[:, 0])
    assert samples.constant is not None
    assert samples.constant.mean() == pytest.approx(2 / 3)
    np.testing.assert_array_equal(samples.clusters, np.arange(10) // 2)
    entry = read_json(runs["full:vqa"].scores("vqa", "validation"))["metrics"]["pope_f1"]
    assert entry["samples"] == [1, 1, 1, 1, 1, 0, 1, 1, 0, 1]
    np.testing.assert_allclose(
        entry["weights"], [2 / 7, 0, 2 / 7, 0, 2 / 7, 1 / 7, 2 / 3, 0, 1 / 3, 0]
    )
    assert entry["score"] == pytest.approx((6 / 7 + 2 / 3) / 2)
    assert len(entry["constant_weights"]) == 10


def test_answers_of_an_older_version_hold_no_details(probes: dict[str, RunPaths]) -> None:
    """They are scored all the same, as one category."""
    assert score_matrix(probes, {"ocr": "multiple_choice"}).values.shape == (2, 1)
    assert score_matrix(probes, {"ocr": "pope_f1"}).values.shape == (2, 1)
    runs = {"mini": yes_no(probes["mini"], "yyyyyyyyyy")}
    assert score_matrix(runs, {"vqa": "pope_f1"}).values[0, 0] == pytest.approx(2 / 3)


GIVEN = {
    "score": 75.0,
    "maximum": 125.0,
    "samples": [75.0] * 5,
    "weights": [8.0, 8.0, 0.0, 8.0, 8.0],
}


def give(paths: RunPaths) -> None:
    """What `cotbal judge` does."""
    content = read_json(paths.scores("ocr", "validation"))
    content["metrics"]["judge"] = GIVEN
    write_json(paths.scores("ocr", "validation"), content)


def test_scores_that_a_command_gives_are_awaited_then_kept(probes: dict[str, RunPaths]) -> None:
    for paths in probes.values():
        write_scores(paths, "ocr", "validation", ("judge", "exact_match"))
        assert awaited(paths, "ocr", "validation", ("judge", "exact_match")) == ["judge"]
    with raises(RunError, "missing-scores", "ocr.validation.json", "cotbal judge"):
        score_matrix(probes, {"ocr": "judge"})
    for paths in probes.values():
        give(paths)
        assert awaited(paths, "ocr", "validation", ("judge", "exact_match")) == []
    matrix = score_matrix(probes, {"ocr": "judge"})
    np.testing.assert_allclose(matrix.values, 75)
    assert (matrix.samples["ocr"].maximum, matrix.samples["ocr"].constant) == (125, None)
    content = scores_of(probes["mini"], "ocr", "validation", ("cider",))
    assert set(content["metrics"]) == {"judge", "exact_match", "cider"}
    assert content["metrics"]["judge"] == GIVEN


METRIC = """
from own_scores.helpers import same

MAXIMUM, HIGHER_IS_BETTER = 1.0, True

def score(predictions, references):
    return [same(one, other[0]) for one, other in zip(predictions, references)]

def constant_answer(references):
    return references[0][0]
"""


@pytest.fixture
def write_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Writes modules of a package `own_scores` as an editor would between two commands."""
    monkeypatch.syspath_prepend(tmp_path / "code")

    def write(**code: str) -> None:
        for name, text in code.items():
            path = tmp_path / "code" / "own_scores" / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for name in [name for name in sys.modules if name.startswith("own_scores")]:
            monkeypatch.delitem(sys.modules, name)
        importlib.invalidate_caches()

    return write


def test_scores_of_a_metric_that_was_changed_are_made_again(
    probes: dict[str, RunPaths], write_code: Callable[..., None]
) -> None:
    same = "def same(one, other):\n    return float(one == other)\n"
    write_code(__init__="", helpers=same, metric=METRIC)

    def scores() -> list[float]:
        return score_matrix(probes, {"ocr": "own_scores.metric"}).values[:, 0].tolist()

    file = probes["mini"].scores("ocr", "validation")
    assert scores() == [0.2, 0.6]
    written = file.stat().st_mtime_ns
    write_code(helpers=f"# A remark.\n\n{same}")
    assert scores() == [0.2, 0.6]
    assert file.stat().st_mtime_ns == written, "a remark changes no score"
    write_code(helpers=same.replace("one == other", "one.lower() == other"))
    assert scores() == [0.2, 0.8], "a helper of the metric was changed"
    write_code(metric=METRIC.replace("[same(", "[0.5 * same("))
    assert scores() == [0.1, 0.4], "the metric was changed"


def test_what_need_not_be_scored_again_is_kept(probes: dict[str, RunPaths]) -> None:
    paths = probes["mini"]
    write_scores(paths, "ocr", "validation", ("exact_match", "cider"))
    content = read_json(paths.scores("ocr", "validation"))
    content["metrics"]["exact_match"] |= {"score": 9.0, "source": "older"}
    content["metrics"]["cider"]["score"] = 9.0
    write_json(paths.scores("ocr", "validation"), content)
    assert awaited(paths, "ocr", "validation", ("exact_match",)) == []
    known = read_json(paths.scores("ocr", "validation"))["metrics"]
    assert {name: entry["score"] for name, entry in known.items()} == {
        "exact_match": 0.2,
        "cider": 9.0,
    }


def test_scores_of_an_older_version_are_made_again(probes: dict[str, RunPaths]) -> None:
    write_scores(probes["mini"], "ocr", "validation", ("exact_match",))
    content = read_json(probes["mini"].scores("ocr", "validation"))
    del content["metrics"]["exact_match"]["source"]
    content["metrics"]["exact_match"]["score"] = 9.0
    write_json(probes["mini"].scores("ocr", "validation"), content)
    entry = scores_of(probes["mini"], "ocr", "validation", ("exact_match",))["metrics"]
    assert entry["exact_match"]["score"] == 0.2


def test_without_answers_stale_scores_are_neither_used_nor_lost(
    probes: dict[str, RunPaths],
) -> None:
    file = probes["mini"].scores("ocr", "validation")
    write_scores(probes["mini"], "ocr", "validation", ("exact_match",))
    probes["mini"].generations("ocr", "validation").unlink()
    assert scores_of(probes["mini"], "ocr", "validation", ("exact_match",))["n"] == 5
    content = read_json(file)
    content["metrics"]["exact_match"]["source"] = "older"
    write_json(file, content)
    with raises(RunError, "missing-file", "ocr.validation.jsonl", "exact_match"):
        scores_of(probes["mini"], "ocr", "validation", ("exact_match",))
    assert read_json(file) == content
