"""The score file of a run, and columns of samples from several of them."""

from __future__ import annotations

import json

import numpy as np

from cotbal.scores.matrix import Measured, matrix_of_samples
from cotbal.scores.task_scores import MetricScores, sample_column, task_scores

WEIGHTED = Measured(np.array([1.0, 0.0, 1.0]), np.array([2.0, 1.0, 0.0]))


def test_an_entry_is_read_as_it_was_written() -> None:
    constant = Measured(np.array([1.0, 1.0, 0.0]))
    written = MetricScores(WEIGHTED, 1.0, constant, "yes", "digest").to_json()
    content = {"task": "vqa", "split": "test", "clusters": [0, 0, 1], "metrics": {"f1": written}}
    scores = task_scores(json.loads(json.dumps(content)))
    read = scores.metrics["f1"]
    assert written["score"] == read.measured.score == 2 / 3
    assert read.constant is not None
    assert read.constant.score == 2 / 3
    assert (read.maximum, read.constant_answer, read.source) == (1.0, "yes", "digest")
    np.testing.assert_array_equal(scores.clusters, [0, 0, 1])


def test_scores_of_a_judge_have_no_constant_answer() -> None:
    entry = {"score": 50.0, "maximum": 100.0, "samples": [40.0, 60.0]}
    content = {"task": "chat", "split": "test", "clusters": [0, 1], "metrics": {"judge": entry}}
    read = task_scores(content).metrics["judge"]
    assert read.constant is None
    assert read.constant_answer == ""


def test_a_column_is_nan_where_a_cell_is_absent() -> None:
    cells = [None, MetricScores(WEIGHTED, 1.0), MetricScores(Measured(np.zeros(3)), 1.0)]
    column = sample_column(cells, np.arange(3), drawn_with="vqa.test")
    assert np.isnan(column.values[0]).all()
    np.testing.assert_array_equal(column.values[1], WEIGHTED.linear)
    assert column.drawn_with == "vqa.test"
    matrix = matrix_of_samples(("a", "b", "c"), {"vqa": column})
    np.testing.assert_allclose(matrix.values[:, 0], [np.nan, 2 / 3, 0])
