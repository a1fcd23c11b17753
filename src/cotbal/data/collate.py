"""Rows to batches: pictures, tokens, and labels on the assistant's words alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from cotbal.data.chat import PICTURE, Rendered, messages, render, render_prompt
from cotbal.data.pictures import open_picture, resolve
from cotbal.data.records import Record
from cotbal.errors import DataError
from cotbal.loss import IGNORED

Batch = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One record with what its task adds to it."""

    record: Record
    task: str
    instruction: str | None


class Collator:
    """Turns rows into one padded batch for the model.

    Args:
        processor: the checkpoint's own, with a chat template.
        images: root of relative picture paths.
        max_length: tokens of a row, pictures included; what goes beyond is cut off at the end.
    """

    def __init__(self, processor: Any, images: Path, max_length: int) -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.images = images
        self.max_length = max_length
        self.template = chat_template(processor)

    def training(self, rows: Sequence[Row]) -> Batch:
        """Tensors for training: `input_ids`, `labels` [row, position], ..., padded on the right.

        Raises:
            DataError: a picture is broken, or pictures alone exceed `max_length`.
        """
        rendered = [render(messages(row.record.turns, row.instruction), self.template, self.tokenizer) for row in rows]
        pictures = [self._pictures(row.record) for row in rows]
        batch = self._tokens([r.text for r in rendered], pictures, "right")
        labels = torch.full_like(batch["input_ids"], IGNORED)
        for i, (row, text) in enumerate(zip(rows, rendered, strict=True)):
            ids = batch["input_ids"][i][batch["attention_mask"][i].bool()]
            for start, stop in self._assistant_positions(row, text, pictures[i], ids):
                labels[i, start:stop] = batch["input_ids"][i, start:stop]
        batch["labels"] = labels
        return self._cut(batch, rows)

    def prompts(self, rows: Sequence[Row]) -> Batch:
        """Tensors for generation: the rows up to the point where the assistant answers, padded on the left."""
        texts = [
            render_prompt(messages(_question(row.record), row.instruction), self.template, self.tokenizer)
            for row in rows
        ]
        return self._tokens(texts, [self._pictures(row.record) for row in rows], "left")

    def valid_tokens(self, row: Row) -> int:
        """Number of tokens of a row that carry loss, found without opening its pictures."""
        text = render(messages(row.record.turns, row.instruction), self.template, self.tokenizer)
        return sum(stop - start for start, stop in self._unexpanded(text)[1])

    def _pictures(self, record: Record) -> list[Image.Image]:
        try:
            return [open_picture(resolve(self.images, name)) for name in record.images]
        except DataError as error:
            raise DataError(f"record {record.number} ({record.id}): {error}") from None

    def _tokens(self, texts: list[str], pictures: list[list[Image.Image]], side: str) -> Batch:
        bos = self.tokenizer.bos_token
        # A template that writes the start token itself must not get a second one from the tokenizer.
        special = not (bos and texts[0].startswith(bos))
        found = self.processor(
            text=texts,
            images=pictures if any(pictures) else None,
            padding=True,
            padding_side=side,
            add_special_tokens=special,
            return_tensors="pt",
        )
        return dict(found)

    def _unexpanded(self, text: Rendered) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids of the text as it stands (one placeholder a picture) and the token ranges of the spans in it."""
        bos = self.tokenizer.bos_token
        found = self.tokenizer(
            text.text, add_special_tokens=not (bos and text.text.startswith(bos)), return_offsets_mapping=True
        )
        offsets = found["offset_mapping"]
        ranges = []
        for start, stop in text.spans:
            inside = [i for i, (a, b) in enumerate(offsets) if a < b and a >= start and b <= stop]
            ranges.append((inside[0], inside[-1] + 1) if inside else (0, 0))
        return found["input_ids"], ranges

    def _assistant_positions(
        self, row: Row, text: Rendered, pictures: list[Image.Image], ids: Tensor
    ) -> list[tuple[int, int]]:
        """Ranges of the assistant's tokens in the expanded row.

        A processor replaces each placeholder by many tokens, so positions move, but nothing behind the last
        placeholder changes: positions are counted from the end. Where a picture follows an assistant turn, the turns
        up to this one are tokenized by themselves.
        """
        spans = [span for span in text.spans if span[0] < span[1]]
        first_answer = next(i for i, turn in enumerate(row.record.turns) if turn.role == "assistant")
        late = any(PICTURE in turn.text for turn in row.record.turns[first_answer:])
        if not late:
            return self._from_end(row, text, ids)
        found = []
        for k, (_, stop) in enumerate(spans, 1):
            head = Rendered(text.text[:stop], (spans[k - 1],))
            seen = sum(turn.text.count(PICTURE) for turn in row.record.turns[: _end_of_turn(row.record, k)])
            head_ids = self._tokens([head.text], [pictures[:seen]], "right")["input_ids"][0]
            found.append(self._from_end(row, head, head_ids)[-1])
        return found

    def _from_end(self, row: Row, text: Rendered, ids: Tensor) -> list[tuple[int, int]]:
        plain, ranges = self._unexpanded(text)
        ranges = [r for r in ranges if r[0] < r[1]]
        if not ranges:
            return []
        tail = len(plain) - ranges[0][0]
        if ids[len(ids) - tail :].tolist() != plain[len(plain) - tail :]:
            raise DataError(
                f"record {row.record.number} ({row.record.id}): the processor changes the text behind the last "
                "picture, so the assistant's words cannot be found"
            )
        shift = len(ids) - len(plain)
        return [(start + shift, stop + shift) for start, stop in ranges]

    def _cut(self, batch: Batch, rows: Sequence[Row]) -> Batch:
        length = batch["input_ids"].shape[1]
        if length <= self.max_length:
            return batch
        picture = getattr(self.processor, "image_token_id", None)
        lost = batch["input_ids"][:, self.max_length :] == picture if picture is not None else torch.zeros(1, 1)
        if lost.any():
            record = rows[int(lost.any(dim=1).nonzero()[0])].record
            raise DataError(
                f"record {record.number} ({record.id}): its pictures need more than "
                f"max_length = {self.max_length} tokens"
            )
        shape = batch["input_ids"].shape
        return {
            key: value[:, : self.max_length] if isinstance(value, Tensor) and value.shape == shape else value
            for key, value in batch.items()
        }


def chat_template(processor: Any) -> str:
    """The chat template of the processor or its tokenizer.

    Raises:
        DataError: there is none.
    """
    template = processor.chat_template or processor.tokenizer.chat_template
    if not isinstance(template, str):
        raise DataError("the checkpoint has no chat template; put a chat_template.jinja beside its processor")
    return template


def _question(record: Record) -> list[Any]:
    return list(record.turns[:-1])


def _end_of_turn(record: Record, k: int) -> int:
    """Number of turns up to and including the k-th assistant turn."""
    answers = [i for i, turn in enumerate(record.turns) if turn.role == "assistant"]
    return answers[k - 1] + 1
