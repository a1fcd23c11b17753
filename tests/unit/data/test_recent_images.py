"""Images that several records name are decoded once while there is memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from cotbal.data.reading import recent_images
from cotbal.data.reading.images import open_image
from cotbal.data.reading.recent_images import RecentImages
from cotbal.errors import DataError
from helpers.errors import raises

BYTES = 4 * 4 * 3  # of an image


@pytest.fixture
def decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three images, and the names of those that are decoded, in order."""
    for name in ("red", "green", "blue"):
        Image.new("RGB", (4, 4), name).save(tmp_path / f"{name}.png")
    names: list[str] = []

    def counted(path: Path) -> Image.Image:
        names.append(path.stem)
        return open_image(path)

    monkeypatch.setattr(recent_images, "open_image", counted)
    return names


def test_an_image_is_decoded_once_and_belongs_to_its_caller(
    tmp_path: Path, decoded: list[str]
) -> None:
    images, path = RecentImages(), tmp_path / "red.png"
    images.open(path).paste("white", (0, 0, 4, 4))
    assert images.open(path).tobytes() == open_image(path).tobytes()
    assert decoded == ["red"]


def test_a_changed_file_is_decoded_again(tmp_path: Path, decoded: list[str]) -> None:
    images, path = RecentImages(), tmp_path / "red.png"
    images.open(path)
    Image.new("RGB", (4, 4), "black").save(path)
    os.utime(path, ns=(1, 1))
    assert images.open(path).getpixel((0, 0)) == (0, 0, 0)
    assert decoded == ["red", "red"]


def test_the_oldest_leave_where_memory_ends(tmp_path: Path, decoded: list[str]) -> None:
    images = RecentImages(budget=2 * BYTES)
    for name in ("red", "green", "red", "blue", "red", "green"):
        images.open(tmp_path / f"{name}.png")
    assert decoded == ["red", "green", "blue", "green"]
    none = RecentImages(budget=BYTES - 1)
    assert none.open(tmp_path / "red.png").getpixel((0, 0)) == (255, 0, 0)


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with raises(DataError, "missing-image", "none.png"):
        RecentImages().open(tmp_path / "none.png")
