"""Rows to batches: images, tokens, and labels on the assistant's words alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import compress, pairwise
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from cotbal.data.batches.chat import ChatTemplate, Rendered
from cotbal.data.reading.images import resolve
from cotbal.data.reading.recent_images import RecentImages
from cotbal.data.reading.record import IMAGE, Record
from cotbal.errors import DataError
from cotbal.loss import IGNORED
from cotbal.recipe.mixture import Choose

Batch = dict[str, Any]
_TEXTS = 512  # whose tokens are kept: those of an optimizer step
Range = tuple[int, int]  # first and last (exclusive) token
# What processors raise on images or texts that they cannot process.
REJECTIONS = (ValueError, TypeError, IndexError, ArithmeticError, RuntimeError)


@dataclass(frozen=True)
class Row:
    """One record with what its task adds to it; `choose` as in `Task`."""

    record: Record
    task: str
    instruction: str | None
    choose: Choose | None = None

    @property
    def options(self) -> tuple[str, ...]:
        """The texts to choose the answer among; empty where it is generated."""
        if self.choose is None:
            return ()
        return self.record.options


class RejectedImages(DataError):
    """The processor cannot process the images of a record."""

    default_code = "rejected-image"


def rejection(
    record: Record, processor: Any, images: Sequence[Image.Image], error: Exception
) -> RejectedImages:
    """The error that names the record, the sizes of its images and what the processor reports."""
    sizes = ", ".join(f"{image.width} x {image.height} pixels" for image in images) or "the text"
    reason = f"{type(processor).__name__} rejects {sizes} ({error})"
    return RejectedImages(f"record {record.number} ({record.id}): {reason}")


class Collator:
    """Turns rows into one padded batch for the model.

    Args:
        processor: the checkpoint's own, with a chat template.
        images: root of relative image paths.
        max_length: tokens of a row, images included; what goes beyond is cut off at the end.

    Raises:
        DataError: the chat template is missing, or cannot write a question about an image.

    Attributes:
        end: token that ends a turn, and with it the generation of an answer.
        placeholder: id of the token that the template writes for an image.
    """

    def __init__(self, processor: Any, images: Path, max_length: int) -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.images = images
        self.max_length = max_length
        self.recent = RecentImages()
        # Where rows are grouped by length, a text is tokenised before its batch is made.
        self._unexpanded = lru_cache(_TEXTS)(self._tokenised)
        self.end = self._end()
        self.placeholder: int = self.tokenizer.convert_tokens_to_ids(processor.image_token)

    def _end(self) -> str:
        self.chat = ChatTemplate.of(self.processor)
        return self.chat.end

    def training(self, rows: Sequence[Row]) -> Batch:
        """Tensors for training: `input_ids`, `labels` [row, position], ..., padded on the right.

        Raises:
            DataError: an image is broken, or images alone exceed `max_length`.
        """
        rendered = [self._rendered(row) for row in rows]
        opened = [self.opened(row.record) for row in rows]
        batch = self._tokens(rows, [r.text for r in rendered], opened, "right")
        padded = batch["input_ids"]
        labels = torch.full_like(padded, IGNORED)
        ends = []
        for i, (row, text) in enumerate(zip(rows, rendered, strict=True)):
            is_token = batch["attention_mask"][i].bool()
            ids = padded[i][is_token]
            for start, stop in self._assistant_positions(row, text, ids):
                labels[i, start:stop] = padded[i, start:stop]
            is_cut = len(ids) > self.max_length
            ends.append(self._end_of_images(text, len(ids)) if is_cut else 0)
        batch["labels"] = labels
        return cut(batch, rows, ends, self.max_length)

    def prompts(self, rows: Sequence[Row]) -> Batch:
        """Tensors for generation: the rows up to the point where the assistant answers, padded on
        the left.
        """
        return self.tokens(rows, [self.prompt(row) for row in rows])

    def prompt(self, row: Row) -> str:
        """The text of a row up to the point where the assistant answers, one placeholder per
        image.
        """
        return self.chat.prompt(row.record.turns[:-1], row.instruction)

    def tokens(self, rows: Sequence[Row], texts: Sequence[str]) -> Batch:
        """Tensors of these texts about the images of the rows, padded on the left."""
        opened = [self.opened(row.record) for row in rows]
        return self._tokens(rows, list(texts), opened, "left")

    def unexpanded(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts, one placeholder per image."""
        start = self._adds_start(texts[0])
        ids: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=start)["input_ids"]
        return ids

    def opened(self, record: Record) -> list[Image.Image]:
        """The images of a record.

        Raises:
            DataError: one is missing or broken, with the number of the record.
        """
        try:
            return [self.recent.open(resolve(self.images, name)) for name in record.images]
        except DataError as error:
            raise DataError(f"record {record.number} ({record.id}): {error}", error.code) from None

    def _rendered(self, row: Row) -> Rendered:
        """The conversation, with the spans of the answers that carry loss."""
        rendered = self.chat.render(row.record.turns, row.instruction)
        marks = [turn.loss for turn in row.record.turns if turn.role == "assistant"]
        if all(marks):
            return rendered
        if len(marks) != len(rendered.spans):
            raise DataError(
                f"record {row.record.number} ({row.record.id}): the chat template marks"
                f" {len(rendered.spans)} spans of {len(marks)} answers, so single answers cannot be"
                " left without loss",
                "invalid-chat-template",
            )
        return replace(rendered, spans=tuple(compress(rendered.spans, marks)))

    def plain(self, row: Row) -> tuple[list[int], list[Range]]:
        """Token ids of a row with one placeholder per image, and the ranges that carry loss."""
        return self._unexpanded(self._rendered(row))

    def _tokens(
        self, rows: Sequence[Row], texts: list[str], opened: list[list[Image.Image]], side: str
    ) -> Batch:
        """
        Raises:
            RejectedImages: the processor cannot process the images of a row.
            DataError: it cannot process these rows together.
        """
        try:
            return self._processed(texts, opened, side)
        except REJECTIONS as error:
            if len(rows) == 1:
                raise rejection(rows[0].record, self.processor, opened[0], error) from error
            for row, text, images in zip(rows, texts, opened, strict=True):
                self._tokens([row], [text], [images], side)
            raise DataError(
                f"{type(self.processor).__name__} makes no batch of rows with "
                f"{', '.join(str(len(images)) for images in opened)} images: {error}",
                "processor-failed",
            ) from error

    def _processed(self, texts: list[str], opened: list[list[Image.Image]], side: str) -> Batch:
        batch = self.processor(
            text=texts,
            images=opened if any(opened) else None,
            padding=True,
            padding_side=side,
            add_special_tokens=self._adds_start(texts[0]),
            return_tensors="pt",
        )
        # Llama 4's processor has them in bfloat16 whatever the model computes in.
        return {key: value.float() if _is_float(value) else value for key, value in batch.items()}

    def _adds_start(self, text: str) -> bool:
        """A template that writes the start token itself must not get a second one from the
        tokenizer.
        """
        bos = self.tokenizer.bos_token
        return not (bos and text.startswith(bos))

    def _tokenised(self, text: Rendered) -> tuple[list[int], list[Range]]:
        """Token ids of the text (one placeholder per image) and the token ranges of
        the spans in it.
        """
        encoded = self.tokenizer(
            text.text, add_special_tokens=self._adds_start(text.text), return_offsets_mapping=True
        )
        offsets = encoded["offset_mapping"]
        return encoded["input_ids"], [_covering(span, offsets) for span in text.spans]

    def _end_of_images(self, text: Rendered, length: int) -> int:
        """Tokens of an expanded row up to the end of its last image; nothing behind that is
        expanded.
        """
        plain, _ = self._unexpanded(text)
        if self.placeholder not in plain:
            return 0
        behind = plain[::-1].index(self.placeholder)
        return length - behind

    def _assistant_positions(self, row: Row, text: Rendered, ids: Tensor) -> list[Range]:
        """Ranges of the assistant's tokens in the expanded row.

        A processor replaces each placeholder by many tokens, so positions move, but nothing behind
        the last placeholder changes: positions are counted from the end. Where an image follows an
        assistant turn, the text between images is looked for in the row.
        """
        first_answer = next(
            i for i, turn in enumerate(row.record.turns) if turn.role == "assistant"
        )
        plain, ranges = self._unexpanded(text)
        if any(IMAGE in turn.text for turn in row.record.turns[first_answer:]):
            moved = aligned(plain, ranges, ids.tolist(), self.placeholder)
            agree = len(moved) == sum(start < stop for start, stop in ranges)
        else:
            filled = [(start, stop) for start, stop in ranges if start < stop]
            first = min((start for start, _ in filled), default=len(plain))
            shift = len(ids) - len(plain)
            agree = ids[first + shift :].tolist() == plain[first:]
            moved = [(start + shift, stop + shift) for start, stop in filled]
        if not agree:
            raise DataError(
                f"record {row.record.number} ({row.record.id}): the processor changes the text"
                " behind the last image, so the assistant's words cannot be found",
                "model-not-supported",
            )
        return moved


