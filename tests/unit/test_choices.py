"""Answers chosen among options by likelihood: the plain form, and questions computed once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image

from cotbal.data.batches.collate import Collator, Row
from cotbal.data.batches.prefixes import Prompt
from cotbal.data.reading.record import Record, Turn
from cotbal.recipe.schema import Generation
from cotbal.training import evaluation, vlm
from cotbal.training.decoding import choices
from cotbal.training.decoding.choices import most_likely
from cotbal.training.evaluation import Answerer
from helpers.tiny_vlm import BASE

COLORS = ("red", "blue", "a very dark shade of green", "red and blue")
QUESTIONS = (
    ("a.png", "Which color has the drum?", COLORS),
    ("b.png", "Which color has the background?", COLORS),
    ("b.png", "What is left of the drum in the image?", ("a sock", "a bar", "a drum")),
    ("a.png", "Is it?", ("A", "B", "C", "D")),
    ("", "On which continent is Zimbabwe?", ("Africa", "Asia", "North America")),
)


@pytest.fixture(scope="module")
def collator(tmp_path_factory: pytest.TempPathFactory) -> Collator:
    folder = tmp_path_factory.mktemp("choices")
    for name, color in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (48, 48), color).save(folder / f"{name}.png")
    return Collator(vlm.load(str(BASE), "float32", False)[1], folder, 24)


@pytest.fixture(scope="module")
def model(collator: Collator) -> Any:
    model = vlm.load(str(BASE), "float32", False)[0].eval()
    evaluation.set_greedy(model, collator)
    return model


def rows(choose: Any = "sum") -> list[Row]:
    made = []
    for number, (image, question, options) in enumerate(QUESTIONS, 1):
        text = f"<image>\n{question}" if image else question
        turns = (Turn("user", text), Turn("assistant", options[-1]))
        images = (image,) if image else ()
        record = Record(str(number), None, images, turns, options[-1:], number, options=options)
        made.append(Row(record, "task", "Answer.", choose))
    return made


def by_hand(model: Any, collator: Collator, row: Row) -> list[tuple[float, int]]:
    """Sum and number of the tokens of every option, by the model's own loss of one row."""
    found = []
    whole = Collator(collator.processor, collator.images, 10_000)
    for option in row.record.options:
        turns = (*row.record.turns[:-1], Turn("assistant", option))
        answered = replace(row.record, turns=turns)
        batch = whole.training([Row(answered, row.task, row.instruction)])
        count = int((batch["labels"] != -100).sum())
        batch["pixel_values"] = batch.get("pixel_values", torch.zeros(0)).to(model.dtype)
        inputs = {key: value for key, value in batch.items() if value.numel()}
        with torch.inference_mode():
            found.append((-float(model(**inputs).loss) * count, count))
    return found


def flat(asked: list[Prompt], model: Any, collator: Collator) -> list[tuple[float, int]]:
    return [value for p in asked for value in by_hand(model, collator, p.row)]


def seen_by(
    monkeypatch: pytest.MonkeyPatch, answerer: Answerer, asked: list[Row]
) -> tuple[list[str], dict[str, list[choices.Likelihood]]]:
    """The answers, and the likelihoods of the options of every record."""
    seen: dict[str, list[choices.Likelihood]] = {}

    def noted(some: Any, values: Any) -> list[str]:
        rest = iter(values)
        for prompt in some:
            seen[prompt.row.record.id] = [next(rest) for _ in prompt.row.options]
        return most_likely(some, values)

    monkeypatch.setattr(choices, "most_likely", noted)
    monkeypatch.setattr(evaluation, "most_likely", noted)
    return answerer(asked, lambda _: None), seen


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("size", [1, 3, 64])
def test_likelihoods_are_those_of_the_loss(
    model: Any, collator: Collator, monkeypatch: pytest.MonkeyPatch, shared: bool, size: int
) -> None:
    answerer = Answerer(model, collator, Generation(batch_size=size), shared=shared)
    texts, seen = seen_by(monkeypatch, answerer, rows())
    for row, text in zip(rows(), texts, strict=True):
        expected = by_hand(model, collator, row)
        values = seen[row.record.id]
        assert [count for _, count in values] == [count for _, count in expected]
        sums = [total for total, _ in values]
        assert sums == pytest.approx([total for total, _ in expected], rel=1e-5)
        best = max(range(len(sums)), key=lambda i: expected[i][0])
        assert text == row.record.options[best]
