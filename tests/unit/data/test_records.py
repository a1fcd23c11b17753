from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from cotbal.data.files import default_cache, is_own
from cotbal.data.reading import records as reading
from cotbal.data.reading.formats import read_rows
from cotbal.data.reading.images import open_image
from cotbal.data.reading.record import Record, Turn
from cotbal.data.reading.records import Records, open_records, sound_records
from cotbal.errors import DataError
from helpers.errors import raises
from helpers.record_rows import image, llava, talk, write


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
def test_a_record_survives_the_way_to_disk(tmp_path: Path, suffix: str) -> None:
    turns = talk("<image>\nWhat?", "a frog", "Where?", "there – ✓")
    rows = [llava("a", task="vqa"), llava("b", conversations=turns)]
    records = open_records(write(tmp_path / f"data.{suffix}", rows), tmp_path / "cache")
    assert len(records) == 2
    assert records[0] == Record(
        "a",
        "vqa",
        ("a.png",),
        (Turn("user", "<image>\nWhat?"), Turn("assistant", "a frog")),
        ("a frog",),
        1,
    )
    assert [turn.text for turn in records[1].turns] == [
        "<image>\nWhat?",
        "a frog",
        "Where?",
        "there – ✓",
    ]
    assert records[1].references == ("there – ✓",)
    assert list(records) == [records[0], records[1]] == records[:2]
    assert records[-1] == records[1]
    with pytest.raises(IndexError):
        records[2]


def test_text_only_system_and_references_survive_too(tmp_path: Path) -> None:
    system = [{"from": "system", "value": "Be short."}, *talk("Hi", ["Hello", "Hi"])]
    record = open_records(write(tmp_path / "a.jsonl", [{"conversations": system}]), tmp_path)[0]
    assert [turn.role for turn in record.turns] == ["system", "user", "assistant"]
    assert record.images == ()
    assert record.references == ("Hello", "Hi")


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
def test_marks_and_unread_keys_survive(tmp_path: Path, suffix: str) -> None:
    turns = [{"from": "system", "value": "Be short."}, *talk("Hi", "Hello", "Who?", "Me")]
    turns[2]["loss"] = False
    rows = [llava("a", hint="x"), {"id": "b", "conversations": turns, "image": None}, llava("c")]
    records = open_records(write(tmp_path / f"data.{suffix}", rows), tmp_path / "cache")
    assert [turn.loss for turn in records[1].turns] == [True, True, False, True, True]
    assert [record.learnt for record in records] == [("a frog",), ("Me",), ("a frog",)]
    assert list(records.silent()) == [2]
    assert [record.unread for record in records] == [("hint",), (), ()]
    assert list(records.unread()) == [(1, ["hint"], {})]


def test_a_file_without_any_loss_is_an_error(tmp_path: Path) -> None:
    turns = [*talk("Hi"), {"from": "gpt", "value": "Hello", "weight": 0}]
    rows = [llava(f"r{i}", conversations=turns, image=None) for i in range(3)]
    path = write(tmp_path / "a.jsonl", rows)
    with raises(DataError, "nothing-trained", path):
        open_records(path, tmp_path / "cache")
    assert len(open_records(path, tmp_path / "cache", evaluation=True)) == 3
    rows[1] = llava("r1", conversations=talk("Hi", "Hello"), image=None)
    assert len(open_records(write(path, rows), tmp_path / "cache")) == 3


def test_details_of_evaluation_records_survive_and_those_of_training_records_are_left_out(
    tmp_path: Path,
) -> None:
    details = {"category": "Straße ✓", "rotation_of": 7, "hard": True, "share": 0.5}
    path = write(
        tmp_path / "a.jsonl", [llava("a", **details, boxes=[1, 2], nothing=None), llava("b")]
    )
    first, second = open_records(path, tmp_path / "cache", evaluation=True)
    assert first.details == details
    assert second.details == {}
    assert [record.details for record in open_records(path, tmp_path / "cache")] == [{}, {}]


@pytest.mark.parametrize("suffix", ["json", "parquet"])
def test_details_come_from_every_kind_of_file(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"data.{suffix}", [llava("a", category="count", index=3, raw="")])
    record = open_records(path, tmp_path / "cache", evaluation=True)[0]
    assert record.details == {"category": "count", "index": 3, "raw": ""}


@pytest.mark.parametrize("suffix", ["json", "parquet"])
def test_options_of_evaluation_records(tmp_path: Path, suffix: str) -> None:
    lists = [["a frog ", "Straße"], None, ["", "b"]]
    raw = [llava(str(i), options=options) for i, options in enumerate(lists)]
    path = write(tmp_path / f"data.{suffix}", raw)
    records = open_records(path, tmp_path / "cache", evaluation=True)
    assert [record.options for record in records] == [("a frog", "Straße"), (), ("", "b")]
    assert records.option_counts().tolist() == [2, 0, 2]
    assert [record.options for record in open_records(path, tmp_path / "cache")] == [()] * 3


