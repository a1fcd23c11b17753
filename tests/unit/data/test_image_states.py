from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cotbal.data.reading import image_states
from cotbal.data.reading.image_states import ImageStates, read_states
from cotbal.data.reading.records import Records, open_records
from cotbal.errors import RunError
from helpers.errors import raises
from helpers.record_rows import image, llava, talk, write

EVERY = np.arange(3)


@pytest.fixture
def records(tmp_path: Path) -> Records:
    """Records of a.png, b.png and no image; the images are in `images`."""
    for name, colour in (("a", "red"), ("b", "blue")):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), colour).save(tmp_path / "images" / f"{name}.png")
    rows = [
        llava("1", image="a.png"),
        llava("2", image="b.png"),
        {"id": "3", "conversations": talk("Hi", "Hello")},
    ]
    return open_records(write(tmp_path / "data.jsonl", rows), tmp_path / "cache")


def entries(records: Records, indices: list[int], **options: bool) -> dict[str, str]:
    states = ImageStates(records.source.parent / "images", **options)
    return states.entries("a.train", records, np.array(indices))


def replace(path: Path, at: int = 0) -> None:
    """Another byte in a file, with the size and times of before."""
    content, times = bytearray(path.read_bytes()), path.stat()
    content[at] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_a_replaced_image_changes_the_records_that_show_it(records: Records) -> None:
    def both() -> tuple[dict[str, str], dict[str, str]]:
        return entries(records, [0, 2]), entries(records, [1])

    before = both()
    replace(records.source.parent / "images" / "b.png")
    after = both()
    assert before[0] == after[0]
    assert before[1] != after[1]
    assert list(before[1]) == ["images"]


def test_records_without_images_have_no_entry(records: Records) -> None:
    assert entries(records, [2]) == {}


def test_a_copy_is_the_same_image(records: Records, tmp_path: Path) -> None:
    before = entries(records, [0, 1, 2])
    os.utime(tmp_path / "images" / "a.png", ns=(1, 1))
    assert entries(records, [0, 1, 2]) == before
    (tmp_path / "images" / "a.png").unlink()
    assert entries(records, [0, 1, 2]) != before


def test_every_byte_counts_with_whole(records: Records, tmp_path: Path) -> None:
    content = bytes(range(256)) * 64
    (tmp_path / "images" / "a.png").write_bytes(content)
    before = entries(records, [0], whole=True)
    replace(tmp_path / "images" / "a.png", at=len(content) // 2)
    after = entries(records, [0], whole=True)
    assert before["images"] == after["images"], "it looks at both ends"
    assert before["image_bytes"] != after["image_bytes"]


def test_an_image_of_known_size_and_time_is_not_opened_again(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    edges = image_states._edges
    monkeypatch.setattr(
        image_states, "_edges", lambda path: (opened.append(os.path.basename(path)), edges(path))[1]
    )

    def once() -> dict[str, str]:
        opened.clear()
        states = ImageStates(tmp_path / "images", tmp_path / "kept")
        result = states.entries("a.train", records, EVERY)
        states.save()
        return result

    before = once()
    assert sorted(opened) == ["a.png", "b.png"]
    assert once() == before
    assert opened == []
    os.utime(tmp_path / "images" / "a.png", ns=(1, 1))
    assert once() == before
    assert opened == ["a.png"]
    (kept,) = (tmp_path / "kept").iterdir()
    kept.write_bytes(kept.read_bytes()[:-9])
    assert once() == before
    assert sorted(opened) == ["a.png", "b.png"], "a damaged file does not count"
    shutil.copy(tmp_path / "images" / "b.png", tmp_path / "images" / "a.png")
    assert once() != before
    assert opened == ["a.png"]


def kept_states(records: Records, folder: Path) -> ImageStates:
    return ImageStates(records.source.parent / "images", folder)


def read_or_code(path: Path) -> dict[str, list[int]] | str:
    """The states, or the code of their error."""
    try:
        return {name: array.tolist() for name, array in read_states(path).items()}
    except RunError as error:
        return error.code


def test_no_damaged_byte_is_more_than_a_file_that_does_not_count(
    records: Records, tmp_path: Path
) -> None:
    """Every byte of a file of states, with one bit flipped, all flipped, and zeroed."""
    states = kept_states(records, tmp_path / "kept")
    before = states.entries("a.train", records, EVERY)
    states.save()
    (path,) = (tmp_path / "kept").iterdir()
    content = path.read_bytes()
    whole = read_or_code(path)
    for position in range(len(content)):
        for changed in {content[position] ^ 1, content[position] ^ 0xFF, 0} - {content[position]}:
            path.write_bytes(content[:position] + bytes([changed]) + content[position + 1 :])
            assert read_or_code(path) in (whole, "broken-file")
    for end in range(0, len(content), 7):
        path.write_bytes(content[:end])
        with raises(RunError, "broken-file", path):
            read_states(path)
    assert kept_states(records, tmp_path / "kept").entries("a.train", records, EVERY) == before


def test_embedded_images_are_the_same_in_every_cache(tmp_path: Path) -> None:
    content = image(tmp_path / "a.png").read_bytes()
    rows = [llava("1", image={"bytes": content, "path": None})]
    path = write(tmp_path / "data.parquet", rows)
    one, other = (open_records(path, tmp_path / name) for name in ("one", "other"))
    assert entries(one, [0]) == entries(other, [0]) != {}
