"""RefCOCO and RefCOCOg in the copies that lmms-eval evaluates on (hub: lmms-lab/RefCOCO,
lmms-lab/RefCOCOg).

A row is a region with all its sentences and its image inside. Only the test splits are read:
there is no training split, and the validation splits hold 5,000 rows of another split besides
(8,811 and 7,573 for 3,811 and 2,573).
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence

from cotbal.benchmarks.academic.regions import Pair, Reader, Region
from cotbal.benchmarks.releases.gallery import coco_2014
from cotbal.benchmarks.releases.rows import Row
from cotbal.benchmarks.releases.sources import Files, Job, download
from cotbal.data.reading.image_files import opened

_NAMES = {"refcoco": "RefCOCO", "refcocog": "RefCOCOg"}
_TESTS = (("refcoco", "testA"), ("refcoco", "testB"), ("refcocog", "test"))
_KEYS = ("answer", "bbox", "file_name", "image")
_OTHERS = ("question_id", "question", "segmentation", "iscrowd")
_FILE = re.compile(
    r"COCO_train2014_(\d{12})(_\d+)?\.jpg"
)  # what follows the id belongs to the region


def lmms_form(pairs: Sequence[Pair]) -> Iterator[tuple[str, dict[str, str], str, Reader]]:
    """Name, files, origin and reader of this form, if the data sets and splits in `pairs` are in
    it.
    """
    if not set(pairs) <= set(_TESTS):
        return
    files = {
        f"{dataset} {split}": f"lmms-lab*/{_NAMES[dataset]}/data/{split}-*.parquet"
        for dataset, split in pairs
    }
    name = _NAMES[pairs[0][0]]
    yield (
        "lmms",
        files,
        download(f"lmms-lab/{name}", *files.values()),
        _read,
    )


def _read(dataset: str, split: str, files: Files, job: Job) -> Iterator[Region]:
    rows = job.table_rows(files[f"{dataset} {split}"], _KEYS, _OTHERS)
    for number, row in enumerate(rows):
        match = _FILE.fullmatch(row.text("file_name"))
        if match is None:
            raise row.error(
                "file_name: expected an image such as COCO_train2014_000000581857_16.jpg; "
                f"found {ascii(row.text('file_name'))[:60]}",
                "invalid-name",
            )
        content, box = row.image("image"), row.box("bbox")
        width, height = _size(content, row)
        _need_inside(row, box, width, height)
        texts = (text.strip() for text in row.texts("answer"))
        image_id = int(match[1])
        job.gallery.keep(coco_2014(job.gallery, image_id, "train2014"), content)
        yield Region(
            dataset,
            number,
            image_id,
            box,
            width,
            height,
            tuple(enumerate(text for text in texts if text)),
        )


def _size(content: bytes, row: Row) -> tuple[int, int]:
    try:
        with opened(io.BytesIO(content)) as image:
            return image.size
    except Exception:  # Pillow's decoders raise errors of many kinds on broken data
        raise row.error(
            "image: expected the image that the box is measured in; found no readable one",
            "missing-image",
        ) from None


def _need_inside(row: Row, box: tuple[float, float, float, float], width: int, height: int) -> None:
    """A box that leaves its image would be measured in other units, or as corners."""
    x, y, w, h = box
    right, bottom = x + w, y + h
    if min(box) < 0 or right > width + 1 or bottom > height + 1:
        raise row.error(
            f"bbox: expected x, y, width and height inside an image of {width} x {height} pixels;"
            f" found {box}",
            "invalid-box",
        )
