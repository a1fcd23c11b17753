"""The scripts of the study on `stamps`: the mixture is cut as requested, and the forecast is the
weighted mean.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cotbal.benchmarks.stamps import written
from cotbal.recipe.recipe import load_recipe
from cotbal.training import vlm
from helpers.scripts import BENCHMARKS, loaded


def test_the_study_is_the_start_of_every_file(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "recipe.yaml").write_text(
        written.recipe_text(["ocr_qa", "grounding", "chart_qa"], "text_chat")
    )
    for task in ("ocr_qa", "grounding"):
        for split in ("train", "validation", "test"):
            (tmp_path / f"data/{task}_{split}.jsonl").write_text(
                "".join(f"{split} {i}\n" for i in range(9))
            )
    study = loaded(BENCHMARKS / "stamps_study.py")
    path = study.write_study(
        tmp_path, ["ocr_qa", "grounding"], {"train": 4, "validation": 2, "test": 20}
    )
    recipe = load_recipe(path)
    assert [task.name for task in recipe.mixture.tasks] == ["ocr_qa", "grounding"]
    assert recipe.mixture["grounding"].metric == "box_iou"
    assert recipe.mixture["ocr_qa"].train.read_text() == "train 0\ntrain 1\ntrain 2\ntrain 3\n"
    assert recipe.mixture["ocr_qa"].test["test"].read_text().endswith("test 8\n")
    assert recipe.file.portions.mini == pytest.approx(1 / 8)


def test_the_forecast_averages_every_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    experts = {task: torch.nn.Linear(2, 1) for task in "abc"}
    shares = {"a": 0.5, "b": 0.25, "c": 0.25}
    expected = sum(share * experts[task].weight.detach() for task, share in shares.items())
    monkeypatch.setattr(vlm, "load", lambda directory, *_: (experts[directory], "processor"))
    forecast = loaded(BENCHMARKS / "forecast.py")
    model, processor = forecast.average(
        {task: task for task in "abc"}, {"a": 2.0, "b": 1.0, "c": 1.0}
    )
    assert processor == "processor"
    assert torch.allclose(model.weight, expected)


def test_the_order_of_mixtures_is_compared_a_task(capsys: pytest.CaptureFixture[str]) -> None:
    forecasts = {
        "x": {"ocr": 0.1, "vqa": 0.5},
        "y": {"ocr": 0.2, "vqa": 0.4},
        "z": {"ocr": 0.3, "vqa": 0.3},
    }
    facts = {
        name: {"ocr": scores["ocr"], "vqa": -scores["vqa"]} for name, scores in forecasts.items()
    }
    loaded(BENCHMARKS / "forecast.py").show(("ocr", "vqa"), forecasts, facts)
    assert (
        capsys.readouterr().out.splitlines()[-1]
        == "| rank correlation over 3 mixtures | 1.00 | -1.00 |"
    )
