"""Score files that VLMEvalKit's `POPE_rating` wrote for the two models of the folder `pope`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cotbal.scores.harnesses import vlmevalkit

pytestmark = pytest.mark.needs("real_data")
GOLDEN = {"A": 59.32359081419624, "B": 86.39472398632145}
ROWS = ("Overall", "random", "adversarial", "popular")
COLUMNS = ("Overall", "acc", "precision", "recall")


@pytest.mark.parametrize("model", GOLDEN)
def test_every_row_and_column_is_read(real: Path, tmp_path: Path, model: str) -> None:
    (tmp_path / model).mkdir()
    shutil.copy(real / "vlmevalkit" / f"{model}_POPE_score.csv", tmp_path / model)
    (benchmark,) = vlmevalkit.read(tmp_path / model).benchmarks.values()
    assert benchmark.name == "POPE"
    assert set(benchmark.metrics) == {f"{row}:{column}" for row in ROWS for column in COLUMNS}
    assert benchmark.metrics["Overall:Overall"] == GOLDEN[model]
