"""`cotbal check` of a folder with one record of every kind of error names each of them.

A new kind of error gets one entry in KINDS (a record) or in FILES (a file).
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from helpers.shell import cotbal
from helpers.tiny_families import FAMILIES, build

Row = dict[str, Any]


def asked(question: str = "<image>\nwhat is it?", answer: Any = "a tree", **more: Any) -> Row:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"image": "a.png", "conversations": turns, **more}


def no_image(_path: Path) -> None:
    """The image is missing."""


@dataclass(frozen=True)
class Kind:
    """One invalid record.

    Attributes:
        name: of the kind; the image `<name>.png` is that of the record where it names it.
        expected: the code of the error, or what a warning names.
        row: the record, in the training set unless `split` says otherwise.
        image: writes the image.
        warning: whether it is a warning, which names file and record in its text.
    """

    name: str
    expected: str
    row: Any
    split: str = "train"
    image: Callable[[Path], None] = no_image
    warning: bool = False


def truncated(path: Path) -> None:
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:1000])


def narrow(path: Path) -> None:
    Image.new("RGB", (2000, 8)).save(path)


def copied(path: Path) -> None:
    """The bytes of the image that all training records have."""
    path.write_bytes((path.parent / "a.png").read_bytes())


KINDS = (
    Kind("no mapping", "no-turns", [1, 2]),
    Kind("no conversation", "no-turns", {"id": "x", "image": "a.png"}),
    Kind("no answer", "empty-text", asked(answer="")),
    Kind(
        "unknown role",
        "invalid-turn",
        {"conversations": [{"from": "robot", "value": "what?"}, {"from": "gpt", "value": "tree"}]},
    ),
    Kind("marker without image", "image-markers", asked(image=None)),
    Kind("task of another name", "wrong-task", asked(task="other")),
    Kind("repeated id", "repeated-id", asked(id="first")),
    Kind("missing", "missing-image", asked(image="missing.png")),
    Kind("truncated", "broken-image", asked(image="truncated.png"), image=truncated),
    Kind("narrow", "rejected-image", asked(image="narrow.png"), image=narrow),
    Kind("address", "invalid-image-name", asked(image="https://x.org/a")),
    Kind(
        "cut off",
        "model.max_length = 60",
        asked(question="<image>\n" + "what is it? " * 40),
        warning=True,
    ),
    Kind(
        "two answers",
        "several-questions",
        {"image": "b.png", "conversations": asked()["conversations"] * 2},
        "validation",
    ),
    Kind("two forms", "conflicting-fields", asked(messages=[{"role": "user", "content": "what?"}])),
    Kind("two columns", "conflicting-fields", asked(images=["b.png"])),
    Kind("video", "unsupported-media", asked(video="a.mp4")),
    Kind("video marker", "unsupported-media", asked(question="<image>\nlook <video>")),
    Kind(
        "weight of a turn",
        "invalid-loss-mark",
        {
            "image": "a.png",
            "conversations": [
                {"from": "human", "value": "<image>\nwhat is it?"},
                {"from": "gpt", "value": "a tree", "weight": 0.5},
            ],
        },
    ),
    Kind("unread key", "`hint`", asked(hint="think"), warning=True),
    Kind("special token", "special-token", asked(answer="a tree<|im_end|>")),
    Kind(
        "special token in a reference",
        "special-token",
        asked(image="b.png", question="<image>\nwhich?", answer="a tree<|im_end|>"),
        "validation",
    ),
    Kind(
        "reference that is cut off",
        "unreachable-reference",
        asked(image="b.png", question="<image>\nhow long?", answer="tree " * 40 + "end"),
        "validation",
    ),
    Kind(
        "box of COCO",
        "invalid-reference",
        asked(image="b.png", question="<image>\nwhere?", answer="[70,20,10,20]"),
        "boxes",
    ),
    Kind("copy", "records of validation", asked(image="copy.png"), "validation", copied, True),
)


@dataclass(frozen=True)
class File:
    """A training file with an error of code `expected`, or that is sound (None)."""

    name: str
    content: bytes
    expected: str | None


LINES = "".join(json.dumps(asked(id=str(n))) + "\n" for n in range(3))
FILES = (
    File("wide.jsonl", LINES.encode("utf-16"), None),
    File("lines.json", LINES.encode(), None),
    File("array.jsonl", f"[{','.join(LINES.splitlines())}]".encode(), None),
    File("object.json", b'{\n"data": []\n}', "unknown-format"),
    File("empty.json", b"", "unknown-format"),
    File("latin.jsonl", '{"id": "Straße"}'.encode("latin-1"), "broken-file"),
    File("packed.jsonl", gzip.compress(LINES.encode()), "unknown-format"),
    File("cut.json", b'[{"id": "a"', "broken-file"),
    File("table.csv", b"a,b", "unknown-format"),
    File("tree.parquet", b"no parquet", "broken-file"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("errors")
    build(FAMILIES["qwen2_vl"], root / "base")
    (root / "images").mkdir()
    Image.new("RGB", (32, 32), "red").save(root / "images" / "a.png")
    Image.new("RGB", (32, 32), "blue").save(root / "images" / "b.png")
    sound = {
        "train": asked(id="first"),
        "validation": asked(id="v", image="b.png"),
        "boxes": asked(id="box", image="b.png", answer="[1,2,3,4]"),
    }
    for split, row in sound.items():
        rows = [row, *(kind.row for kind in KINDS if kind.split == split)]
        (root / f"{split}.jsonl").write_text(
            "".join(json.dumps(content) + "\n" for content in rows)
        )
    for kind in KINDS:
        kind.image(root / "images" / f"{kind.name}.png")
    tasks = "  main: {train: train.jsonl, validation: validation.jsonl}\n"
    tasks += "  box: {train: lines.json, validation: boxes.jsonl, metric: box_iou}\n"
    for file in FILES:
        (root / file.name).write_bytes(file.content)
        name = file.name.partition(".")[0]
        tasks += f"  {name}: {{train: {file.name}, balanced: false}}\n"
    (root / "recipe.yaml").write_text(
        "name: errors\nimages: images\nportions: {mini: 1/2}\n"
        "model: {checkpoint: base, max_length: 60}\n"
        f"generation: {{max_new_tokens: 24}}\ntasks:\n{tasks}"
    )
    return root


@pytest.fixture(scope="module")
def report(folder: Path) -> Any:
    printed = cotbal("check", folder / "recipe.yaml", "--json", code=2)
    return json.loads(printed[printed.index("{") :])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_record_is_named(report: Any, folder: Path, kind: Kind) -> None:
    rows = [other for other in KINDS if other.split == kind.split]
    number, path = 2 + rows.index(kind), str(folder / f"{kind.split}.jsonl")
    if kind.warning:
        assert any(
            kind.expected in text and f"{path}, record {number}" in text
            for text in report["warnings"]
        ), report["warnings"]
    else:
        problems = [p for p in report["errors"] if (p["file"], p["number"]) == (path, number)]
        assert kind.expected in {problem["code"] for problem in problems}, problems


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_file_is_named(report: Any, folder: Path, file: File) -> None:
    path = str(folder / file.name)
    codes = {problem["code"] for problem in report["errors"] if problem["file"] == path}
    assert codes == (set() if file.expected is None else {file.expected})


def test_nothing_sound_is_named(report: Any, folder: Path) -> None:
    numbers = {(problem["file"], problem["number"]) for problem in report["errors"]}
    assert not numbers & {
        (str(folder / f"{split}.jsonl"), 1) for split in ("train", "validation", "boxes")
    }
    assert len(numbers) == len([k for k in KINDS if not k.warning]) + len(
        [file for file in FILES if file.expected is not None]
    )
