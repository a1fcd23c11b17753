"""RefCOCO-caption (describe a box) and RefCOCO-bbox (find the box of a description), by Yu et al.
2016 and Mao et al. 2016.

Both tasks read RefCOCO (split by unc) and RefCOCOg (split by umd), not RefCOCO+.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial

from cotbal.benchmarks.academic import regions
from cotbal.benchmarks.academic.lmms_regions import lmms_form
from cotbal.benchmarks.academic.regions import Region
from cotbal.benchmarks.releases.benchmark import SplitPlan, TaskPlan
from cotbal.benchmarks.releases.conversation import Asked, Conversation
from cotbal.benchmarks.releases.gallery import coco_2014, image_id
from cotbal.benchmarks.releases.rules import capitalized, merge_by_image, segment
from cotbal.benchmarks.releases.sources import Choices, Files, Job, Source
from cotbal.benchmarks.releases.visatb import visatb_source
from cotbal.benchmarks.releases.writing import Expected

CAPTION, BBOX = "RefCOCO-caption", "RefCOCO-bbox"
_DESCRIBE = "Please provide a short description for this region: {box}."
_LOCATE = (
    "Please provide the bounding box coordinate of the region this sentence describes: {sentence}."
)
_TRAIN_SENTENCES = 120_624 + 80_512
_SPLITS: dict[str, tuple[tuple[str, str], ...]] = {  # split -> data sets and their splits
    "train": (("refcoco", "train"), ("refcocog", "train")),
    "validation": (("refcoco", "val"), ("refcocog", "val")),
    "RefCOCO_testA": (("refcoco", "testA"),),
    "RefCOCO_testB": (("refcoco", "testB"),),
    "RefCOCOg_test": (("refcocog", "test"),),
}
_REFS = {
    "validation": 3_811 + 2_573,
    "RefCOCO_testA": 1_975,
    "RefCOCO_testB": 1_810,
    "RefCOCOg_test": 5_023,
}
_SENTENCES = {
    "validation": 10_834 + 4_896,
    "RefCOCO_testA": 5_657,
    "RefCOCO_testB": 5_095,
    "RefCOCOg_test": 9_602,
}
_VALIDATION = (
    "the validation sets of RefCOCO and RefCOCOg are one file, so Eq. 3 sees their mean weighted by"
    " size."
)

Write = Callable[[str, Iterable[Region], Choices], Iterator[tuple[Region, str, Asked]]]


def caption_plan() -> TaskPlan:
    """Where RefCOCO-caption comes from and what its splits hold (Table 8: 41k conversations)."""
    return TaskPlan(
        CAPTION,
        "cider",
        tuple(_split(CAPTION, split, _described, _REFS) for split in _SPLITS),
        folders=regions.FOLDERS,
        remarks=(
            f"{CAPTION}: scored per region with all its sentences as references;",
            _VALIDATION,
        ),
    )


def bbox_plan() -> TaskPlan:
    """Where RefCOCO-bbox comes from and what its splits hold (Table 8: 41k conversations)."""
    return TaskPlan(
        BBOX,
        "box_iou",
        tuple(_split(BBOX, split, _located, _SENTENCES) for split in _SPLITS),
        folders=regions.FOLDERS,
        remarks=(f"{BBOX}: scored per sentence, right above an IoU of 0.5;", _VALIDATION),
    )


def _split(task: str, split: str, write: Write, sizes: dict[str, int]) -> SplitPlan:
    pairs = _SPLITS[split]
    sources = [
        Source(form, files, get, partial(_read, reader, split, write))
        for form, files, get, reader in (*regions.forms(pairs), *lmms_form(pairs))
    ]
    if split != "train":
        return SplitPlan(split, tuple(sources), Expected(sizes[split], sizes[split]))
    sources.append(visatb_source("Academic", task))  # names of its other files are not known
    return SplitPlan(split, tuple(sources), Expected(41_000, _TRAIN_SENTENCES, 1000))


def _read(
    reader: regions.Reader, split: str, write: Write, files: Files, job: Job
) -> Iterator[Conversation]:
    regions: list[Region] = []
    for pair in _SPLITS[split]:
        regions += sorted(reader(*pair, files, job), key=_ref_id)
    if split != "train":
        for region, identity, asked in write(split, regions, job.choices):
            name = f"{split}_{region.dataset}_{identity}"
            yield Conversation(name, _image(region, job), (asked,))
        return
    excluded: Collection[int] = ()
    if job.choices.drop_eval_images:
        excluded = _evaluated(reader, files, job)
    kept = [region for region in regions if region.image_id not in excluded]
    questions = write(split, kept, job.choices)
    items = ((_image(region, job), asked) for region, _, asked in questions)
    for image, turns in merge_by_image(items):
        for number, piece in enumerate(segment(turns)):
            yield Conversation(f"{image_id(image)}_{number}", image, piece)


def _ref_id(region: Region) -> int:
    return region.ref_id


def _image(region: Region, job: Job) -> str:
    return coco_2014(job.gallery, region.image_id, "train2014")


def _evaluated(reader: regions.Reader, files: Files, job: Job) -> frozenset[int]:
    """Images of every evaluation split."""
    pairs: set[tuple[str, str]] = set()
    for split, of_split in _SPLITS.items():
        if split != "train":
            pairs.update(of_split)
    images: set[int] = set()
    for pair in sorted(pairs):
        images.update(region.image_id for region in reader(*pair, files, job))
    return frozenset(images)


def _described(
    split: str, regions: Iterable[Region], choices: Choices
) -> Iterator[tuple[Region, str, Asked]]:
    """A question about every box: one per sentence in training, one with all sentences in
    evaluation."""
    for region in regions:
        question = _DESCRIBE.format(box=region.box(choices))
        answers = [_caption(text) for _, text in region.sentences]
        if split != "train":
            yield region, str(region.ref_id), Asked(question, tuple(answers))
            continue
        for (sentence_id, _), answer in zip(region.sentences, answers, strict=True):
            yield region, f"{region.ref_id}_{sentence_id}", Asked(question, answer)


def _located(
    _split: str, regions: Iterable[Region], choices: Choices
) -> Iterator[tuple[Region, str, Asked]]:
    """A question about every sentence, answered by the box."""
    for region in regions:
        for sentence_id, text in region.sentences:
            asked = Asked(_LOCATE.format(sentence=text), region.box(choices))
            yield region, f"{region.ref_id}_{sentence_id}", asked


def _caption(sentence: str) -> str:
    """A sentence as LLaVA-1.5 answers with it: a capital and a full stop. References are written in
    the same way as answers.
    """
    return f"{capitalized(sentence)}."
