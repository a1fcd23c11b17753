"""The annotations that the authors of the paper released (hub: YanqiDai/VisATB), in their final
form.

A record is LLaVA's with the name of its task. An evaluation record has one question; its answer is
a text, or a list of texts where several are right. The files are named
`<task>_<split>-<size>.json`, as their README says. Images are not among them: they are sought in
the layout of LLaVA, as for the other forms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import PurePosixPath

from cotbal.benchmarks.releases.conversation import Asked, Conversation
from cotbal.benchmarks.releases.gallery import inside
from cotbal.benchmarks.releases.llava import TURN, identity, paired
from cotbal.benchmarks.releases.rows import Row
from cotbal.benchmarks.releases.rules import without_marker
from cotbal.benchmarks.releases.sources import Files, Job, Source

FORM = "visatb"
_REPOSITORY = "YanqiDai/VisATB"
_SPLITS = ("train", "val", "test")


def visatb_source(
    benchmark: str,
    task: str,
    split: str = "train",
    *,
    file: str | None = None,
    together: Sequence[str] = (),
) -> Source:
    """The records of one split of one task.

    Args:
        benchmark: folder of the release: Academic or Chat.
        task: what the records call their task; a hyphen in it may stand for an underscore.
        split: train, val or test.
        file: beginning of the file's name, where it is not the task; a file that begins with the
            name of the benchmark holds other tasks too, and their records are passed over.
        together: other splits that must be there, for a task whose splits the authors drew at
            random: with splits of another draw, images of evaluation would be trained on.
    """
    assert {split, *together} <= set(_SPLITS)
    name = file or task
    mixed = file == benchmark
    patterns = {
        part: f"{_REPOSITORY}/{benchmark}/{part}/{name}_{part}*.json"
        for part in dict.fromkeys((split, *together))
    }
    get = (  # its minis are drawn again here
        f"hf download {_REPOSITORY} --repo-type dataset --include '{benchmark}/*'"
        f" --exclude '*-mini_*' --local-dir RAW/{_REPOSITORY}"
    )
    return Source(FORM, patterns, get, partial(_read, task, split, mixed))


def _read(task: str, split: str, mixed: bool, files: Files, job: Job) -> Iterator[Conversation]:
    (path,) = files[split]
    offered: set[str] = set()
    rows = job.list_rows(path, "item", ("task", "conversations"), ("id", "image"))
    for number, row in enumerate(rows):
        if row.text("task").replace("-", "_") != task.replace("-", "_"):
            if mixed:
                continue
            raise row.error(
                f"task: expected {task}; found {row.text('task')[:60]!r}", "unknown-value"
            )
        if row.fields.get("image") is None and not mixed:
            raise row.error("image: expected the name of an image; found none", "missing-key")
        image = None
        if row.fields.get("image") is not None:
            image = inside(row.text("image"), row.where)
            folder = str(PurePosixPath(image).parent)
            if folder not in offered:
                offered.add(folder)
                job.gallery.offer([folder])
        name = identity(row) if "id" in row.fields else str(number)
        if split == "train":
            yield Conversation(name, image, paired(row))
        else:
            yield Conversation(f"{split}_{name}", image, (_question(row),))


def _question(row: Row) -> Asked:
    """The one question of an evaluation record, with its answer or all of its right answers."""
    turns = row.rows("conversations", TURN)
    if [turn.fields["from"] for turn in turns] != ["human", "gpt"]:
        raise row.error(
            f"conversations: expected one question and its answer; found {len(turns)} turns",
            "invalid-turns",
        )
    asked, answer = turns
    right: str | tuple[str, ...]
    if isinstance(answer.fields["value"], list):
        right = tuple(text.strip() for text in answer.texts("value"))
    else:
        right = answer.text("value").strip()
    if not right:
        raise row.error(
            "conversations[1]: value: expected a right answer; found none", "empty-answer"
        )
    return Asked(without_marker(asked.text("value")), right)
