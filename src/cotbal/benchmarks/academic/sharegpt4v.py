"""ShareGPT4V (Chen et al. 2023): detailed descriptions of images by GPT-4V, the 100k set."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from cotbal.benchmarks.releases.benchmark import SplitPlan, TaskPlan
from cotbal.benchmarks.releases.conversation import Conversation
from cotbal.benchmarks.releases.gallery import inside
from cotbal.benchmarks.releases.llava import identity, paired
from cotbal.benchmarks.releases.rules import drawn
from cotbal.benchmarks.releases.sources import Files, Job, Source
from cotbal.benchmarks.releases.visatb import visatb_source
from cotbal.benchmarks.releases.writing import Expected

NAME = "ShareGPT4V"
HELD_OUT = 2_000  # in validation, and again in test
_FOLDERS = (
    "coco/train2017",
    "sam/images",
    "llava/llava_pretrain/images",
    "share_textvqa/images",
    "web-celebrity/images",
    "web-landmark/images",
    "wikiart/images",
)
_FILES = {"captions": "Lin-Chen/ShareGPT4V/sharegpt4v_instruct_gpt4-vision_cap100k.json"}
_RELEASED = {"train": "train", "validation": "val", "test": "test"}
_GET = (
    "hf download Lin-Chen/ShareGPT4V sharegpt4v_instruct_gpt4-vision_cap100k.json --repo-type"
    " dataset --local-dir RAW/Lin-Chen/ShareGPT4V"
)


def plan() -> TaskPlan:
    """Where ShareGPT4V comes from and what its splits hold (Table 8: 98k conversations)."""

    def split(name: str, expected: Expected) -> SplitPlan:
        released = visatb_source(
            "Academic", NAME, _RELEASED[name], together=tuple(_RELEASED.values())
        )
        return SplitPlan(
            name, (Source("original", _FILES, _GET, partial(_read, name)), released), expected
        )

    return TaskPlan(
        NAME,
        "cider",
        (
            split("train", Expected(98_000, rounded_to=1000)),
            split("validation", Expected(HELD_OUT, HELD_OUT)),
            split("test", Expected(HELD_OUT, HELD_OUT)),
        ),
        folders=_FOLDERS,
        remarks=(
            (
                "ShareGPT4V: which 2,000 images are validation and which test is not published;"
                " the seed draws."
            ),
        ),
    )


def _read(split: str, files: Files, job: Job) -> Iterator[Conversation]:
    """The held-out images are drawn first; no description of them stays in the training split."""
    images = dict.fromkeys(str(record.image) for record in _all(files, job))
    size = min(HELD_OUT, len(images) // 3)
    order = drawn(images, 2 * size, job.choices.seed, "pictures")
    if split == "train":
        shunned = frozenset(order)
        return (record for record in _all(files, job) if record.image not in shunned)
    mine = order[:size] if split == "validation" else order[size:]
    return _one_each(_all(files, job), mine, split)


def _one_each(
    conversations: Iterator[Conversation], images: list[str], split: str
) -> Iterator[Conversation]:
    """The first description of every image."""
    waiting = set(images)
    for record in conversations:
        if record.image in waiting:
            waiting.remove(str(record.image))
            yield Conversation(f"{split}_{record.id}", record.image, record.turns)


def _all(files: Files, job: Job) -> Iterator[Conversation]:
    (path,) = files["captions"]
    for row in job.list_rows(path, "item", ("id", "image", "conversations")):
        turns = paired(row)
        if len(turns) != 1:
            raise row.error(
                f"conversations: expected one question and its answer; found {len(turns)} pairs",
                "invalid-turns",
            )
        yield Conversation(identity(row), inside(row.text("image"), row.where), turns)