def _covering(span: tuple[int, int], offsets: Sequence[Sequence[int]]) -> Range:
    """The tokens that hold characters of the span: a word's first token may begin with the space
    before the word.
    """
    inside = [
        i
        for i, (start, stop) in enumerate(offsets)
        if start < stop and start < span[1] and stop > span[0]
    ]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)


def aligned(
    plain: list[int], ranges: Sequence[Range], ids: list[int], placeholder: int
) -> list[Range]:
    """Ranges of tokens once each placeholder has become an image; those that are not found are left
    out.

    The text between two placeholders, up to its last range, is searched behind the one before it.
    Little but images is between them, so the first match is the right one. What
    is next to an image may have changed (a space, joined to the first word), so some of the
    first tokens may be absent, though none from the first range on.

    Args:
        plain: token ids with one placeholder per image.
        ranges: in `plain`.
        ids: the same with images.
    """
    moved: list[Range] = []
    behind = 0
    for start, stop in _pieces(plain, placeholder):
        inside = [one for one in ranges if start <= one[0] < one[1] <= stop]
        if not inside:
            continue
        first, last = inside[0][0], inside[-1][1]
        shift = _shift(plain[:last], range(start, first + 1), ids, behind)
        if shift is None:
            break
        moved += [(a + shift, b + shift) for a, b in inside]
        behind = last + shift
    return moved


