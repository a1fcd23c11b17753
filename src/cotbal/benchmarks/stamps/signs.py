"""Signs to read: one word on a plate in front of a photograph."""

from __future__ import annotations

import random
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from cotbal.benchmarks.stamps.scenes import SIDE, ground_image
from cotbal.benchmarks.stamps.things import Thing

# three fonts that differ clearly, of those in the package
FONTS = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSerif-Bold.ttf")
# plate and ink: always dark on light, the other way round is another task to a small vision model
PLATES = (("white", "black"), ("#f2c200", "black"), ("#d8ecff", "#12427a"), ("#ffe3e0", "#901010"))
WORDS = 12


def lexicon(things: list[Thing], seed: int) -> list[str]:
    """Twelve single-word names of three to seven letters: signs show words of the same world as the
    images.
    """
    names = {thing.name for thing in things if thing.name.isalpha()}
    words = sorted(name for name in names if 3 <= len(name) <= 7)
    return sorted(random.Random(seed).sample(words, min(WORDS, len(words))))


def draw_sign(word: str, ground: Path, fonts: list[Path], rng: random.Random) -> Image.Image:
    """A plate across the image with the word in capitals, as large as fits.

    The vision model was trained on objects and sees 32 x 32 pixels per token: with smaller words
    anywhere in the image, forty words and six fonts, not even a linear probe on its features
    reads better than chance.
    """
    scene = ground_image(ground, rng)
    plate, ink = rng.choice(PLATES)
    text = word.upper()
    font = fitting_font(text, rng.choice(fonts), int(SIDE * 0.86))
    left, top, right, bottom = font.getbbox(text)
    middle = SIDE // 2 + rng.randint(-8, 8)
    pen = ImageDraw.Draw(scene)
    box = (4, middle - 44, SIDE - 4, middle + 44)
    pen.rectangle(box, fill=plate, outline=ink, width=2)
    width, height = right - left, bottom - top
    x = (SIDE - width) / 2 - left + rng.randint(-3, 3)
    y = middle - height / 2 - top
    pen.text((x, y), text, fill=ink, font=font)
    return scene


def fitting_font(text: str, font: Path, width: int) -> ImageFont.FreeTypeFont:
    """The font at the size at which the text is about so wide, at most 60 pixels high."""
    at_40 = ImageFont.truetype(str(font), 40).getlength(text)
    size = int(40 * width / max(1.0, at_40))
    return ImageFont.truetype(str(font), max(12, min(60, size)))
