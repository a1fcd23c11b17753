"""Signs: one printed word on a plate, sometimes with a drawing beside it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from random import Random

from PIL import Image, ImageDraw

from cotbal.benchmarks.pocket.drawings import BACKGROUNDS, FONTS, NAMES, SIDE, Placed, drawing, font
from cotbal.benchmarks.pocket.scenes import paste, shaded

_WORDS = """
    AGE AIR ANT ARM ART BAG BAR BAT BAY BED BEE BIG BIN BOX BOY BUS CAN CAP CAR CAT COW CUP DAY DOG DRY EAR EAST
    EGG END EXIT EYE FAN FAR FISH FLAG FOG FOOD FOX FROG FUN GAME GAS GATE GOLD GOOD GRASS GREEN GYM HAND HAT
    HELP HILL HOME HOT HOTEL HOUR HOUSE ICE INK ISLE JAM JAR JAZZ JET JOB JUICE JUMP KEY KING KITE LAKE LAMP
    LAND LEFT LEMON LIFE LIFT LINE LION LOVE LUNCH MAIL MAP MILK MIX MOON MUSIC NEST NEW NIGHT NORTH NOTE OAK
    OCEAN OIL OPEN OVEN PAINT PARK PATH PEAR PIG PLANE PLAY POND POOL PULL PUSH QUEEN QUICK QUIET QUIZ RADIO
    RAIN RED RICE RING RIVER ROAD ROOM ROSE SAFE SALT SAND SEA SHIP SHOE SHOP SKY SLOW SNOW SOAP SOCK SOUP SOUTH
    STAR STOP STORM SUGAR SUN TAXI TEA TENT TIGER TOWN TOY TRAIN TREE TULIP VAN VASE VIEW VOTE WALK WATER WAVE
    WAX WEST WHALE WIND WOLF WOOD YARD YEAR YES YOGA ZEBRA ZERO ZONE ZOO
"""
WORDS: tuple[str, ...] = tuple(_WORDS.split())
INKS: tuple[tuple[int, int, int], ...] = ((20, 20, 20), (150, 20, 20), (20, 40, 140), (10, 90, 40))


@dataclass(frozen=True)
class Sign:
    """A word, how it is printed, and the pixel box of each of its letters; `ornament` is a drawing
    or None.
    """

    word: str
    package: str
    size: int
    ink: int
    ground: str
    shade: int
    letters: tuple[tuple[int, int, int, int], ...]
    ornament: Placed | None


def random_sign(rng: Random, words: tuple[str, ...] = WORDS) -> Sign:
    """A word in one of three fonts, as large as fits or a little smaller, above or below its
    ornament.
    """
    word = rng.choice(words)
    package = rng.choice(list(FONTS))
    size = _fitting_size(rng, word, package)
    width, height = _extent(word, package, size)
    left = rng.randint(2, max(2, SIDE - 2 - width))
    top = rng.randint(3, SIDE - 3 - height)
    letters = _letter_boxes(word, package, size, (left, top))
    ornament = _ornament(rng, top, top + height) if rng.random() < 0.5 else None
    ground = rng.choice(list(BACKGROUNDS))
    shade = rng.randint(-5, 5)
    ink = rng.randrange(len(INKS))
    return Sign(word, package, size, ink, ground, shade, letters, ornament)


def render_sign(sign: Sign) -> Image.Image:
    """The image of a sign, RGB, 48 x 48."""
    image = Image.new("RGB", (SIDE, SIDE), shaded(sign.ground, sign.shade))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0, SIDE - 1, SIDE - 1), outline=(110, 110, 110))
    face = font(sign.package, sign.size)
    for letter, box in zip(sign.word, sign.letters, strict=True):
        extent = _letter_extent(sign.package, sign.size, letter)
        corner = box[0] - extent[0], box[1] - extent[1]
        pen.text(corner, letter, font=face, fill=INKS[sign.ink])
    if sign.ornament is not None:
        paste(image, sign.ornament)
    return image


def _fitting_size(rng: Random, word: str, package: str) -> int:
    for size in range(rng.randint(12, 17), 7, -1):
        if _extent(word, package, size)[0] <= SIDE - 4:
            return size
    return 8


def _extent(word: str, package: str, size: int) -> tuple[int, int]:
    boxes = _letter_boxes(word, package, size, (0, 0))
    return boxes[-1][2], max(box[3] for box in boxes)


def _letter_boxes(
    word: str, package: str, size: int, origin: tuple[int, int]
) -> tuple[tuple[int, int, int, int], ...]:
    """Letters on one base line, one pixel apart; capitals of these fonts share their height up to a
    pixel.
    """
    x, base = origin
    boxes = []
    highest = min(_letter_extent(package, size, letter)[1] for letter in word)
    for letter in word:
        left, top, right, bottom = _letter_extent(package, size, letter)
        width, height = right - left, bottom - top
        y = base + top - highest
        boxes.append((x, y, x + width, y + height))
        x += width + 1
    return tuple(boxes)


@cache
def _letter_extent(package: str, size: int, letter: str) -> tuple[int, int, int, int]:
    left, top, right, bottom = font(package, size).getbbox(letter)
    return round(left), round(top), round(right), round(bottom)


def _ornament(rng: Random, top: int, bottom: int) -> Placed | None:
    """A drawing in the larger free strip above or below the word, if at least 12 pixels are
    free."""
    if top > SIDE - bottom:
        start, room = 1, top - 2
    else:
        start, room = bottom + 1, SIDE - bottom - 2
    if room < 12:
        return None
    name = rng.choice(NAMES)
    sprite = drawing(name, min(room, 18))
    left = rng.randint(1, SIDE - 1 - sprite.width)
    upper = start + rng.randint(0, room - sprite.height)
    box = left, upper, left + sprite.width, upper + sprite.height
    return Placed(name, box, big=room >= 18)