def _shift(plain: list[int], firsts: range, ids: list[int], behind: int) -> int | None:
    """How far the end of `plain`, from the earliest of `firsts` that matches, is shifted in `ids`,
    from index `behind` on.
    """
    for first in firsts:
        wanted = plain[first:]
        for at in range(behind, len(ids) - len(wanted) + 1):
            if ids[at : at + len(wanted)] == wanted:
                return at - first
    return None


def _pieces(plain: list[int], placeholder: int) -> list[Range]:
    """Ranges of tokens between placeholders."""
    images = [i for i, token in enumerate(plain) if token == placeholder]
    borders = [-1, *images, len(plain)]
    return [(a + 1, b) for a, b in pairwise(borders)]


def cut(batch: Batch, rows: Sequence[Row], ends: Sequence[int], max_length: int) -> Batch:
    """The batch without what is behind `max_length` tokens.

    Args:
        ends: tokens of every row up to the end of its last image.

    Raises:
        DataError: an image ends behind `max_length`.
    """
    shape = batch["input_ids"].shape
    if shape[1] <= max_length:
        return batch
    lost = [row.record for row, end in zip(rows, ends, strict=True) if end > max_length]
    if lost:
        raise DataError(
            f"record {lost[0].number} ({lost[0].id}): its images need more than max_length ="
            f" {max_length} tokens",
            "images-too-long",
        )
    return {
        key: value[:, :max_length] if by_position(value, shape) else value
        for key, value in batch.items()
    }


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def by_position(value: Any, shape: torch.Size) -> bool:
    """Whether a field has a value per position: ids, types, masks, also of the images that a
    position may see.
    """
    if not isinstance(value, Tensor) or value.shape[:2] != shape:
        return False
    return value.dim() == 2 or not _is_float(value)
