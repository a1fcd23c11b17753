from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from cotbal.data.pictures import fault_of, faults_of_pictures, open_picture, resolve
from cotbal.errors import DataError
from helpers.record_rows import picture


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
    opened = open_picture(path)
    assert (opened.mode, opened.size) == ("RGB", (3, 2))


def test_transparent_is_white(tmp_path: Path) -> None:
    drawing = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    drawing.putpixel((0, 0), (0, 0, 255, 255))
    drawing.save(tmp_path / "a.png")
    opened = open_picture(tmp_path / "a.png")
    assert [opened.getpixel((x, 0)) for x in (0, 1)] == [(0, 0, 255), (255, 255, 255)]


def test_a_turned_photograph_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees
    Image.new("RGB", (4, 2)).save(tmp_path / "a.jpg", exif=exif)
    assert open_picture(tmp_path / "a.jpg").size == (2, 4)


def test_faults(tmp_path: Path) -> None:
    good, broken = picture(tmp_path / "good.png"), truncated(tmp_path / "broken.png")
    text = tmp_path / "text.png"
    text.write_text("no picture")
    assert fault_of(good, decode=True) is None
    assert fault_of(broken, decode=False) is None
    assert str(fault_of(broken, decode=True)).startswith(f"broken picture {broken}: ")
    assert str(fault_of(text, decode=True)).startswith(f"broken picture {text}: ")
    for path in (tmp_path / "none.png", tmp_path, tmp_path / "a\0b"):
        assert fault_of(path, decode=False) == f"missing picture {path}"


@pytest.mark.parametrize("name", ["broken.png", "none.png"])
def test_open_names_the_file(tmp_path: Path, name: str) -> None:
    truncated(tmp_path / "broken.png")
    with pytest.raises(DataError, match=name):
        open_picture(tmp_path / name)


def test_faults_of_many(tmp_path: Path) -> None:
    picture(tmp_path / "good.png")
    names = [f"none{place}.png" if place % 2 else "good.png" for place in range(600)]
    done: list[int] = []
    found = faults_of_pictures(tmp_path, names, True, done.append)
    assert set(found) == set(names) - {"good.png"}
    assert done == [256, 512, 600]
