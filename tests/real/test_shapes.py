"""SHAPES: 64 questions with images of 30 x 30 pixels (`train.tiny`), and 1,024 questions (`val`).

Golden values: the sizes of `train.large`, `val` and `test` in the release.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cotbal.benchmarks import custom
from cotbal.benchmarks.large.sets import data_sets
from cotbal.data.reading.records import open_records
from cotbal.recipe.recipe import load_recipe
from cotbal.scores.measure import measure

pytestmark = pytest.mark.needs("real_data")
SIZES = (13_568, 1_024, 1_024)


def texts(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_sizes_of_the_large_benchmark_are_those_of_the_release(real: Path) -> None:
    (data,) = (data_set for data_set in data_sets() if data_set.config == "shapes")
    assert (data.train, data.validation, data.test) == SIZES
    assert (
        len(texts(real / "shapes/val.query_str.txt"))
        == len(texts(real / "shapes/val.output"))
        == data.validation
    )


def test_right_answers_have_the_highest_score(real: Path) -> None:
    answers = texts(real / "shapes/val.output")
    metric = next(data_set.metric for data_set in data_sets() if data_set.config == "shapes")
    assert measure(metric, answers, [[answer] for answer in answers]).values.mean() == 1
    assert measure(
        metric, ["true"] * len(answers), [[a] for a in answers]
    ).values.mean() == answers.count("true") / len(answers)


def test_questions_answers_and_images_survive_prepare_custom(real: Path, tmp_path: Path) -> None:
    pixels = np.load(real / "shapes/train.tiny.input.npy")
    questions, answers = (
        texts(real / f"shapes/train.tiny.{kind}") for kind in ("query_str.txt", "output")
    )
    (tmp_path / "raw/images").mkdir(parents=True)
    with (tmp_path / "raw/shapes.jsonl").open("w") as rows:
        for number, (question, answer) in enumerate(zip(questions, answers, strict=True)):
            name = f"{number:02d}.png"
            Image.fromarray(pixels[number]).save(tmp_path / "raw/images" / name)
            rows.write(json.dumps({"image": name, "question": question, "answer": answer}) + "\n")
    choices = custom.Choices(validation=8, test=8, question="question", answer="answer")
    places = custom.Places(tmp_path / "raw", tmp_path / "out", None)
    recipe = load_recipe(custom.prepare(places, choices, lambda what, done, total: None).recipe)
    (task,) = recipe.mixture.tasks
    assert task.metric == "exact_match"
    paths = (task.train, task.validation, *task.test.values())
    kept = {}
    for record in (one for path in paths for one in open_records(path, tmp_path / "cache")):
        with Image.open(recipe.images / record.images[0]) as image:
            assert (np.asarray(image) == pixels[int(Path(record.images[0]).stem)]).all()
        kept[record.images[0][-6:]] = (record.turns[0].text, record.turns[1].text)
    assert kept == {
        f"{n:02d}.png": (f"<image>\n{question}", answer)
        for n, (question, answer) in enumerate(zip(questions, answers, strict=True))
    }
