"""LLaVA-1.5's own mixture (`llava_v1_5_mix665k.json`, Liu et al. 2023), which holds some tasks in
their final form.

Conversations are distinguished by the folder of their image. Those on COCO images are not: five
tasks share them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from cotbal.benchmarks.releases.conversation import Conversation
from cotbal.benchmarks.releases.gallery import inside
from cotbal.benchmarks.releases.llava import identity, paired
from cotbal.benchmarks.releases.sources import Files, Job, Source

_FOLDERS = ("coco/", "gqa/", "ocr_vqa/", "textvqa/", "vg/")
_GET = (
    "hf download liuhaotian/LLaVA-Instruct-150K llava_v1_5_mix665k.json --repo-type dataset "
    "--local-dir RAW/liuhaotian/LLaVA-Instruct-150K"
)


def mix_source(folder: str | None) -> Source:
    """The conversations of LLaVA-1.5's mixture whose images are in `folder`, or those without an
    image.
    """
    files = {"mixture": "liuhaotian/LLaVA-Instruct-150K/llava_v1_5_mix665k.json"}
    return Source("mix665k", files, _GET, partial(_read, folder))


def _read(folder: str | None, files: Files, job: Job) -> Iterator[Conversation]:
    (path,) = files["mixture"]
    for row in job.list_rows(path, "item", ("id", "conversations"), ("image", "model")):
        image = inside(row.text("image"), row.where) if "image" in row.fields else None
        if image is not None and not image.startswith(_FOLDERS):
            raise row.error(
                f"image: expected an image in one of {', '.join(_FOLDERS)}; found {image!r}",
                "invalid-name",
            )
        if _is_in(image, folder):
            yield Conversation(identity(row), image, paired(row))


def _is_in(image: str | None, folder: str | None) -> bool:
    """Whether an image is in the folder; for no folder, whether there is no image."""
    if image is None or folder is None:
        return image is folder
    return image.startswith(folder)
