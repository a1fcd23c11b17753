"""ChartQA (Masry et al. 2022): questions that people asked about charts, and questions made from
their summaries.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import partial

from cotbal.benchmarks.academic.questions import Question, Reader, merged, short_answer, single
from cotbal.benchmarks.releases.benchmark import SplitPlan, TaskPlan
from cotbal.benchmarks.releases.gallery import inside
from cotbal.benchmarks.releases.rows import Row
from cotbal.benchmarks.releases.sources import Files, Job, Read, Source, download
from cotbal.benchmarks.releases.visatb import visatb_source
from cotbal.benchmarks.releases.writing import Expected

NAME = "ChartQA"
_KEYS = ("imgname", "query", "label")
_HUB = ("query", "label")
_KINDS = ("human", "augmented")
_GET = (
    "git clone https://github.com/vis-nlp/ChartQA RAW/chartqa (or the files of ahmed-masry/ChartQA"
    " on the hub)"
)
_LMMS = ("type", "question", "answer", "image")
_GET_LMMS = download("lmms-lab/ChartQA")
_GET_HUB = download("HuggingFaceM4/ChartQA")


def plan() -> TaskPlan:
    """Where ChartQA comes from and what its splits hold (Table 8: 18k conversations)."""
    validation = _sources("val", partial(single, split="validation"))
    tested = partial(single, split="test")
    test = (*_sources("test", tested), _lmms(tested))
    return TaskPlan(
        NAME,
        "exact_match",
        (
            SplitPlan("train", _sources("train", merged), Expected(18_317, 28_299)),
            SplitPlan("validation", validation, Expected(1_920, 1_920)),
            SplitPlan("test", test, Expected(2_500, 2_500)),
        ),
        folders=("chartqa/train/png", "chartqa/val/png", "chartqa/test/png"),
    )


def _sources(subset: str, made: Callable[[Reader], Read]) -> tuple[Source, ...]:
    original = {kind: f"chartqa/**/{subset}/{subset}_{kind}.json" for kind in _KINDS}
    hub = {"questions": f"HuggingFaceM4/ChartQA/data/{subset}-*.parquet"}
    return (
        Source("original", original, _GET, made(partial(_read_original, subset))),
        Source("hub", hub, _GET_HUB, made(partial(_read_hub, subset))),
        visatb_source("Academic", NAME, subset),
    )


def _lmms(made: Callable[[Reader], Read]) -> Source:
    """The test set as lmms-eval has it; the other splits are not there."""
    files = {"questions": "lmms-lab*/ChartQA/data/test-*.parquet"}
    return Source("lmms", files, _GET_LMMS, made(_read_lmms))


def _read_original(subset: str, files: Files, job: Job, _images: bool) -> Iterator[Question]:
    """The questions of people first, then the generated ones; images are in the same folder."""
    for kind in _KINDS:
        (path,) = files[kind]
        if (path.parent / "png").is_dir():
            job.gallery.link(f"chartqa/{subset}/png", path.parent / "png")
        for number, row in enumerate(job.list_rows(path, "item", _KEYS)):
            image = inside(f"chartqa/{subset}/png/{row.text('imgname')}", row.where)
            asked = short_answer(row.text("query"), row.text("label"), job.choices)
            yield Question(f"{kind}_{number}", image, asked)


def _read_lmms(files: Files, job: Job, _images: bool) -> Iterator[Question]:
    kinds = tuple(f"{kind}_test" for kind in _KINDS)
    for number, row in enumerate(job.table_rows(files["questions"], _LMMS)):
        if row.text("type") not in kinds:
            raise row.error(
                f"type: expected {' or '.join(kinds)}; found {row.text('type')[:40]!r}",
                "unknown-value",
            )
        content = row.image("image")
        asked = short_answer(row.text("question"), row.text("answer"), job.choices)
        yield Question(str(number), _named(content, "test"), asked, content)


def _named(content: bytes, subset: str) -> str:
    """A snapshot names no images, so the same bytes are the same image."""
    return f"chartqa/{subset}/png/{hashlib.sha256(content).hexdigest()[:20]}.png"


def _read_hub(subset: str, files: Files, job: Job, _images: bool) -> Iterator[Question]:
    columns = (*_HUB, "image")
    rows = job.table_rows(files["questions"], columns, ("human_or_machine",))
    for number, row in enumerate(rows):
        content = row.image("image")
        asked = short_answer(row.text("query"), _only(row), job.choices)
        yield Question(str(number), _named(content, subset), asked, content)


def _only(row: Row) -> str:
    labels = row.texts("label")
    if len(labels) != 1:
        raise row.error(f"label: expected one answer; found {len(labels)}", "wrong-type")
    return labels[0]
