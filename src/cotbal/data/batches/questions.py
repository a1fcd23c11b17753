"""Batches for processors that receive question and answer separately, without a chat template
(PaliGemma).

The form is the one that the model was pretrained on: images, start token, question and a line
break see each other from both sides (the prefix), and the answer with its end token follows from
left to right (the suffix). The processor marks the two by `token_type_ids`, and the model makes its
mask from them. A second question is not supported: conversations of several are an error before
training begins. Records without an image have no image tokens.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cotbal.data.batches.collate import (
    REJECTIONS,
    Batch,
    Collator,
    Range,
    Row,
    cut,
    rejection,
)
from cotbal.data.reading.record import IMAGE, with_instruction
from cotbal.data.reading.records import Records
from cotbal.errors import DataError
from cotbal.loss import IGNORED

# An image goes to the front; the words on its two sides stay apart.
_BETWEEN_WORDS = re.compile(rf"(?<=\S){IMAGE}(?=\S)")


def collator_for(
    processor: Any, images: Path, max_length: int, files: Iterable[Records] = ()
) -> Collator:
    """The collator of the form that a processor takes; see `Collator` for the arguments.

    Args:
        files: the records that will be trained on.

    Raises:
        DataError: the processor cannot be used, takes one question per record and `files` hold
            more, or the model has cross-attention layers for images and `files` hold
            records without an image beside others.
    """
    files = list(files)
    if "cross_attention_mask" in getattr(processor, "model_input_names", ()):
        _need_like_rows(files, type(processor).__name__)
    if "suffix" not in inspect.signature(type(processor).__call__).parameters:
        return Collator(processor, images, max_length)
    for records in files:
        _need_single_questions(records, type(processor).__name__)
    return QuestionCollator(processor, images, max_length)


def _need_single_questions(records: Records, processor: str) -> None:
    several = (records.answers() > 1).nonzero()[0]
    if len(several):
        first = records[int(several[0])]
        raise DataError(
            f"{records.source}, record {first.number} ({first.id}): {processor} takes one question"
            f" and one answer per record; found {len(several)} records with more. Cut them into"
            " records of one question each",
            "several-questions",
        )


def _need_like_rows(files: Sequence[Records], processor: str) -> None:
    """Cross-attention layers for images are skipped where a batch has none, and change rows of
    text alone where it has.

    So the loss and the answer of a row without an image would depend on the rows beside it
    (Mllama).
    """
    counts = [records.image_counts() for records in files]
    some = any(count.any() for count in counts)
    if some and not all(count.all() for count in counts):
        without = next(i for i, count in enumerate(counts) if not count.all())
        records = files[without]
        first = records[int(counts[without].argmin())]
        raise DataError(
            f"{records.source}, record {first.number} ({first.id}) has no image: with {processor}"
            " the loss of a record without an image depends on its neighbours; train on images"
            " alone, or on texts alone",
            "records-without-image",
        )


class QuestionCollator(Collator):
    """Turns rows of one question and answer into one padded batch."""

    def _end(self) -> str:
        return str(self.tokenizer.eos_token)

    def training(self, rows: Sequence[Row]) -> Batch:
        """Tensors for training, as `Collator.training` makes them, with `token_type_ids` 1 on the
        answers.
        """
        asked = []
        learnt_rows = []
        for row in rows:
            answer = row.record.turns[-1]
            asked.append(self._asked(row, answer.text))
            learnt_rows.append([answer.loss])
        batch = self._padded(asked, "right")
        learnt = torch.tensor(learnt_rows)
        answers = (batch["token_type_ids"] == 1) & (batch["attention_mask"] == 1) & learnt
        batch["labels"] = batch["input_ids"].masked_fill(~answers, IGNORED)
        ends = (batch["input_ids"] == self.placeholder).sum(dim=1).tolist()  # images come first
        return cut(batch, rows, ends, self.max_length)

    def prompt(self, row: Row) -> str:
        """The question."""
        return _question(row)

    def tokens(self, rows: Sequence[Row], texts: Sequence[str]) -> Batch:  # noqa: ARG002
        """Tensors of the questions of these rows, padded on the left."""
        return self._padded([self._asked(row, None) for row in rows], "left")

    def plain(self, row: Row) -> tuple[list[int], list[Range]]:
        """Token ids of a row with one placeholder per image, and the ranges that carry loss."""
        last = row.record.turns[-1]
        asked = self._ids(f"{self.tokenizer.bos_token}{_question(row)}\n")
        answer = self._ids(last.text + self.end)
        ids = [self.placeholder] * len(row.record.images) + asked + answer
        if not last.loss:
            return ids, []
        return ids, [(len(ids) - len(answer), len(ids))]

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _asked(self, row: Row, answer: str | None) -> Batch:
        """Token ids, their types, and the arrays of the images if there are any, in lists."""
        question = _question(row)
        opened = self.opened(row.record)
        if not opened:
            pair = None if answer is None else [answer + self.end]
            text = [f"{self.tokenizer.bos_token}{question}\n"]
            encoded = self.tokenizer(text, text_pair=pair, return_token_type_ids=True)
        else:
            text = [self.processor.image_token * len(opened) + question]
            suffix = None if answer is None else [answer]
            try:
                encoded = self.processor(text=text, images=[opened], suffix=suffix)
            except REJECTIONS as error:
                raise rejection(row.record, self.processor, opened, error) from error
        return {key: value for key, value in encoded.items() if key != "labels"}

    def _padded(self, rows: list[Batch], side: str) -> Batch:
        fields = ("input_ids", "attention_mask", "token_type_ids")
        tokens: dict[str, list[Any]] = {}
        for key in fields:
            tokens[key] = [row[key][0] for row in rows]
        batch = dict(self.tokenizer.pad(tokens, padding_side=side, return_tensors="pt"))
        pixels = [values for row in rows for values in row.get("pixel_values", ())]
        return {**batch, "pixel_values": torch.from_numpy(np.stack(pixels))} if pixels else batch


def _question(row: Row) -> str:
    """The question without image markers, with the instruction of the task."""
    asked = with_instruction(row.record.turns[:-1], row.instruction)
    text = "\n".join(turn.text for turn in asked)
    return _BETWEEN_WORDS.sub("\n", text).replace(IMAGE, "").strip()
