from __future__ import annotations

import math
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from cotbal.data.reading import images
from cotbal.data.reading.images import open_image, problems_of_images, resolve, size_of
from cotbal.errors import DataError
from helpers.errors import raises
from helpers.record_rows import image


def truncated(path: Path) -> Path:
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:1000])
    return path


def test_resolve(tmp_path: Path) -> None:
    assert resolve(tmp_path, "a/b.png") == tmp_path / "a" / "b.png"
    assert resolve(tmp_path, "/a/b.png") == Path("/a/b.png")


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "CMYK"])
def test_every_mode_is_opened_in_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.tif"
    Image.new(mode, (3, 2)).save(path)
    opened = open_image(path)
    assert (opened.mode, opened.size) == ("RGB", (3, 2))


def gray(values: list[float], mode: str) -> Image.Image:
    kinds = {"I;16": "<u2", "I;16B": ">u2", "I": "<i4", "F": "<f4"}
    return Image.fromarray(np.array([values], kinds[mode]))


def levels(path: Path) -> list[int]:
    opened = open_image(path)
    assert opened.mode == "RGB"
    assert (np.asarray(opened) == np.asarray(opened)[:, :, :1]).all()
    return np.asarray(opened)[0, :, 0].tolist()


@pytest.mark.parametrize(
    ("name", "mode", "values", "expected"),
    [
        ("a.png", "I;16", [0, 13107, 26214, 65535], [0, 51, 102, 255]),
        ("a.tif", "I;16", [0, 819, 1638, 4095], [0, 51, 102, 255]),  # 12 bits in 16
        ("a.tif", "I;16B", [0, 13107, 26214, 65535], [0, 51, 102, 255]),
        ("a.tif", "I", [-1000, 0, 3000, 4000], [0, 51, 204, 255]),  # Hounsfield units
        ("a.tif", "F", [0.0, 0.2, 0.4, 1.0], [0, 51, 102, 255]),
        ("a.tif", "F", [math.nan, math.inf, 0.0, 0.5], [0, 0, 0, 255]),
        ("a.tif", "F", [math.nan] * 2, [0, 0]),
        ("a.png", "I;16", [700, 700], [0, 0]),
    ],
)
def test_gray_images_of_more_than_8_bits_are_scaled_by_their_range(
    tmp_path: Path, name: str, mode: str, values: list[float], expected: list[int]
) -> None:
    gray(values, mode).save(tmp_path / name)
    assert levels(tmp_path / name) == expected


def test_a_transparent_value_of_16_bits_is_white(tmp_path: Path) -> None:
    gray([9, 100, 355], "I;16").save(tmp_path / "a.png", transparency=9)
    with Image.open(tmp_path / "a.png") as kept:
        assert kept.info["transparency"] == 9
    assert levels(tmp_path / "a.png") == [255, 0, 255]


def test_a_turned_image_of_16_bits_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    gray([0, 65535], "I;16").save(tmp_path / "a.png", exif=exif)
    assert open_image(tmp_path / "a.png").size == (1, 2)


def test_transparent_is_white(tmp_path: Path) -> None:
    drawing = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    drawing.putpixel((0, 0), (0, 0, 255, 255))
    drawing.save(tmp_path / "a.png")
    opened = open_image(tmp_path / "a.png")
    assert [opened.getpixel((x, 0)) for x in (0, 1)] == [(0, 0, 255), (255, 255, 255)]


def test_a_turned_photograph_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees
    Image.new("RGB", (4, 2)).save(tmp_path / "a.jpg", exif=exif)
    assert open_image(tmp_path / "a.jpg").size == (2, 4)


def test_an_image_of_very_many_pixels_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    Image.new("L", (8193, 8193)).save(path)  # 80 KB, that take a gigabyte
    for read in (open_image, size_of):
        with raises(DataError, "broken-image", path, "8193"):
            read(path)
    Image.new("L", (60, 50)).save(path)
    assert size_of(path) == (60, 50)
    monkeypatch.setenv("COTBAL_MAX_PIXELS", "2999")
    with raises(DataError, "broken-image", path, "2,999"):
        open_image(path)
    monkeypatch.setenv("COTBAL_MAX_PIXELS", "3000")
    assert open_image(path).size == (60, 50)


@pytest.mark.parametrize("kind", ["EPS", "PSD", "WMF", "FITS"])
def test_other_formats_are_no_images_whatever_they_are_called(tmp_path: Path, kind: str) -> None:
    contents = {
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n",
        "PSD": b"8BPS\0\1" + bytes(6) + b"\0\3\0\0\0\2\0\0\0\2\0\x08\0\3" + bytes(99),
        "WMF": b"\xd7\xcd\xc6\x9a" + bytes(99),
        "FITS": b"SIMPLE  =                    T" + bytes(99),
    }
    path = tmp_path / "a.png"
    path.write_bytes(contents[kind])
    with raises(DataError, "broken-image", path, "cannot identify"):
        open_image(path)


@pytest.mark.parametrize(
    "kind", ["BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "TGA", "TIFF", "WEBP"]
)
def test_no_format_is_decoded_before_its_pixels_are_counted(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An icon is: what it holds may have up to Pillow's own limit of pixels."""
    path = tmp_path / "a.png"
    Image.effect_noise((24, 16), 40).convert("RGB").save(path, kind)
    monkeypatch.setenv("COTBAL_MAX_PIXELS", "99")
    decoded: list[object] = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", decoded.append)
    with raises(DataError, "broken-image", path):
        open_image(path)
    assert decoded == []


def test_icons_are_no_images(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (24, 16)).save(path, "ICO")
    with raises(DataError, "broken-image", path, "cannot identify"):
        open_image(path)


def test_large_images_are_decoded_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "_LARGE", 99)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    at_once: list[int] = []
    running = 0

    def slow(opened: Image.Image) -> Image.Image:
        nonlocal running
        running += 1
        at_once.append(running)
        time.sleep(0.02)
        running -= 1
        return opened

    monkeypatch.setattr(images, "_on_white", slow)
    names = [str(image(tmp_path / f"{number}.png", size=(20, 20))) for number in range(8)]
    assert problems_of_images(tmp_path, names, decode=True) == {}
    assert at_once == [1] * 8


def test_problems(tmp_path: Path) -> None:
    image(tmp_path / "good.png")
    truncated(tmp_path / "broken.png")
    (tmp_path / "text.png").write_text("no image")
    names = ("good.png", "broken.png", "text.png", "none.png", "", "a\0b")
    missing = dict.fromkeys(("none.png", "", "a\0b"), "missing-image")
    broken = dict.fromkeys(("broken.png", "text.png"), "broken-image")
    for decode, expected in ((False, missing), (True, missing | broken)):
        errors = problems_of_images(tmp_path, names, decode)
        assert {name: error.code for name, error in errors.items()} == expected
        assert all(str(tmp_path / name) in str(error) for name, error in errors.items())


@pytest.mark.parametrize(
    ("name", "code"), [("broken.png", "broken-image"), ("none.png", "missing-image")]
)
def test_open_names_the_file(tmp_path: Path, name: str, code: str) -> None:
    truncated(tmp_path / "broken.png")
    with raises(DataError, code, tmp_path / name):
        open_image(tmp_path / name)


def test_problems_of_many(tmp_path: Path) -> None:
    image(tmp_path / "good.png")
    names = [f"none{number}.png" if number % 2 else "good.png" for number in range(600)]
    done: list[int] = []
    by_name = problems_of_images(tmp_path, names, True, progress=done.append)
    assert set(by_name) == set(names) - {"good.png"}
    assert done == [256, 512, 600]
