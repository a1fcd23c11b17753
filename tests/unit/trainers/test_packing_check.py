"""Models that do not keep packed rows apart are found before a training starts, and others are not
accused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration

from cotbal.errors import CotbalError, DataError
from cotbal.loss import IGNORED
from cotbal.training.trainers.hf import with_task_ids
from cotbal.training.trainers.packing_check import PackingCheck, check_packing
from helpers.errors import raises
from helpers.trainer_cases import TASKS, pad, rows, with_images

TEXT, WITH_IMAGE = rows()[:4], with_images([0, 3])[:4]


class Deaf(LlavaForConditionalGeneration):
    """Never hears where a row begins."""

    def forward(self, *args: Any, position_ids: Tensor | None = None, **more: Any) -> Any:
        return super().forward(*args, **more)


class OnlyFlat(LlavaForConditionalGeneration):
    """Keeps rows apart in a batch of one packed row alone, as transformers does with flash
    attention.
    """

    def forward(self, input_ids: Tensor, position_ids: Tensor | None = None, **more: Any) -> Any:
        return super().forward(
            input_ids, position_ids=position_ids if len(input_ids) == 1 else None, **more
        )


class OnlyPlaces(LlavaForConditionalGeneration):
    """Counts the places of a row from its beginning, but lets it see its neighbours."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **more: Any) -> Any:
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        return super().forward(input_ids, attention_mask=mask, **more)


def load(checkpoint: Path, kind: type[LlavaForConditionalGeneration], **more: Any) -> nn.Module:
    return kind.from_pretrained(checkpoint, **more).train()


def check(
    model: nn.Module,
    data: list[dict[str, Any]],
    collator: Callable[[list[Any]], Any] = pad,
    dtype: str = "float32",
) -> PackingCheck | None:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bfloat16"):
        return check_packing(model, with_task_ids(collator, TASKS), data, padding=7)


@pytest.mark.parametrize(
    ("data", "dtype", "attention"),
    [  # every pair of two of them
        (TEXT, "float32", "eager"),
        (TEXT, "bfloat16", "sdpa"),
        (WITH_IMAGE, "float32", "sdpa"),
        (WITH_IMAGE, "bfloat16", "eager"),
    ],
    ids=["text", "text, bfloat16", "images", "images, bfloat16"],
)
def test_llava_keeps_rows_apart(
    checkpoint: Path, data: list[dict[str, Any]], dtype: str, attention: str
) -> None:
    model = load(checkpoint, LlavaForConditionalGeneration, attn_implementation=attention)
    result = check(model, data, dtype=dtype)
    assert result is not None
    assert result.error < (0.1 if dtype == "bfloat16" else 1e-4) * result.neighbours
    assert result.neighbours > 1e-3
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("data", "dtype"),
    [(TEXT, "float32"), (WITH_IMAGE, "bfloat16")],
    ids=["text", "images, bfloat16"],
)
@pytest.mark.parametrize("kind", [Deaf, OnlyFlat, OnlyPlaces])
def test_a_model_that_lets_rows_see_each_other_is_caught(
    checkpoint: Path,
    kind: type[LlavaForConditionalGeneration],
    data: list[dict[str, Any]],
    dtype: str,
) -> None:
    names = (kind.__name__, "optimization.packing=false")
    with raises(CotbalError, "unsupported-packing", *names):
        check(load(checkpoint, kind), data, dtype=dtype)


def test_it_looks_through_adapters(checkpoint: Path) -> None:
    adapters = LoraConfig(r=2, target_modules=["q_proj"], lora_dropout=0.5)
    good = get_peft_model(load(checkpoint, LlavaForConditionalGeneration), adapters)
    assert check(good, TEXT).error < 1e-6  # dropout would show
    with raises(CotbalError, "unsupported-packing", "Deaf"):
        check(get_peft_model(load(checkpoint, Deaf), adapters), TEXT)


def test_a_model_without_positions_is_rejected() -> None:
    class Convolution(nn.Module):
        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> None:
            raise AssertionError("nothing to compute")

    names = ("Convolution", "position_ids", "optimization.packing=false")
    with raises(CotbalError, "unsupported-packing", *names):
        check(Convolution(), TEXT)


def test_a_family_with_other_fields_is_rejected(checkpoint: Path) -> None:
    def with_grid(batch: list[dict[str, Any]]) -> dict[str, Any]:
        return {**pad(batch), "image_grid_thw": torch.ones(1, 3, dtype=torch.long)}

    with raises(DataError, "model-not-supported", "image_grid_thw", "optimization.packing: false"):
        check(load(checkpoint, LlavaForConditionalGeneration), TEXT, with_grid)


def test_one_row_has_no_neighbour(checkpoint: Path) -> None:
    assert check(load(checkpoint, Deaf), TEXT[:1]) is None


def test_rows_on_which_nothing_can_be_seen_are_reported(
    checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a valid token behind another row there is nothing to compare, and so nothing to
    accuse.
    """
    silent = [
        TEXT[0],
        *({**row, "labels": torch.full_like(row["labels"], IGNORED)} for row in TEXT[1:]),
    ]
    with caplog.at_level(logging.WARNING):
        result = check(load(checkpoint, Deaf), silent)
    assert result is not None
    assert result.error < 1e-6
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "optimization.packing" in record.getMessage()
