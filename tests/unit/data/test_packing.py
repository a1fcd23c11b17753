"""Packed rows give the loss and the gradient of padded ones, and no row sees another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText

from cotbal.data.batches.packing import pack, packed
from cotbal.errors import DataError
from cotbal.loss import IGNORED, token_counts
from cotbal.training.trainers.forward import for_model
from cotbal.training.trainers.hf import with_task_ids
from helpers.errors import raises
from helpers.tiny_vlm import build
from helpers.trainer_cases import IMAGE, TASKS, distance, pad, rows, update, with_images

PADDING = 7
MIXED = [0, 3, 4, 9, 15]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("vlm"))


def batch_of(lengths: list[int], **more: Any) -> dict[str, Any]:
    """Row r holds the tokens 100 r + 1, 100 r + 2, ..., all of them labelled."""
    made = [100 * row + torch.arange(1, length + 1) for row, length in enumerate(lengths)]
    batch = pad([{"input_ids": ids, "labels": ids} for ids in made])
    return {**batch, "task_ids": torch.arange(len(lengths)), **more}


def from_the_first_token(data: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with a label on every token of text, the first included, which a padded row never
    predicts.
    """
    return [
        {**row, "labels": torch.where(row["input_ids"] == IMAGE, IGNORED, row["input_ids"])}
        for row in data
    ]


def test_rows_stand_one_behind_the_other() -> None:
    packed = pack(batch_of([3, 2, 4, 1]), 5, PADDING)
    assert packed["input_ids"].tolist() == [[1, 2, 3, 101, 102], [201, 202, 203, 204, 301]]
    assert packed["position_ids"].tolist() == [[0, 1, 2, 0, 1], [0, 1, 2, 3, 0]]
    assert packed["task_ids"].tolist() == [[0, 0, 0, 1, 1], [2, 2, 2, 2, 3]]
    assert packed["labels"].tolist() == [[-100, 2, 3, -100, 102], [-100, 202, 203, 204, -100]]
    assert "attention_mask" not in packed


def test_what_is_left_over_is_padding_that_nobody_sees() -> None:
    packed = pack(batch_of([2, 2, 3]), 4, PADDING)
    assert packed["input_ids"].tolist() == [[1, 2, 101, 102], [201, 202, 203, PADDING]]
    assert packed["position_ids"].tolist() == [[0, 1, 0, 1], [0, 1, 2, 0]]
    assert packed["labels"][1, 3] == IGNORED
    longer = pack(batch_of([4, 1, 1]), 4, PADDING)
    assert longer["position_ids"].tolist() == [[0, 1, 2, 3], [0, 0, 0, 0]]


def test_a_row_longer_than_the_limit_stays_alone() -> None:
    assert pack(batch_of([1, 6, 1, 1]), 3, PADDING)["input_ids"].shape == (3, 6)


def test_without_a_limit_there_is_one_row_and_no_padding() -> None:
    packed = pack(batch_of([3, 2, 4]), None, PADDING)
    assert packed["input_ids"].shape == (1, 9)
    assert PADDING not in packed["input_ids"]


def test_rows_that_were_padded_on_the_left_are_the_same() -> None:
    right, left = batch_of([3, 2]), batch_of([3, 2])
    for key in ("input_ids", "labels", "attention_mask"):
        left[key][1] = left[key][1].roll(1)
    from_left, expected = pack(left, 5, PADDING), pack(right, 5, PADDING)
    assert all(
        torch.equal(torch.as_tensor(from_left[key]), torch.as_tensor(expected[key]))
        for key in expected
    )


def test_masked_rows_are_counted_where_they_can_no_longer_be_seen() -> None:
    batch = batch_of(
        [3, 2, 4, 1]
    )  # the last one has a label on its first token alone, which nothing predicts
    batch["labels"][1] = IGNORED
    assert pack(batch, None, PADDING)["masked_rows"] == 2
    del batch["task_ids"]
    assert "masked_rows" not in pack(batch, None, PADDING)


def test_counts_by_task_do_not_change() -> None:
    padded = with_task_ids(pad, TASKS)(rows())
    packed = pack(padded, 40, PADDING)
    assert torch.equal(
        token_counts(packed["labels"], packed["task_ids"], 3),
        token_counts(padded["labels"], padded["task_ids"], 3),
    )


@pytest.mark.parametrize(
    "field",
    [
        {"image_grid_thw": torch.ones(1, 3)},
        {"position_ids": torch.zeros(2, 3)},
        {"names": ["a", "b"]},
    ],
)
def test_fields_that_cannot_be_packed_are_rejected(field: dict[str, Any]) -> None:
    with raises(DataError, "model-not-supported", *field):
        pack(batch_of([3, 2], **field), 5, PADDING)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(
    "length", [45, *(pytest.param(n, marks=pytest.mark.extended) for n in (100, None))]
)
@pytest.mark.parametrize(
    "data", [from_the_first_token(rows()), with_images(MIXED)], ids=["text", "images"]
)
def test_packed_is_padded(
    checkpoint: Path, tmp_path: Path, data: list[dict[str, Any]], length: int | None, attention: str
) -> None:
    """Rows of different tasks in one; the gradient is that of padded rows, and so are the losses by
    task.
    """
    loading = {"attn_implementation": attention}
    collator = packed(with_task_ids(pad, TASKS), length, PADDING)
    shapes = {tuple(collator(data[start : start + 8])["input_ids"].shape) for start in (0, 8)}
    assert all(count < 8 for count, _ in shapes)
    packed_update = update(
        checkpoint, tmp_path, 8, 2, data=data, collator=collator, loading=dict(loading)
    )
    expected = update(checkpoint, tmp_path, 8, 2, data=data, loading=dict(loading))
    assert distance(packed_update, expected) < 1e-5
    assert packed_update["log"][0]["task_losses"] == pytest.approx(
        expected["log"][0]["task_losses"], rel=1e-5
    )
    assert packed_update["log"][0]["task_tokens"] == expected["log"][0]["task_tokens"]
    assert packed_update["log"][0]["masked_rows"] == expected["log"][0]["masked_rows"]
    assert packed_update["check"].error < 1e-3


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_row_does_not_see_its_neighbour(checkpoint: Path, attention: str) -> None:
    model = AutoModelForImageTextToText.from_pretrained(
        checkpoint, attn_implementation=attention
    ).eval()
    first, second = pack(batch_of([3, 4]), None, PADDING), pack(batch_of([3, 4]), None, PADDING)
    second["input_ids"][0, :3] = torch.tensor([30, 31, 32])
    for batch in (first, second):
        batch["input_ids"] %= 300
        batch["input_ids"][batch["input_ids"] == IMAGE] = 50
    with torch.no_grad():
        outputs = [model(**for_model(batch)).logits for batch in (first, second)]
    assert not torch.allclose(outputs[0][0, :3], outputs[1][0, :3])
    torch.testing.assert_close(outputs[0][0, 3:], outputs[1][0, 3:])
