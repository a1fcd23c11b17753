"""LLaVA-Instruct-150K (Liu et al. 2023): conversations, descriptions and reasoning about COCO
images, by GPT-4.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from cotbal.benchmarks.releases.conversation import Conversation
from cotbal.benchmarks.releases.gallery import coco_2014
from cotbal.benchmarks.releases.llava import identity, paired
from cotbal.benchmarks.releases.rows import Row
from cotbal.benchmarks.releases.sources import Files, Job, Source

_HUB = "liuhaotian/LLaVA-Instruct-150K"


def train_source(file: str) -> Source:
    """The training conversations of one task, in the file that LLaVA released on the hub."""
    get = f"hf download {_HUB} {file} --repo-type dataset --local-dir RAW/{_HUB}"
    return Source("original", {"conversations": f"{_HUB}/{file}"}, get, _read)


def _read(files: Files, job: Job) -> Iterator[Conversation]:
    (path,) = files["conversations"]
    for row in job.list_rows(path, "item", ("id", "image", "conversations")):
        image = coco_2014(job.gallery, coco_id(row, "train2014"), "train2014")
        yield Conversation(identity(row), image, paired(row))


def coco_id(row: Row, split: str) -> int:
    """The number of the COCO image that a row names by file alone: `000000442786.jpg`, or as COCO
    2014 names it, `COCO_val2014_000000441147.jpg`.

    Args:
        split: train2014 or val2014, which the image is of.

    Raises:
        DataError: the name is of another form, or of the other split.
    """
    named = re.fullmatch(rf"(?:COCO_{split}_)?([0-9]+)\.jpg", row.text("image"))
    if named is None:
        raise row.error(
            "image: expected the name of a COCO image such as 000000442786.jpg or"
            f" COCO_{split}_000000442786.jpg; found {row.text('image')[:60]!r}",
            "invalid-name",
        )
    return int(named[1])
