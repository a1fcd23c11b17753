"""Answers chosen among options by likelihood: the plain form, and questions computed once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image

from cotbal.data.batches.choices import by_options, offered, option_rows
from cotbal.data.batches.collate import Collator, Row
from cotbal.data.batches.prefixes import prompts, waves
from cotbal.data.reading.record import Record, Turn
from cotbal.loss import IGNORED
from cotbal.recipe.schema import Generation
from cotbal.training import evaluation, vlm
from cotbal.training.decoding import choices
from cotbal.training.decoding.choices import Likelihood, most_likely
from cotbal.training.decoding.prefill import on_device
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


def by_hand(model: Any, collator: Collator, row: Row) -> list[Likelihood]:
    """Sum and number of the tokens of every option, by the model's own loss of one row."""
    values = []
    whole = Collator(collator.processor, collator.images, 10_000)
    for answered in option_rows(row):
        batch = whole.training([answered])
        count = int((batch["labels"] != IGNORED).sum())
        inputs = {key: on_device(model, value) for key, value in batch.items()}
        with torch.inference_mode():
            values.append(Likelihood(-float(model(**inputs).loss) * count, count))
    return values


def seen_by(
    monkeypatch: pytest.MonkeyPatch, answerer: Answerer, asked: list[Row]
) -> tuple[list[str], dict[str, list[Likelihood]]]:
    """The answers, and the likelihoods of the options of every record."""
    seen: dict[str, list[Likelihood]] = {}

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
        assert [value.tokens for value in values] == [value.tokens for value in expected]
        sums = [value.total for value in values]
        assert sums == pytest.approx([value.total for value in expected], rel=1e-5)
        best = max(range(len(sums)), key=lambda i: expected[i].total)
        assert text == row.record.options[best]


def test_likelihoods_in_double_precision(
    collator: Collator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layers of the model round some values to float32, so not all digits agree."""
    precise = vlm.load(str(BASE), "float32", False)[0].double().eval()
    evaluation.set_greedy(precise, collator)
    expected = {row.record.id: by_logits(precise, collator, row) for row in rows()}
    for shared in (False, True):
        answerer = Answerer(precise, collator, Generation(batch_size=2), shared=shared)
        texts, seen = seen_by(monkeypatch, answerer, rows())
        for row, text in zip(rows(), texts, strict=True):
            sums = [value.total for value in seen[row.record.id]]
            assert sums == pytest.approx(expected[row.record.id], rel=1e-6)
            assert text == row.record.options[int(torch.tensor(sums).argmax())]


def by_logits(model: Any, collator: Collator, row: Row) -> list[float]:
    """The log-likelihood of every option, token by token from the logits of one row."""
    values = []
    whole = Collator(collator.processor, collator.images, 10_000)
    for answered in option_rows(row):
        inputs = {k: on_device(model, v) for k, v in whole.training([answered]).items()}
        (labels,) = inputs.pop("labels")
        with torch.inference_mode():
            predicted = model(**inputs).logits[0].log_softmax(-1)
        where = (labels != IGNORED).nonzero()[:, 0]
        values.append(float(predicted[where - 1, labels[where]].sum()))
    return values


def test_images_and_questions_are_computed_once(model: Any, collator: Collator) -> None:
    images: list[int] = []
    tokens: list[int] = []
    tower = model.model.vision_tower.register_forward_hook(
        lambda _, inputs, output: images.append(len(output[0]))
    )
    language = model.model.language_model.register_forward_pre_hook(
        lambda _, __, inputs: tokens.append(inputs["inputs_embeds"].shape[:2].numel()),
        with_kwargs=True,
    )
    counts = {}
    for shared in (False, True):
        images.clear()
        tokens.clear()
        Answerer(model, collator, Generation(batch_size=64), shared=shared)(rows(), ignore)
        counts[shared] = (sum(images), sum(tokens))
    tower.remove()
    language.remove()
    assert [counts[shared][0] for shared in (False, True)] == [15, 2]
    assert counts[True][1] < counts[False][1] / 2


def ignore(_: object) -> None:
    """No report of answers."""


def test_generated_and_chosen_answers_share_a_queue(model: Any, collator: Collator) -> None:
    generated = [replace(row, choose=None) for row in rows()]
    mixed = [row for pair in zip(generated, rows(), strict=True) for row in pair]
    for shared in (False, True):
        settings = Generation(max_new_tokens=4, batch_size=2)
        answerer = Answerer(model, collator, settings, shared=shared)
        apart = (answerer(generated, ignore), answerer(rows(), ignore))
        reports: list[Any] = []
        assert answerer(mixed, reports.append) == [
            t for pair in zip(*apart, strict=True) for t in pair
        ]
        assert sorted(i for some in reports for i in some) == list(range(len(mixed)))
        assert all(len({i % 2 for i in some}) == 1 for some in reports)


def test_questions_that_cannot_be_taken_apart_get_a_row_per_option(
    model: Any, collator: Collator, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Answerer(model, collator, Generation(batch_size=4))(rows(), ignore)
    plain = Collator.plain

    def other_head(self: Collator, row: Row) -> Any:
        ids, ranges = plain(self, row)
        return [ids[0] + 1, *ids[1:]], ranges

    monkeypatch.setattr(Collator, "plain", other_head)
    (wave, *_) = waves(prompts(collator, rows()), collator.processor.image_token, 8)
    assert offered(collator, wave) is None
    assert Answerer(model, collator, Generation(batch_size=4), shared=True)(rows(), ignore) == (
        expected
    )


def test_question_and_option_are_the_tokens_of_the_row(collator: Collator) -> None:
    for wave in waves(prompts(collator, rows()), collator.processor.image_token, 8):
        batch = offered(collator, wave)
        assert batch is not None
        asked = batch.questions
        for prompt, stem, options in zip(asked.prompts, asked.suffixes, batch.options, strict=True):
            for option, row in zip(options, option_rows(prompt.row), strict=True):
                ids, [(start, stop)] = collator.plain(row)
                behind = [*stem, *option.ids, option.labels[-1]]
                assert ids[stop - len(behind) : stop] == behind
                assert len(option.ids) == len(option.labels)
                assert [t for t in option.labels if t != IGNORED] == ids[start:stop]


VALUES = [(-2.0, 1), (-3.0, 3), (-2.0, 2), (-4.0, 4)]  # of the four options of one question


@pytest.mark.parametrize(("choose", "number"), [("sum", 0), ("mean", 1)])
def test_the_first_of_the_most_likely_options(collator: Collator, choose: str, number: int) -> None:
    asked = prompts(collator, rows(choose)[:1])
    assert most_likely(asked, [Likelihood(*value) for value in VALUES]) == [COLORS[number]]


def test_questions_are_together_while_their_options_fit(collator: Collator) -> None:
    asked = prompts(collator, rows())  # of 4, 4, 3, 4 and 3 options
    for size, expected in {
        1: [[0], [1], [2], [3], [4]],
        8: [[0, 1], [2, 3], [4]],
        11: [[0, 1, 2], [3, 4]],
        99: [[0, 1, 2, 3, 4]],
    }.items():
        assert [[p.index for p in share] for share in by_options(asked, size)] == expected
