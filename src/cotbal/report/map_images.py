"""Heat maps of many tasks as an embedded image, one pixel per cell."""

from __future__ import annotations

import base64
import io

import numpy as np
from jaxtyping import Float
from markupsafe import Markup
from PIL import Image

from cotbal.report.map_frames import STRONGEST, Frame, Grid
from cotbal.report.svg import element

NEGATIVE, POSITIVE, UNKNOWN = (217, 113, 28), (59, 125, 222), (182, 189, 198)
STEPS = (
    127  # shades of either sign; the image's colours are UNKNOWN, STEPS negative ones, and so on
)
WIDTH = 720  # pixels of a map, about
SMALLEST = 2  # pixels of a cell
APART = 16  # pixels between names


def map_image(frame: Frame, shades: Float[np.ndarray, "row column"]) -> Markup:
    """The heat map of shades from -1 to 1; NaN is unknown."""
    rows, columns = shades.shape
    side = max(SMALLEST, WIDTH // max(rows, columns))
    grid = Grid(frame, side, side, step=-(-APART // side))
    box = {"x": grid.left, "y": grid.top, "width": columns * side, "height": rows * side}
    surface = element("rect", **box, class_="surface")
    options = {"preserveAspectRatio": "none", "class": "pixels"}
    image = element("image", **box, href=_png(shades), **options)
    return grid.drawing([*grid.names(), surface, image], "fixed")


def _png(shades: Float[np.ndarray, "row column"]) -> str:
    """An image as a `data:` address; its colours are as transparent as in a map with numbers."""
    limited = np.clip(np.nan_to_num(shades), -1, 1)
    indices = 1 + STEPS + np.rint(limited * STEPS)
    indices[np.isnan(shades)] = 0
    image = Image.fromarray(indices.astype(np.uint8))
    palette = [*UNKNOWN]
    palette += NEGATIVE * STEPS
    palette += POSITIVE * (STEPS + 1)
    image.putpalette(palette)
    steps = np.arange(-STEPS, STEPS + 1)
    opacity = STRONGEST * np.abs(steps) / STEPS
    alpha = np.rint(255 * opacity).astype(np.uint8)
    file = io.BytesIO()
    image.save(file, "PNG", transparency=bytes([255, *alpha]))
    text = base64.b64encode(file.getvalue()).decode()
    return f"data:image/png;base64,{text}"