def test_other_options_than_texts_are_kept_as_they_were(tmp_path: Path) -> None:
    values = ["(A) a (B) b", 4, {"A": "a"}, [1.5, 2.5], [True, "b"], [3, "b"]]
    path = write(tmp_path / "a.jsonl", [llava(str(i), options=v) for i, v in enumerate(values)])
    records = open_records(path, tmp_path / "cache", evaluation=True)
    assert [record.options for record in records] == [()] * 5 + [("3", "b")]
    assert [record.details.get("options") for record in records] == [*values[:2], *[None] * 4]


def test_ids(tmp_path: Path) -> None:
    rows = [llava(None), llava("b"), llava(None)]
    records = open_records(write(tmp_path / "vqa_train.jsonl", rows), tmp_path / "cache")
    assert list(records.ids()) == ["vqa_train_1", "b", "vqa_train_3"]
    assert list(records.ids(np.array([2, 1]))) == ["vqa_train_3", "b"]
    assert [record.id for record in records] == ["vqa_train_1", "b", "vqa_train_3"]


def test_a_conversion_knows_no_file_names(tmp_path: Path) -> None:
    first = open_records(write(tmp_path / "a.jsonl", [llava(None)]), tmp_path / "cache")
    second = open_records(write(tmp_path / "b.jsonl", [llava(None)]), tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert first.digest == second.digest
    assert (first[0].id, second[0].id) == ("a_1", "b_1")


def test_a_conversion_is_used_again_until_the_source_changes(tmp_path: Path) -> None:
    path, cache = write(tmp_path / "a.jsonl", [llava("a")]), tmp_path / "cache"
    open_records(path, cache)
    (arrow,) = cache.iterdir()
    stamp = arrow.stat().st_mtime_ns
    open_records(path, cache)
    assert arrow.stat().st_mtime_ns == stamp
    write(path, [llava("b")])
    assert open_records(path, cache)[0].id == "b"


def test_a_file_that_is_replaced_while_it_is_converted_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the old file back, its records are read, and not those of the other."""
    path, cache = write(tmp_path / "a.jsonl", [llava("old")]), tmp_path / "cache"
    other = write(tmp_path / "b.jsonl", [llava("new")])
    old = path.read_bytes()

    def replaced(source: Path) -> Any:
        os.replace(other, source)
        return read_rows(source)

    with monkeypatch.context() as patch:
        patch.setattr(reading, "read_rows", replaced)
        with raises(DataError, "changed-inputs", path):
            open_records(path, cache)
    assert list(cache.iterdir()) == []
    path.write_bytes(old)
    assert open_records(path, cache)[0].id == "old"


@pytest.mark.parametrize("damage", ["empty", "half", "zeros", "no end", "letter"])
def test_a_damaged_conversion_is_made_again(tmp_path: Path, damage: str) -> None:
    rows = [llava(str(number), answer=f"frog {number}") for number in range(50)]
    path, cache = write(tmp_path / "a.jsonl", rows), tmp_path / "cache"
    before = list(open_records(path, cache))
    (arrow,) = cache.iterdir()
    content = arrow.read_bytes()
    size = len(content)
    arrow.write_bytes(
        {
            "empty": b"",
            "half": content[: size // 2],
            "zeros": bytes(size),
            "no end": content[:-10],
            "letter": content.replace(b"frog 7", b"frog 8", 1),
        }[damage]
    )
    assert list(open_records(path, cache)) == before
    assert arrow.read_bytes() == content


def test_files_that_others_put_into_a_shared_cache_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, theirs = (write(tmp_path / f"{n}.jsonl", [llava(n)]) for n in ("mine", "theirs"))
    open_records(theirs, tmp_path / "other")
    open_records(mine, tmp_path / "cache")
    (arrow,), (other,) = ((tmp_path / n).iterdir() for n in ("cache", "other"))
    arrow.write_bytes(other.read_bytes())  # whole, and under the name of another
    assert open_records(mine, tmp_path / "cache")[0].id == "mine"
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert not is_own(arrow)
    assert open_records(mine, tmp_path / "cache")[0].id == "mine"
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_an_embedded_image_is_what_its_name_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COTBAL_CACHE", str(tmp_path / "cache"))
    content = image(tmp_path / "red.png").read_bytes()
    path = write(tmp_path / "a.parquet", [llava("a", image={"bytes": content, "path": None})])
    name = Path(open_records(path, default_cache())[0].images[0])
    assert open_image(name).size == (64, 64)
    name.write_bytes(image(tmp_path / "blue.png", "blue").read_bytes())
    with raises(DataError, "broken-image", name):
        open_image(name)
    name.unlink()
    open_records(path, default_cache())
    assert open_image(name).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("left", [None, b"", b"half"])
def test_a_damaged_embedded_image_is_written_again(tmp_path: Path, left: bytes | None) -> None:
    content = image(tmp_path / "red.png").read_bytes()
    path = write(tmp_path / "a.parquet", [llava("a", image={"bytes": content, "path": None})])
    cache = tmp_path / "cache"
    (name,) = open_records(path, cache)[0].images
    if left is None:
        Path(name).unlink()
    else:
        Path(name).write_bytes(left)
    assert open_records(path, cache)[0].images == (name,)
    assert Path(name).read_bytes() == content


def test_a_train_file_is_checked_again_for_evaluation(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [llava(conversations=talk("<image>", "b", "c", "d"))])
    assert len(open_records(path, tmp_path)) == 1
    with raises(DataError, "several-questions", path, "record 1"):
        open_records(path, tmp_path, evaluation=True)


def test_problems_name_file_and_record(tmp_path: Path) -> None:
    rows = [llava(str(number), answer="" if number % 2 else "b") for number in range(60)]
    path, cache = write(tmp_path / "a.jsonl", rows), tmp_path / "cache"
    for _ in range(2):
        with raises(DataError, "invalid-records", path, "30 errors", "10 more") as error:
            open_records(path, cache)
        lines = str(error.value).splitlines()
        assert [line.split(": ")[:2] for line in lines[1:21]] == [
            [f"  {path}, record {n}", "conversations[1].value"] for n in range(2, 42, 2)
        ]
        assert list(cache.iterdir()) == []


def test_sound_records_of_an_invalid_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [llava("a"), llava("b", answer=""), llava("c")])
    with sound_records(path, tmp_path, False) as (records, problems):
        assert [(record.id, record.number) for record in records] == [("a", 1), ("c", 3)]
    assert [(problem.number, problem.code) for problem in problems] == [(2, "empty-text")]


def test_an_id_is_there_once(tmp_path: Path) -> None:
    rows = [llava("a"), llava("b"), llava("a"), llava("c"), llava("b"), llava("a")]
    with sound_records(write(tmp_path / "x.jsonl", rows), tmp_path, False) as (_, problems):
        assert [(p.number, p.code, p.message.split()[-1]) for p in problems] == [
            (3, "repeated-id", "1"),
            (5, "repeated-id", "2"),
            (6, "repeated-id", "1"),
        ]


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file_is_a_problem(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    with raises(DataError, "no-records", path):
        open_records(path, tmp_path / "cache")


def test_a_missing_file_is_a_problem(tmp_path: Path) -> None:
    with raises(DataError, "missing-file", tmp_path / "a.jsonl"):
        open_records(tmp_path / "a.jsonl", tmp_path / "cache")


def test_embedded_images_lie_in_the_cache(tmp_path: Path) -> None:
    content = image(tmp_path / "a.png").read_bytes()
    rows = [llava(str(number), image={"bytes": content, "path": None}) for number in range(3)]
    path = write(tmp_path / "a.parquet", rows)
    record = open_records(path, tmp_path / "cache")[2]
    (name,) = record.images
    assert Path(name).is_absolute()
    assert Path(name).suffix == ".png"
    assert Path(name).read_bytes() == content
    assert Path(name).parent == tmp_path / "cache" / f"images-{os.geteuid()}"
    assert len(list(Path(name).parent.iterdir())) == 1


def test_an_embedded_image_follows_its_cache(tmp_path: Path) -> None:
    memory = io.BytesIO()
    Image.new("RGB", (4, 4)).save(memory, "JPEG")
    path = write(
        tmp_path / "a.parquet", [llava(image={"bytes": memory.getvalue(), "path": "x.jpg"})]
    )
    open_records(path, tmp_path / "cache")
    (tmp_path / "cache").rename(tmp_path / "moved")
    (name,) = open_records(path, tmp_path / "moved")[0].images
    assert Path(name).read_bytes() == memory.getvalue()


def test_embedded_bytes_that_are_no_image(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [llava(image={"bytes": b"none", "path": None})])
    with raises(DataError, "broken-image", "record 1: image: "):
        open_records(path, tmp_path / "cache")


def test_default_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COTBAL_CACHE", str(tmp_path / "mine"))
    assert default_cache() == tmp_path / "mine"
    monkeypatch.delenv("COTBAL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache() == tmp_path / "xdg" / "cotbal"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache" / "cotbal"


def test_two_processes_may_convert_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [llava(str(number)) for number in range(3000)])
    program = (
        "import sys; from pathlib import Path;"
        "from cotbal.data.reading.records import open_records;"
        "print(len(open_records(Path(sys.argv[1]), Path(sys.argv[2]))))"
    )
    command = [sys.executable, "-c", program, str(path), str(tmp_path / "cache")]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [worker.communicate()[0] for worker in workers] == ["3000\n", "3000\n"]
    assert len(os.listdir(tmp_path / "cache")) == 1


@pytest.mark.extended
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Five times the records, 56 MB more of text, must not raise a peak of about 140 MB."""
    program = (
        "import resource, sys; from pathlib import Path; from cotbal.data.reading.records import"
        " open_records;open_records(Path(sys.argv[1]),"
        " Path(sys.argv[2]));print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    # The peak of a process starts at the size of the one that started it, so let a small one do
    # that.
    starter = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"
    peaks = []
    for n in (10_000, 50_000):
        path = tmp_path / f"{n}.jsonl"
        line = json.dumps({"conversations": talk("Why? " + "w " * 700, "Because.")})
        path.write_text(f"{line}\n" * n)
        command = [
            sys.executable,
            "-c",
            starter,
            sys.executable,
            "-c",
            program,
            str(path),
            str(tmp_path / "cache"),
        ]
        peaks.append(
            int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        )
    assert peaks[1] < 1.15 * peaks[0]


def resident(mapped: Path) -> int:
    """Bytes of a memory-mapped file that this process holds in memory."""
    total, counts = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if line.split()[0].endswith(":"):
            total += 1024 * int(line.split()[1]) if counts and line.startswith("Rss:") else 0
        else:
            counts = line.endswith(str(mapped))
    return total


def test_a_file_that_cannot_be_mapped_is_not_converted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.jsonl", [llava("1")])
    open_records(path, tmp_path / "cache")

    def refuse(_path: str) -> None:
        raise OSError("Memory mapping file failed: Cannot allocate memory")

    monkeypatch.setattr(pa, "memory_map", refuse)
    with pytest.raises(MemoryError):
        open_records(path, tmp_path / "cache")


@pytest.mark.parametrize(
    "read",
    [
        list,
        lambda records: list(records.ids()),
        Records.image_names,
        Records.answers,
        Records.image_counts,
        Records.option_counts,
        Records.has_embedded_images,
        lambda records: records.containing("never"),
    ],
    ids=["all", "ids", "images", "answers", "image counts", "options", "embedded", "containing"],
)
def test_what_was_read_does_not_stay_in_memory(
    tmp_path: Path, read: Callable[[Records], object]
) -> None:
    names = [f"{number:0200}" for number in range(6000)]
    rows = [llava(name, image=f"{name}.png") for name in names]
    records = open_records(write(tmp_path / "a.jsonl", rows), tmp_path / "cache")
    (kept,) = (tmp_path / "cache").glob("*.arrow")
    assert kept.stat().st_size > 2 * 2**20
    read(records)
    assert resident(kept) < 2**18
    assert kept not in {link.resolve() for link in Path("/proc/self/fd").iterdir()}
    assert records[0].id == names[0]
    assert resident(kept)  # it was this file that was measured


def test_reading_one_record_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    """A ratio of two sizes side by side, so that a busy machine slows both."""
    few, many = (
        open_records(
            write(tmp_path / f"{n}.jsonl", [llava(str(i)) for i in range(n)]), tmp_path / "cache"
        )
        for n in (100, 10_000)
    )

    def seconds(records: Records) -> float:
        start = time.perf_counter()
        for index in range(500):
            records[index * 97 % len(records)]
        return time.perf_counter() - start

    rounds = [(seconds(few), seconds(many)) for _ in range(7)]
    assert min(slow for _, slow in rounds) < 5 * min(fast for fast, _ in rounds)


def test_the_hugging_face_form_in_parquet(tmp_path: Path) -> None:
    """Parquet has one type a column: every part carries every key, null where it has nothing to
    say.
    """
    content = image(tmp_path / "a.png").read_bytes()
    shown = [{"type": "image", "text": None}, {"type": "text", "text": "What?"}]
    said = [{"type": "text", "text": "a frog"}]
    row = {
        "messages": [{"role": "user", "content": shown}, {"role": "assistant", "content": said}],
        "images": [{"bytes": content, "path": None}],
    }
    record = open_records(
        write(tmp_path / "hf.parquet", [row]), tmp_path / "cache", evaluation=True
    )[0]
    assert record.turns == (Turn("user", "<image>\nWhat?"), Turn("assistant", "a frog"))
    assert Path(record.images[0]).read_bytes() == content
