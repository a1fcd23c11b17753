"""The regions of RefCOCO and RefCOCOg: boxes and the sentences about them, from the release or from
the hub.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from cotbal.benchmarks.releases.rows import (
    Row,
    json_list,
    known,
    mapping,
    parquet_rows,
    pickled_list,
)
from cotbal.benchmarks.releases.sources import Choices, Files, Job, download
from cotbal.errors import DataError

FOLDERS = ("coco/train2017", "coco/train2014")
_LONGEST = 1_000_000  # pixels; a longer side is no image's
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
    " are in its issue 14; pictures: train2017 or train2014 of COCO"
)
_GET_HUB = (
    f"{download('jxu124/refcoco')}, "
    "and the same with refcocog; pictures: train2017 or train2014 of COCO"
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
        row = known(raw, where, _REF, (*_REF_OTHERS, *job.choices.ignore_keys))
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
                f"expected annotation {row.number('ann_id')} and its picture in {path}; found"
                " another or none",
                "unmatched-record",
            )
        yield _region(dataset, row, box, *sizes[image_id], job)


def _boxes(
    files: Files, dataset: str, wanted: set[int], job: Job
) -> Iterator[tuple[int, tuple[int, Any]]]:
    (path,) = files[f"{dataset} instances"]
    for where, raw in json_list(path, "annotations.item", job.progress):
        row = mapping(raw, where)  # COCO's own table: only the keys of the join are of interest
        if row.number("id") in wanted:
            yield row.number("id"), (row.number("image_id"), four(row, "bbox"))


def _sizes(
    files: Files, dataset: str, wanted: set[int], job: Job
) -> Iterator[tuple[int, tuple[int, int]]]:
    (path,) = files[f"{dataset} instances"]
    for where, raw in json_list(path, "images.item", job.progress):
        row = mapping(raw, where)
        if row.number("id") in wanted:
            yield row.number("id"), (row.number("width"), row.number("height"))


def _read_hub(dataset: str, split: str, files: Files, job: Job) -> Iterator[Region]:
    others = (*_HUB_OTHERS, *job.choices.ignore_keys)
    words = _HUB_WORDS.get(split, (split,))
    for row in parquet_rows(files[f"{dataset} {split}"], _HUB, others, job.progress):
        if row.text("split") not in words:
            raise row.error(
                f"split: expected {' or '.join(words)}; found {row.text('split')!r}",
                "unknown-value",
            )
        box = four(_nested(row, "raw_anns"), "bbox")
        _compare(row, box)
        size = _nested(row, "raw_image_info")
        yield _region(dataset, row, box, size.number("width"), size.number("height"), job)


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
    x1, y1, x2, y2 = four(row, "bbox")
    if abs(x2 - x1 - box[2]) > 1 or abs(y2 - y1 - box[3]) > 1:
        raise row.error(
            f"expected bbox to hold the corners of the box {box} in raw_anns; found"
            f" {(x1, y1, x2, y2)}",
            "invalid-box",
        )


def four(row: Row, key: str) -> tuple[float, float, float, float]:
    """The four numbers at `key`. Raises DataError for anything else."""
    value = row.fields.get(key)
    if not isinstance(value, list) or len(value) != 4 or not all(map(_is_length, value)):
        raise row.error(f"{key}: expected four numbers; found {ascii(value)[:60]}", "invalid-box")
    return value[0], value[1], value[2], value[3]


def _is_length(value: Any) -> bool:
    """Whether a coordinate is a number that an image may have; what is not finite fails, too."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LONGEST


def _region(dataset: str, row: Row, box: Any, width: int, height: int, job: Job) -> Region:
    if not (0 < width < _LONGEST and 0 < height < _LONGEST):
        raise DataError(
            f"{row.where}: expected an image with an area, and no side of a million pixels; found"
            " another",
            "invalid-box",
        )
    others = (*_SENTENCE_OTHERS, *job.choices.ignore_keys)
    sentences = []
    for sentence in row.rows("sentences", _SENTENCE, others):
        number, text = sentence.number("sent_id"), sentence.text("sent").strip()
        if text:
            sentences.append((number, text))
    ref_id, image_id = row.number("ref_id"), row.number("image_id")
    return Region(dataset, ref_id, image_id, box, width, height, tuple(sorted(sentences)))
