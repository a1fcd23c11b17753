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
    pairs = Markup("").join(
        Markup(' {}="{}"').format(Markup(key.rstrip("_").replace("_", "-")), _plain(value))
        for key, value in attributes.items()
        if value is not None
    )
    inside = Markup("").join(escape(child) for child in children)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), pairs, inside)


def _plain(value: object) -> object:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


def shortened(text: str, letters: int) -> str:
    """`text`, or its beginning and end around an ellipsis when it is longer than `letters`."""
    if len(text) <= letters:
        return text
    tail = letters // 3
    return f"{text[: letters - tail - 1]}\N{HORIZONTAL ELLIPSIS}{text[-tail:]}"


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
    return 9.5 if letter.isupper() else 8.1


def label(text: str, letters: int, **attributes: object) -> Markup:
    """A text of at most `letters` letters; the full text is shown on hover."""
    short = shortened(text, letters)
    title = (element("title", text),) if short != text else ()
    return element("text", *title, short, **attributes)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers between `low` and `high`."""
    if high <= low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 10) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_text(value: float) -> str:
    """A round number without trailing zeros."""
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")
