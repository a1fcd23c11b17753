"""Small pieces of SVG: escaped elements, axes, labels. Colours are CSS variables, so figures follow
dark mode.
"""

from __future__ import annotations

import math

from markupsafe import Markup, escape

NARROW, WIDE = "fijlrt.,:;|'!()[] ", "mwMW@%\N{HORIZONTAL ELLIPSIS}"
FIRST_WIDE = 0x2E80  # letters from here on, such as Chinese ones, are wide


def element(name: str, *children: str, **attributes: object) -> Markup:
    """One element; texts that are not markup yet are escaped; `stroke_width=` becomes
    `stroke-width=`.
    """
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is not None:
            attribute = key.rstrip("_").replace("_", "-")
            parts.append(f' {attribute}="{escape(_plain(value))}"')
    parts += [">", *map(escape, children), f"</{name}>"]
    return Markup("".join(parts))


def _plain(value: object) -> object:
    """A number with at most two decimals; anything else as it is."""
    if not isinstance(value, float):
        return value
    text = f"{value:.2f}"
    return text.rstrip("0").rstrip(".")


def shortened(text: str, letters: int) -> str:
    """`text`, or its beginning and end around an ellipsis when it is longer than `letters`."""
    if len(text) <= letters:
        return text
    tail = letters // 3
    head = letters - tail - 1
    beginning = text[:head]
    end = text[-tail:]
    return f"{beginning}\N{HORIZONTAL ELLIPSIS}{end}"


def width(text: str) -> float:
    """About how wide `text` is in pixels, at the figures' size in a wide font; only a browser could
    measure it.
    """
    return sum(map(_letter_width, text))


def _letter_width(letter: str) -> float:
    if letter in NARROW:
        return 5.3
    if letter in WIDE or ord(letter) > FIRST_WIDE:
        return 13.0
    if letter.isupper():
        return 9.5
    return 8.1


def label(text: str, letters: int, **attributes: object) -> Markup:
    """A text of at most `letters` letters; the full text is shown on hover."""
    short = shortened(text, letters)
    if short == text:
        return element("text", text, **attributes)
    title = element("title", text)
    return element("text", title, short, **attributes)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers between `low` and `high`."""
    if high <= low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    steps = [factor * power for factor in (1, 2, 5, 10)]
    step = next(step for step in steps if step >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(k * step, 10) for k in range(first, last + 1)]


def tick_text(value: float) -> str:
    """A round number without trailing zeros."""
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")
