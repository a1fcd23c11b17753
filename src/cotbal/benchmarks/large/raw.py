"""M3IT's own JSONL files, for the sets whose keys are known; the loader's chance is that of the
seed here.

Instructions are drawn from the instruction file of the set, options are shuffled as the loader
does; so the texts are as good as an export's, and not the same. The other sets are not read: what
their files call question and image is not known for certain.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from cotbal.benchmarks.large.export import COLUMNS, count_lines, export_sources, reader
from cotbal.benchmarks.large.sets import DataSet
from cotbal.benchmarks.releases.rows import Row, json_lines
from cotbal.benchmarks.releases.rules import drawn
from cotbal.benchmarks.releases.sources import Files, Job, Source, download
from cotbal.errors import DataError

_HUB = "MMInstruction/M3IT"
_DATA = f"{_HUB}/data"
_CLASSES = 10  # candidates of ImageNet, the right one among them
# ways to answer in COCO-Text
_TRUE_OR_FALSE = ("(A) True", "(B) False", "(A)", "(B)", "True", "False")
_OTHERS = 24  # at most, beside the right one, of COCO-GOI

Made = tuple[str, list[str], str]  # inputs, images in base64, outputs


@dataclass(frozen=True)
class _Line:
    """One line of a file, and the chance that belongs to it."""

    raw: Any
    where: str
    key: str
    classes: Sequence[str]
    job: Job

    def row(self, *keys: str) -> Row:
        return self.job.known(self.raw, self.where, keys)

    def draw(self, names: Iterable[str], number: int, what: str) -> list[str]:
        return drawn(names, number, self.job.choices.seed, f"{what} {self.key}")


_Adapter = Callable[[_Line], Iterator[Made]]


def raw_sources(data: DataSet, split: str) -> tuple[Source, ...]:
    """The one raw form of a set whose keys are known; an export for the others."""
    if data.config not in _ADAPTERS:
        return export_sources(data, split)
    folder, adapter, train = _ADAPTERS[data.config]
    whole = f"{_DATA}/{folder}"
    others = {"instructions": f"{whole}/instruction*.json"}
    if data.config == "imagenet":
        others |= {"classes": f"{whole}/mapping.txt"}
    stems = {"train": train, "validation": "val", "test": "val" if data.halved else "test"}
    rows = {name: f"{whole}/*{stem}.jsonl" for name, stem in stems.items()}
    get = download(_HUB, *dict.fromkeys(rows.values()), *others.values())
    read = reader(data, split, partial(_rows, adapter), lambda files: count_lines(files["rows"][0]))
    return (Source("raw", {"rows": rows[split], **others}, get, read),)


def known_configs() -> tuple[str, ...]:
    """Names in M3IT of the sets that can be read raw."""
    return tuple(_ADAPTERS)


def _rows(adapter: _Adapter, files: Files, job: Job) -> Iterator[Row]:
    (path,) = files["rows"]
    instructions = _texts(files["instructions"][0])
    classes = _classes(files["classes"][0]) if "classes" in files else ()
    for number, (where, raw) in enumerate(json_lines(path, job.progress)):
        stream = f"{path.parent.name} {path.name} {number}"
        line = _Line(raw, where, stream, classes, job)
        for part, (inputs, images, outputs) in enumerate(adapter(line)):
            (instruction,) = line.draw(instructions, 1, f"instruction {part}")
            columns = (instruction, inputs, images, outputs)
            yield Row(dict(zip(COLUMNS, columns, strict=True)), where)


def _texts(path: Path) -> list[str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(
            f"{path}: expected a JSON list of instructions; found broken JSON ({error})",
            "broken-file",
        ) from None
    texts = isinstance(content, list) and all(isinstance(text, str) for text in content)
    if not texts or not content:
        raise DataError(
            f"{path}: expected a JSON list of instructions; found {type(content).__name__}",
            "broken-file",
        )
    return list(dict.fromkeys(content))


def _classes(path: Path) -> list[str]:
    """Name of every class, in the order of their numbers; a line is the synset and its name."""
    lines = path.read_text(encoding="utf-8").splitlines()
    names = [line.partition(" ")[2].strip() for line in lines if line.strip()]
    if len(names) < _CLASSES or not all(names):
        raise DataError(
            f"{path}: expected a synset and its name per line, {_CLASSES} lines or more; found"
            f" {len(names)}",
            "broken-file",
        )
    return names


def _coco(line: _Line) -> Iterator[Made]:
    """Five captions of an image, sometimes more, are as many rows."""
    row = line.row("image", "meta")
    captions = line.job.known(row.fields["meta"], f"{line.where}, meta", ("targets",))
    for caption in captions.texts("targets"):
        yield "", [row.text("image")], caption


def _coco_goi(line: _Line) -> Iterator[Made]:
    """The question is in the first line of the input, an option in each of the others."""
    row = line.row("input", "outputs", "image_str")
    lines = row.text("input").strip().splitlines()
    question, *names = [line.strip() for line in lines]
    right = row.text("outputs").strip().removesuffix(".")
    others = {name for name in names if name and name != right}
    options, answer = _lettered(line, right, line.draw(others, _OTHERS, "options"))
    yield f"{question}\nOptions:\n{options}", [row.text("image_str")], f"{answer}."


def _coco_text(line: _Line) -> Iterator[Made]:
    """The instruction asks, and the options are always these two; a row with a question of its own
    is not known.
    """
    if isinstance(line.raw, dict) and "question" in line.raw:
        raise DataError(
            f"{line.where}: question: expected none, since the instruction asks; export this set"
            " instead",
            "unknown-key",
        )
    row = line.row("answer", "image_str")
    right = row.text("answer").strip()
    if right.rstrip(".") not in _TRUE_OR_FALSE:
        raise row.error(
            f"answer: expected one of {', '.join(_TRUE_OR_FALSE)}; found {right[:40]!r}",
            "unknown-value",
        )
    yield "(A) True (B) False", row.texts("image_str"), right


def _imagenet(line: _Line) -> Iterator[Made]:
    """The right class among nine others at random."""
    row = line.row("img_str", "label")
    number = row.number("label")
    if not 0 <= number < len(line.classes):
        raise row.error(
            f"label: expected a number below {len(line.classes)}; found {number}", "unknown-value"
        )
    right = line.classes[number]
    others = {name for name in line.classes if name != right}
    options, answer = _lettered(line, right, line.draw(others, _CLASSES - 1, "options"))
    yield options, [row.text("img_str")], answer


def _mocheg(line: _Line) -> Iterator[Made]:
    row = line.row("question", "answer", "image_str")
    yield row.text("question"), row.texts("image_str"), row.text("answer")


def _shapes(line: _Line) -> Iterator[Made]:
    """True or false; the question mark and the sentence of the answer are added as M3IT's loader
    adds them.
    """
    row = line.row("question", "answer", "image_str")
    word = {"true": "yes", "false": "no"}.get(row.text("answer").strip().lower())
    if word is None:
        raise row.error(
            f"answer: expected true or false; found {row.text('answer')[:40]!r}", "unknown-value"
        )
    question = f"{row.text('question').strip()}?"
    yield question, [row.text("image_str")], f"The answer is {word}."


def _lettered(line: _Line, right: str, others: Sequence[str]) -> tuple[str, str]:
    """The options in random order, one per line, and the right one with its letter."""
    names = line.draw([right, *others], len(others) + 1, "order")
    lines = [f"({letter}) {name}" for letter, name in zip(ascii_uppercase, names, strict=False)]
    return "\n".join(lines), lines[names.index(right)]


# folder, adapter, end of the training file's name
_ADAPTERS: dict[str, tuple[str, _Adapter, str]] = {
    "coco": ("captioning/coco", _coco, "train"),
    "coco-goi": ("classification/coco-goi", _coco_goi, "train"),
    "coco-text": ("classification/coco-text", _coco_text, "train"),
    "imagenet": ("classification/imagenet", _imagenet, "train"),
    "mocheg": ("classification/mocheg", _mocheg, "train"),
    "shapes": ("vqa/shapes", _shapes, "train.large"),
}
