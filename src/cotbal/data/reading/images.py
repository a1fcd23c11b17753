"""Images on disk: their files, whether they are whole, and how they are opened."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from cotbal.data.files import default_cache, image_cache
from cotbal.data.reading.image_files import opened
from cotbal.data.threads import in_threads
from cotbal.errors import DataError

_CHUNK = 256
_LARGE = 2**23  # pixels from which `cotbal check` decodes one image at a time
_ORIENTATION = 0x0112  # tag of EXIF; from 5 on, width and height are exchanged
_large = Lock()
Size = tuple[int, int]  # width and height in pixels
Rejected = Callable[[Sequence[str]], Mapping[str, str]]


def resolve(root: Path, name: str) -> Path:
    """The file of the image called `name`: below `root`, unless the name is absolute."""
    return root / name


def is_within(path: Path, folders: Sequence[Path]) -> bool:
    """Whether the file itself, all links resolved, is in one of the folders."""
    folder = _resolved(os.path.dirname(path))
    real = os.path.join(folder, os.path.basename(path))
    if os.path.islink(real):
        real = os.path.realpath(real)
    return any(Path(real).is_relative_to(_resolved(str(within))) for within in folders)


_resolved = lru_cache(maxsize=2**14)(os.path.realpath)  # of folders: many images are in one


def open_image(path: Path) -> Image.Image:
    """The image at `path` as `decode` gives it.

    Raises:
        DataError: the file is missing, truncated or not an image, or an image of the cache is not
            that of the records.
    """
    try:
        if path.parent == image_cache(default_cache()):
            return decode(_as_named(path))
        return decode(path)
    except FileNotFoundError:
        raise _missing(path) from None
    except Exception as error:  # Pillow's decoders raise errors of many kinds on broken data
        raise _broken(path, error) from None


def _as_named(path: Path) -> BinaryIO:
    """The content of an image of the cache, whose name is its hash."""
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != path.stem:
        raise ValueError("its content has changed; delete it and rerun the command")
    return io.BytesIO(content)


def size_of(path: Path) -> Size:
    """Width and height of an image as `open_image` gives it, from its header alone.

    Raises:
        DataError: the file is missing or no image.
    """
    try:
        with opened(path) as image:
            # Pillow reads whole PNG files in search of EXIF behind the image.
            known = image.format != "PNG" or "exif" in image.info
            turned = known and image.getexif().get(_ORIENTATION, 1) >= 5
            return (image.height, image.width) if turned else image.size
    except Exception as error:  # Pillow's decoders raise errors of many kinds on broken data
        raise _broken(path, error) from None


@contextmanager
def _turn(size: Size) -> Iterator[None]:
    """Wait until no other thread decodes a large image: each takes many bytes per pixel."""
    with _large if size[0] * size[1] > _LARGE else nullcontext():
        yield


def decode(source: Path | BinaryIO) -> Image.Image:
    """An image in RGB with 8 bits per channel, upright, on white where it is transparent.

    Drawings are often black lines on nothing; on the usual black ground they would be invisible.
    Gray images of 16 or 32 bits or of floats (X-rays, depth maps) are scaled so that the smallest
    value of the image is black and the largest is white: their files do not state which part of the
    range they use (12 bits in 16, millimetres, 0 to 1), and Pillow would clip all values to 0..255.

    Raises:
        Exception: of many kinds, by Pillow's decoders.
    """
    with opened(source) as image, _turn(image.size):
        upright = ImageOps.exif_transpose(image)
        return _scaled(upright) if upright.mode[0] in "IF" else _on_white(upright)


def _scaled(image: Image.Image) -> Image.Image:
    levels = np.array(image, np.float64)  # changed in place: it is large
    transparent = levels == image.info.get("transparency")
    used = np.isfinite(levels) & ~transparent
    low = levels.min(where=used, initial=np.inf) if used.any() else 0.0
    high = levels.max(where=used, initial=-np.inf) if used.any() else 0.0
    levels[~used] = low
    levels -= low
    levels *= 255 / ((high - low) or 1)
    levels[transparent] = 255
    return Image.fromarray(levels.round(out=levels).astype(np.uint8)).convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    ground = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")


def problems_of_images(
    root: Path,
    names: Sequence[str],
    decode: bool,
    rejected: Rejected | None = None,
    progress: Callable[[int], None] = lambda _done: None,
    within: Sequence[Path] | None = None,
) -> dict[str, DataError]:
    """The error of every name that has one: missing, outside, broken, or rejected by the model's
    processor.

    Args:
        decode: False looks only whether the images exist; otherwise several are decoded at a time.
        rejected: of sound images, those that the processor cannot process, with the reason.
        progress: receives the number of images that are done.
        within: folders that images must be in; None allows any.
    """
    problems: dict[str, DataError] = {}
    for start in range(0, len(names), _CHUNK):
        chunk = names[start : start + _CHUNK]
        paths = [resolve(root, name) for name in chunk]
        errors = in_threads(lambda path: _error_of(path, decode, within), paths, os.cpu_count())
        pairs = zip(chunk, errors, strict=True)
        problems.update((name, error) for name, error in pairs if error is not None)
        progress(start + len(chunk))
    sound = [name for name in names if name not in problems] if rejected else []
    for start in range(0, len(sound), _CHUNK):
        reasons = rejected(sound[start : start + _CHUNK]) if rejected else {}
        for name, reason in reasons.items():
            message = f"rejected image {resolve(root, name)}: {reason}"
            problems[name] = DataError(message, "rejected-image")
    return problems


def _error_of(path: Path, decode: bool, within: Sequence[Path] | None) -> DataError | None:
    if not os.path.isfile(path):
        return _missing(path)
    if within is not None and not is_within(path, within):
        return DataError(
            f"image {path} is outside {within[0]}; set `outside_images: allow` in the recipe to"
            " read it all the same",
            "outside-image",
        )
    try:
        if decode:
            open_image(path)
    except DataError as error:  # its traceback would keep the image in memory
        return DataError(str(error), error.code)
    return None


def _missing(path: Path) -> DataError:
    return DataError(f"missing image {path}", "missing-image")


def _broken(path: Path, error: Exception) -> DataError:
    return DataError(f"broken image {path}: {error}", "broken-image")
