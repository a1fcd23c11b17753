"""A family's checkpoint with a few rows for it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from cotbal.data.batches.collate import Collator, Row
from cotbal.data.batches.questions import QuestionCollator, collator_for
from cotbal.data.reading.record import Record, Turn
from cotbal.recipe.model_section import ModelSection
from cotbal.training import vlm
from helpers.all_families import ALL
from helpers.family_builders import Family
from helpers.tiny_families import build

WORDS = ("n", "e")  # one token each in every tokenizer, whatever stands before them


class Case:
    """One family's checkpoint with a few rows for it."""

    def __init__(self, name: str, root: Path) -> None:
        self.name = name
        self.family: Family = ALL[name]
        self.checkpoint = build(self.family, root / name)
        self.images = root / "images"
        self.processor = vlm.load(str(self.checkpoint), "float32", False)[1]
        self.collator = self.collate_with(400)
        self.loaded: dict[str, Any] = {}

    def collate_with(self, max_length: int) -> Collator | QuestionCollator:
        return collator_for(self.processor, self.images, max_length)

    def model(self, dtype: str = "float32", **settings: Any) -> Any:
        """A fresh model, prepared as the settings say, or as it is without any."""
        if dtype not in self.loaded:
            self.loaded[dtype] = vlm.load(str(self.checkpoint), dtype, False)[0]
        model = copy.deepcopy(self.loaded[dtype])
        return (
            vlm.prepare(model, ModelSection(checkpoint="x", dtype=dtype, **settings))
            if settings
            else model.eval()
        )

    def image_tokens(self) -> Tensor:
        """Ids of the tokens that stand for images, from the processor and the configuration."""
        config = self.model().config
        named = [getattr(config, f"image_token_{kind}", None) for kind in ("id", "index")]
        return torch.tensor(
            [one for one in (*self.processor.image_token_ids, *named) if one is not None]
        )

    def rows(self, word: str = "n") -> list[Row]:
        """With one image, none, and two; where the family takes conversations, several turns and
        a late image.
        """
        made = [
            row("<image>\nwhich color?", word, images=("red.png",)),
            row("what is a tree?", f"{word} {word}"),
            row("<image>\n<image>\nwhat is left?", word, images=("wide.png", "blue.png")),
        ]
        if not self.family.mixes:
            made[1] = row("<image>\nwhat is a tree?", f"{word} {word}", images=("blue.png",))
        if self.family.template is None:
            return made
        late = row("<image>\nwhat?", word, "<image>\nright?", word, images=("wide.png", "red.png"))
        return [
            *made,
            row("<image>\nleft?", word, "right?", f"{word} {word}", images=("blue.png",)),
            late,
        ]


def row(*texts: str, images: Sequence[str] = ()) -> Row:
    turns = tuple(Turn("user" if i % 2 == 0 else "assistant", text) for i, text in enumerate(texts))
    return Row(Record("r1", None, tuple(images), turns, (texts[-1],), 7), "task", None)


def paint(folder: Path) -> None:
    (folder / "images").mkdir()
    for name, size, color in (
        ("red", (16, 16), "red"),
        ("blue", (16, 16), "blue"),
        ("wide", (32, 16), "green"),
    ):
        image = Image.new("RGB", size, color)
        image.putpixel((3, 5), (255, 255, 255))
        image.save(folder / "images" / f"{name}.png")


def one_thread(name: str, root: Path) -> Iterator[Case]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Case(name, root)
    torch.set_num_threads(threads)
