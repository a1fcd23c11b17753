"""The regions of RefCOCO and RefCOCOg: boxes and the sentences about them, from the release or from
the hub.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from cotbal.benchmarks.releases.rows import LONGEST_SIDE, Row, json_list, mapping, pickled_list
from cotbal.benchmarks.releases.sources import Choices, Files, Job, download
from cotbal.errors import DataError

FOLDERS = ("coco/train2017", "coco/train2014")
_SPLIT_BY = {"refcoco": "unc", "refcocog": "umd"}
_SPLITS = {"refcoco": ("train", "val", "testA", "testB"), "refcocog": ("train", "val", "test")}
_HUB_FILE = {
    "train": "train",
    "val": "validation",
    "testA": "test",
    "testB": "testB",
    "test": "test",
}
# what a row of the snapshot may call its split
_HUB_WORDS = {"val": ("val", "validation"), "testA": ("testA", "test")}
_REF = ("ann_id", "ref_id", "image_id", "split", "sentences")
_REF_OTHERS = ("sent_ids", "file_name", "category_id")
_SENTENCE, _SENTENCE_OTHERS = ("sent", "sent_id"), ("tokens", "raw")
_HUB = (*_REF, "raw_anns", "raw_image_info", "bbox")
_HUB_OTHERS = (
    *_REF_OTHERS,
    "raw_sentences",
    "image_path",
    "captions",
    "global_image_id",
    "anns_id",
)
_GET = (
    "refcoco.zip and refcocog.zip of github.com/lichengunc/refer; its server is gone, other links"
    " are in its issue 14; images: train2017 or train2014 of COCO"
)
_GET_HUB = (
    f"{download('jxu124/refcoco')}, "
    "and the same with refcocog; images: train2017 or train2014 of COCO"
)


@dataclass(frozen=True, slots=True)
class Region:
    """One region with its sentences.

    Attributes:
        dataset: refcoco or refcocog.
        ref_id, image_id: ids of the region, and of its image in COCO train2014.
        corner_and_size: x, y, width, height in pixels.
        width, height: of the image in pixels.
        sentences: id and text of each, in the order of the ids.
    """

    dataset: str
    ref_id: int
    image_id: int
    corner_and_size: tuple[float, float, float, float]
    width: int
    height: int
    sentences: tuple[tuple[int, str], ...]

    def box(self, choices: Choices) -> str:
        """The box as text, see `box_text`."""
        return box_text(
            self.corner_and_size, self.width, self.height, choices.box_decimals, choices.pad_boxes
        )


def box_text(
    corner_and_size: tuple[float, float, float, float],
    width: int,
    height: int,
    decimals: int = 2,
    pad: bool = True,
) -> str:
    """A box `[x1, y1, x2, y2]` in parts of the image's sides, as LLaVA-1.5 writes it.

    Args:
        corner_and_size: x, y, width, height in pixels.
        width, height: of the image in pixels.
        decimals: digits behind the point; zeros at the end are not written.
        pad: parts of the square that the image is padded to, in its middle, instead of its own
            sides.
    """
    x, y, w, h = corner_and_size
    side_x, side_y = width, height
    if pad:
        side_x = side_y = max(width, height)
    left, top = (side_x - width) // 2, (side_y - height) // 2
    edges = (
        (x + left) / side_x,
        (y + top) / side_y,
        (x + w + left) / side_x,
        (y + h + top) / side_y,
    )
    return "[" + ", ".join(str(round(edge, decimals)) for edge in edges) + "]"


Pair = tuple[str, str]  # data set and split
Reader = Callable[[str, str, Files, Job], Iterator[Region]]


def forms(pairs: Iterable[Pair]) -> Iterator[tuple[str, dict[str, str], str, Reader]]:
    """Name, files, origin and reader of both forms of the data sets in `pairs`.

    All splits of the snapshots are asked for, since the training split may have to leave images
    of the others out.
    """
    names = list(dict.fromkeys(dataset for dataset, _ in pairs))
    original = {f"{name} refs": f"{name}/refs({_SPLIT_BY[name]}).p" for name in names}
    original |= {f"{name} instances": f"{name}/instances.json" for name in names}
    hub = {
        f"{name} {split}": f"jxu124/{name}/data/{_HUB_FILE[split]}-*.parquet"
        for name in names
        for split in _SPLITS[name]
    }
    yield "original", original, _GET, _read_original
    yield "hub", hub, _GET_HUB, _read_hub


def _read_original(dataset: str, split: str, files: Files, job: Job) -> Iterator[Region]:
    """The pickled regions of one split, joined with their boxes and the sizes of their images."""
    refs = []
    for where, raw in pickled_list(files[f"{dataset} refs"][0]):
        row = job.known(raw, where, _REF, _REF_OTHERS)
        split_of_row = row.text("split")
        if split_of_row not in _SPLITS[dataset]:
            raise row.error(
                f"split: expected one of {', '.join(_SPLITS[dataset])}; found {split_of_row!r}",
                "unknown-value",
            )
        if split_of_row == split:
            refs.append(row)
    (path,) = files[f"{dataset} instances"]
    boxes = dict(_boxes(files, dataset, {row.number("ann_id") for row in refs}, job))
    sizes = dict(_sizes(files, dataset, {row.number("image_id") for row in refs}, job))
    for row in refs:
        image_id, box = boxes.get(row.number("ann_id"), (None, None))
        if box is None or image_id != row.number("image_id") or image_id not in sizes:
            raise row.error(
                f"expected annotation {row.number('ann_id')} and its image in {path}; found"
                " another or none",
                "unmatched-record",
            )
        yield _region(dataset, row, box, *sizes[image_id])


def _boxes(
    files: Files, dataset: str, wanted: set[int], job: Job
) -> Iterator[tuple[int, tuple[int, Any]]]:
    (path,) = files[f"{dataset} instances"]
    for where, raw in json_list(path, "annotations.item", job.progress):
        row = mapping(raw, where)  # COCO's own table: only the keys of the join are of interest
        if row.number("id") in wanted:
            yield row.number("id"), (row.number("image_id"), row.box("bbox"))


def _sizes(
    files: Files, dataset: str, wanted: set[int], job: Job
) -> Iterator[tuple[int, tuple[int, int]]]:
    (path,) = files[f"{dataset} instances"]
    for where, raw in json_list(path, "images.item", job.progress):
        row = mapping(raw, where)
        if row.number("id") in wanted:
            yield row.number("id"), (row.number("width"), row.number("height"))


def _read_hub(dataset: str, split: str, files: Files, job: Job) -> Iterator[Region]:
    words = _HUB_WORDS.get(split, (split,))
    for row in job.table_rows(files[f"{dataset} {split}"], _HUB, _HUB_OTHERS):
        if row.text("split") not in words:
            raise row.error(
                f"split: expected {' or '.join(words)}; found {row.text('split')!r}",
                "unknown-value",
            )
        box = _nested(row, "raw_anns").box("bbox")
        _compare(row, box)
        size = _nested(row, "raw_image_info")
        yield _region(dataset, row, box, size.number("width"), size.number("height"))


def _nested(row: Row, key: str) -> Row:
    """The mapping that a column of the snapshot holds as JSON."""
    try:
        content = json.loads(row.text(key))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise row.error(
            f"{key}: expected a mapping as JSON; found {ascii(row.text(key))[:60]}", "wrong-type"
        )
    return Row(content, f"{row.where}, {key}")


def _compare(row: Row, box: tuple[float, float, float, float]) -> None:
    """The column `bbox` holds the corners of the same box; another meaning would be another
    version.
    """
    x1, y1, x2, y2 = row.box("bbox")
    wide, high = x2 - x1, y2 - y1
    if abs(wide - box[2]) > 1 or abs(high - box[3]) > 1:
        raise row.error(
            f"expected bbox to hold the corners of the box {box} in raw_anns; found"
            f" {(x1, y1, x2, y2)}",
            "invalid-box",
        )


def _region(dataset: str, row: Row, box: Any, width: int, height: int) -> Region:
    if not (0 < width < LONGEST_SIDE and 0 < height < LONGEST_SIDE):
        raise DataError(
            f"{row.where}: expected an image with sides of 1 to {LONGEST_SIDE - 1:,} pixels; found"
            f" {width} x {height}",
            "invalid-box",
        )
    sentences = []
    for sentence in row.rows("sentences", _SENTENCE, _SENTENCE_OTHERS):
        number, text = sentence.number("sent_id"), sentence.text("sent").strip()
        if text:
            sentences.append((number, text))
    ref_id, image_id = row.number("ref_id"), row.number("image_id")
    return Region(dataset, ref_id, image_id, box, width, height, tuple(sorted(sentences)))
