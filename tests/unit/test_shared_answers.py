"""Questions on the same images share their computation; rows leave when their answer has ended."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image

from cotbal.data.batches.collate import Collator, Row
from cotbal.data.batches.prefixes import Prompt, prefixed, prompts, waves
from cotbal.data.reading.record import Record, Turn
from cotbal.recipe.schema import Generation
from cotbal.training import evaluation, vlm
from cotbal.training.decoding import cache
from cotbal.training.decoding.support import obstacle
from cotbal.training.evaluation import Answerer
from helpers.tiny_vlm import BASE

QUESTIONS = (
    ("caption", "a.png", "Describe the picture in detail.", "a big red drum left, on white"),
    ("vqa", "a.png", "Which color has the drum?", "red"),
    ("vqa", "b.png", "Which color has the background?", "white"),
    ("caption", "b.png", "Describe the picture in detail.", "a small blue sock right, on pink"),
    ("vqa", "b.png", "What?", "sock"),
    ("ocr", "c.png", "What does the sign say?", "STOP"),
    ("chat", "", "On which continent is Zimbabwe?", "Africa"),
    ("chat", "", "What kind of thing is the rocket?", "vehicle"),
)


@pytest.fixture(scope="module")
def collator(tmp_path_factory: pytest.TempPathFactory) -> Collator:
    folder = tmp_path_factory.mktemp("shared")
    for name, color in (("a", "red"), ("b", "blue"), ("c", "white")):
        Image.new("RGB", (48, 48), color).save(folder / f"{name}.png")
    return Collator(vlm.load(str(BASE), "float32", False)[1], folder, 200)


@pytest.fixture
def model(collator: Collator) -> Any:
    model = vlm.load(str(BASE), "float32", False)[0].eval()
    evaluation.set_greedy(model, collator)
    return model


def rows() -> list[Row]:
    made = []
    for number, (task, image, question, answer) in enumerate(QUESTIONS, 1):
        text = f"<image>\n{question}" if image else question
        images = (image,) if image else ()
        turns = (Turn("user", text), Turn("assistant", answer))
        made.append(Row(Record(str(number), None, images, turns, (answer,), number), task, None))
    return made


def waves_of(collator: Collator, size: int) -> list[list[list[Prompt]]]:
    return waves(prompts(collator, rows()), collator.processor.image_token, size)


def answers(model: Any, collator: Collator, shared: bool, **settings: int) -> list[str]:
    return Answerer(model, collator, Generation(**settings), shared=shared)(rows(), lambda _: None)


def test_questions_on_an_image_are_a_group_and_texts_are_apart(collator: Collator) -> None:
    numbers = [[[p.index for p in group] for group in wave] for wave in waves_of(collator, 2)]
    assert numbers == [[[3, 4, 2], [0, 1]], [[5]], [[6], [7]]]


def test_a_question_before_its_image_is_a_group_of_its_own(collator: Collator) -> None:
    turns = [(Turn("user", f"{word}\n<image>"), Turn("assistant", "x")) for word in ("A?", "B?")]
    asked = [Row(replace(rows()[0].record, turns=both), "t", None) for both in turns]
    (wave,) = waves(prompts(collator, asked), collator.processor.image_token, 4)
    assert [[p.index for p in group] for group in wave] == [[0], [1]]


def test_prefix_and_suffix_are_the_tokens_of_the_prompt(collator: Collator) -> None:
    for wave in waves_of(collator, 4):
        batch = prefixed(collator, wave)
        assert batch is not None
        assert sorted(map(id, batch.prompts)) == sorted(id(p) for group in wave for p in group)
        for prompt, number, suffix in zip(
            batch.prompts, batch.prefix_of, batch.suffixes, strict=True
        ):
            alone = collator.prompts([prompt.row])
            start: list[int] = []
            if batch.prefixes is not None:
                mask = batch.prefixes["attention_mask"][number].bool()
                start = batch.prefixes["input_ids"][number][mask].tolist()
                pixels = batch.prefixes["pixel_values"]
                assert len(pixels) == len(wave), "an image is there once"
                assert torch.equal(pixels[number], alone["pixel_values"][0])
            assert start + suffix == alone["input_ids"][0].tolist()


def test_images_are_computed_once(model: Any, collator: Collator) -> None:
    seen: list[int] = []
    model.model.vision_tower.register_forward_hook(
        lambda _, inputs, output: seen.append(len(output[0]))
    )
    answers(model, collator, shared=True, max_new_tokens=2, batch_size=2)
    assert seen == [2, 1]


@pytest.fixture
def batches(model: Any) -> list[tuple[int, int]]:
    """Rows and tokens of every call of the model."""
    seen: list[tuple[int, int]] = []
    model.register_forward_pre_hook(
        lambda _, __, inputs: seen.append(tuple(inputs["input_ids"].shape)), with_kwargs=True
    )
    return seen


def test_rows_leave_when_their_answers_have_ended(
    model: Any, collator: Collator, batches: list[tuple[int, int]]
) -> None:
    """An end that only some answers reach: the most frequent second token."""
    full = answers(model, collator, shared=True, max_new_tokens=12, batch_size=16)
    words = [collator.tokenizer(text)["input_ids"] for text in full]
    model.generation_config.eos_token_id = [*model.generation_config.eos_token_id, words[0][1]]
    batches.clear()
    ended = answers(model, collator, shared=True, max_new_tokens=12, batch_size=16)
    sizes = [rows for rows, tokens in batches if tokens == 1]
    assert ended != full
    assert sizes[-1] < max(sizes)
    assert ended == Answerer(model, collator, Generation(max_new_tokens=12, batch_size=1))(
        rows(), lambda _: None
    )


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("known", [{3, 4, 2, 0, 1}, {0, 1, 2, 4, 6}, {5}, set(range(8))])
def test_known_answers_change_no_batch_of_the_others(
    model: Any, collator: Collator, shared: bool, known: set[int]
) -> None:
    """In bfloat16, answers depend on the batch: those of a resumed run must not be others."""
    seen: list[list[list[int]]] = []
    model.register_forward_pre_hook(
        lambda _, __, inputs: seen.append(inputs["input_ids"].tolist()), with_kwargs=True
    )
    answerer = Answerer(model, collator, Generation(max_new_tokens=4, batch_size=2), shared=shared)
    full = answerer(rows(), lambda _: None)
    batches, reported = list(seen), list[int]()
    seen.clear()
    before = {index: f"known {index}" for index in known}
    resumed = answerer(rows(), reported.extend, before)
    assert resumed == [before.get(index, text) for index, text in enumerate(full)]
    assert sorted(reported) == sorted({*range(len(full))} - known)
    assert all(batch in batches for batch in seen)
    assert bool(seen) == (len(known) < len(full))


@pytest.mark.parametrize(
    ("size", "room"),
    [
        (3, 1),
        (16, 32),
        *(
            pytest.param(*case, marks=pytest.mark.extended)
            for case in ((1, 1), (1, 32), (3, 32), (16, 1))
        ),
    ],
)
def test_long_answers_outgrow_their_memory(
    model: Any, collator: Collator, monkeypatch: pytest.MonkeyPatch, room: int, size: int
) -> None:
    monkeypatch.setattr(cache, "ROOM", room)
    model.generation_config.eos_token_id = [5]
    settings = {"max_new_tokens": 50, "batch_size": size}
    assert answers(model, collator, True, **settings) == answers(model, collator, False, **settings)


def test_prompts_that_cannot_be_taken_apart_go_to_generate(
    model: Any, collator: Collator, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = answers(model, collator, False, max_new_tokens=6, batch_size=3)
    monkeypatch.setattr(
        Collator, "unexpanded", lambda self, texts: [[self.placeholder, 9] for _ in texts]
    )
    images = waves_of(collator, 8)[0]
    assert prefixed(collator, images) is None
    assert answers(model, collator, True, max_new_tokens=6, batch_size=3) == expected


def test_whatever_else_a_position_has_goes_to_generate(
    collator: Collator, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = Collator.tokens

    def typed(self: Collator, some: Any, texts: Any) -> dict[str, Any]:
        batch = tokens(self, some, texts)
        return {**batch, "token_type_ids": torch.zeros_like(batch["input_ids"])}

    monkeypatch.setattr(Collator, "tokens", typed)
    assert [prefixed(collator, wave) for wave in waves_of(collator, 8)] == [None, None]


@pytest.mark.parametrize(
    "name", ["window", "attention", "rotation", "family", "setting", "generate"]
)
def test_where_answers_come_from_generate(model: Any, collator: Collator, name: str) -> None:
    assert obstacle(model, collator) is None
    text = model.config.text_config
    if name == "window":
        text.sliding_window, text.layer_types = 16, ["sliding_attention"] * text.num_hidden_layers
    elif name == "attention":
        text._attn_implementation_internal = "flash_attention_2"
    elif name == "rotation":
        text.rope_parameters = {"rope_type": "dynamic", "factor": 2.0}
    elif name == "family":
        model.config.model_type = "unknown"
    elif name == "setting":
        model.generation_config.repetition_penalty = 1.2
    else:
        model.__class__ = type("Other", (type(model),), {"generate": lambda self: None})
    assert obstacle(model, collator)
