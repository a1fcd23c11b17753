"""Batches for a real processor: labels on the assistant's words alone, whatever the layout of the
row.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from transformers import AutoProcessor

from cotbal.data.batches.chat import Rendered
from cotbal.data.batches.collate import Collator, Row, aligned
from cotbal.data.reading.record import Record, Turn
from cotbal.errors import DataError
from cotbal.loss import IGNORED
from helpers.errors import raises
from helpers.plain_rows import valid_tokens
from helpers.tiny_vlm import BASE


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    for name in ("a", "b"):
        Image.new("RGB", (60, 40), "red").save(root / f"{name}.png")
    return root


@pytest.fixture(scope="module")
def collator(images: Path) -> Collator:
    return Collator(AutoProcessor.from_pretrained(BASE), images, 400)


def row(*texts: str, images: tuple[str, ...] = (), instruction: str | None = None) -> Row:
    turns = tuple(Turn("user" if i % 2 == 0 else "assistant", text) for i, text in enumerate(texts))
    return Row(Record("r1", None, images, turns, (texts[-1],), 7), "task", instruction)


IMAGE = row("<image>\nWhich color has the bar?", "blue", images=("a.png",))
TEXT = row("What is a drum?", "a big drum")
TURNS = row("<image>\nWhat is left?", "drum", "What is right?", "tree", images=("a.png",))
TWO = row("<image>\n<image>\nWhat is left?", "a big tree", images=("a.png", "b.png"))
LATE = row(
    "<image>\nWhat is left?",
    "drum",
    "<image>\nWhat is right?",
    "a big tree",
    images=("a.png", "b.png"),
)


def learnt(collator: Collator, rows: list[Row]) -> list[str]:
    batch = collator.training(rows)
    tokenizer = collator.tokenizer
    return [
        tokenizer.decode(labels[labels != IGNORED]).replace(" ", "") for labels in batch["labels"]
    ]


def test_only_answers_and_their_ends_carry_loss(collator: Collator) -> None:
    tokens = learnt(collator, [IMAGE, TEXT, TURNS, TWO, LATE])
    end = collator.tokenizer.eos_token
    assert tokens == [
        f"blue{end}",
        f"abigdrum{end}",
        f"drum{end}tree{end}",
        f"abigtree{end}",
        f"drum{end}abigtree{end}",
    ]


def silent(row: Row, *answers: int) -> Row:
    """The row with marks that leave the answers at these places of its turns without loss."""
    turns = tuple(replace(t, loss=i not in answers) for i, t in enumerate(row.record.turns))
    return replace(row, record=replace(row.record, turns=turns))


def test_marked_answers_and_their_ends_carry_no_loss(collator: Collator) -> None:
    rows = [silent(TURNS, 1), silent(TURNS, 3), silent(LATE, 1), silent(LATE, 3), silent(TEXT, 1)]
    end = collator.tokenizer.eos_token
    assert learnt(collator, rows) == [
        f"tree{end}",
        f"drum{end}",
        f"abigtree{end}",
        f"drum{end}",
        "",
    ]
    assert (
        collator.training(rows[:1])["input_ids"] == collator.training([TURNS])["input_ids"]
    ).all()
    labels = [collator.training([row])["labels"] for row in rows]
    counts = [int((one != IGNORED).sum()) for one in labels]
    assert [valid_tokens(collator, row) for row in rows] == counts


def test_marks_need_one_span_per_answer(
    collator: Collator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collator.chat, "render", lambda *_: Rendered("a b", ((0, 1),)))
    with raises(DataError, "invalid-chat-template", "record 7 (r1)"):
        collator.training([silent(TURNS, 1)])


def test_labels_are_the_tokens_at_their_own_places(collator: Collator) -> None:
    batch = collator.training([IMAGE, LATE])
    mask = batch["labels"] != IGNORED
    assert (batch["labels"][mask] == batch["input_ids"][mask]).all()
    assert not (batch["labels"] == collator.processor.image_token_id).any()
    assert (batch["input_ids"] == collator.processor.image_token_id).sum(dim=1).tolist() == [36, 72]


def test_answers_are_found_between_images() -> None:
    """7 is the placeholder, 8 and 9 the image; a processor may put a token first and change what
    is next to it.
    """
    plain, ranges = [1, 7, 2, 3, 4, 7, 5, 3, 4], [(3, 5), (7, 9)]
    whole = [1, 8, 9, 8, 2, 3, 4, 8, 9, 5, 3, 4]
    assert aligned(plain, ranges, whole, 7) == [(5, 7), (10, 12)]
    assert aligned(plain, ranges, [6, *whole], 7) == [(6, 8), (11, 13)]
    assert aligned(plain, ranges, [1, 8, 9, 8, 6, 3, 4, 8, 9, 6, 3, 4], 7) == [(5, 7), (10, 12)]
    assert aligned(plain, ranges, [1, 8, 9, 8, 2, 3, 4, 8, 9, 5, 3, 6], 7) == [(5, 7)], (
        "the last answer is not there"
    )


def test_a_batch_without_images(collator: Collator) -> None:
    assert "pixel_values" not in collator.training([TEXT, TEXT])


def test_valid_tokens_are_counted_without_images(collator: Collator) -> None:
    for one in (IMAGE, TEXT, TURNS, TWO, LATE):
        labels = collator.training([one])["labels"]
        assert valid_tokens(collator, one) == int((labels != IGNORED).sum())


def test_prompts_are_padded_on_the_left_and_end_where_the_answer_starts(collator: Collator) -> None:
    batch = collator.prompts([IMAGE, TEXT])
    assert batch["attention_mask"][:, -1].tolist() == [1, 1]
    assert batch["attention_mask"][1, 0] == 0
    trained = collator.training([IMAGE])["input_ids"][0].tolist()
    prompt = batch["input_ids"][0].tolist()
    assert trained[: len(prompt)] == prompt
    assert collator.tokenizer.decode(trained[len(prompt)]).strip() == "blue"


def test_the_instruction_reaches_the_prompt(collator: Collator) -> None:
    plain = collator.prompts([IMAGE])["input_ids"].shape[1]
    instructed = row(
        "<image>\nWhich color has the bar?",
        "blue",
        images=("a.png",),
        instruction="Answer with one word.",
    )
    assert collator.prompts([instructed])["input_ids"].shape[1] > plain


def test_rows_that_are_too_long_lose_their_end(images: Path) -> None:
    short = Collator(AutoProcessor.from_pretrained(BASE), images, 44)
    batch = short.training([TURNS, TEXT])
    assert batch["input_ids"].shape[1] == 44
    assert batch["labels"].shape == batch["attention_mask"].shape == batch["input_ids"].shape


def test_images_are_never_cut(images: Path) -> None:
    tiny = Collator(AutoProcessor.from_pretrained(BASE), images, 20)
    with raises(DataError, "images-too-long", "record 7 (r1)", "max_length = 20"):
        tiny.training([IMAGE])


def test_a_broken_image_is_named_with_its_record(collator: Collator) -> None:
    with raises(DataError, "missing-image", "record 7 (r1)", "none.png"):
        collator.training([row("<image>\nWhat?", "drum", images=("none.png",))])


def test_a_checkpoint_without_chat_template_is_rejected(images: Path) -> None:
    processor = AutoProcessor.from_pretrained(BASE)
    processor.chat_template = processor.tokenizer.chat_template = None
    with raises(DataError, "invalid-chat-template", "chat_template.jinja"):
        Collator(processor, images, 100)


@pytest.mark.parametrize(
    ("template", "named"),
    [
        (
            "{% for m in messages %}{{ m['role'] + m['content'] }}{% endfor %}",
            "a question about an image",
        ),
        ("{% for m in messages %}{{ raise_exception('no images') }}{% endfor %}", "no images"),
        (
            "{% for m in messages %}{{ m['content'][1]['text'] }}{% endfor %}",
            "<image>",
        ),
    ],
    ids=["text alone", "raises", "leaves the image out"],
)
def test_a_template_that_cannot_write_images_is_rejected(
    images: Path, template: str, named: str
) -> None:
    processor = AutoProcessor.from_pretrained(BASE)
    processor.chat_template = template
    with raises(DataError, "invalid-chat-template", named):
        Collator(processor, images, 100)


def test_of_several_templates_the_default_one_is_taken(images: Path, collator: Collator) -> None:
    processor = AutoProcessor.from_pretrained(BASE)
    processor.chat_template = {"default": processor.chat_template, "tools": "{{ messages }}"}
    several = Collator(processor, images, 400)
    assert learnt(several, [IMAGE]) == learnt(collator, [IMAGE])
