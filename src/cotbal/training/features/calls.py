"""Calls of a vision tower: their inputs image by image, what identifies one, and how outputs of
single images become that of a batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

Leaves = list[Any]  # of an output: its tensors, and None where it has none
SIMPLE = (bool, int, float, str, type(None))


class Unsupported(Exception):
    """The inputs or outputs of a tower cannot be taken apart by image; the message says why."""


@dataclass(frozen=True)
class Call:
    """The arguments of a tower.

    Attributes:
        values: by the position or the name of the argument.
        sizes: rows of the pixels that every image has; 1 for each where images are stacked.
    """

    values: dict[int | str, Any]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, args: Sequence[Any], kwargs: dict[str, Any]) -> Call:
        """
        Raises:
            Unsupported: it is unknown which part of the arguments belongs to which image.
        """
        values: dict[int | str, Any] = dict(enumerate(args))
        values.update(kwargs)
        tensors = [value for value in values.values() if isinstance(value, Tensor)]
        pixels = next((t for t in tensors if t.is_floating_point()), None)
        if pixels is None:
            raise Unsupported("it gets no pixels")
        sizes = _sizes(pixels, tensors)
        if any(len(t) != len(sizes) for t in tensors if t is not pixels):
            raise Unsupported("an input has no entry for every image")
        return cls(values, sizes)

    @property
    def args(self) -> tuple[Any, ...]:
        """The arguments by position."""
        return tuple(value for name, value in self.values.items() if isinstance(name, int))

    @property
    def kwargs(self) -> dict[str, Any]:
        """The arguments by name."""
        return {name: value for name, value in self.values.items() if isinstance(name, str)}

    @property
    def stacked(self) -> bool:
        """Whether every image is one row of every tensor."""
        return set(self.sizes) == {1}

    def form(self) -> str:
        """What the arguments are besides the values of tensors.

        Raises:
            Unsupported: an argument is an object whose content is unknown.
        """
        forms = []
        for name, value in self.values.items():
            forms.append((str(name), _form(value)))
        return repr(sorted(forms))

    def images(self) -> list[Call]:
        """The call for every image alone."""
        stops = [0, *accumulate(self.sizes)]
        return [self._part(i, rows) for i, rows in enumerate(pairwise(stops))]

    @classmethod
    def together(cls, images: Sequence[Call]) -> Call:
        """One call for several images of a call."""
        values = dict(images[0].values)
        for name, value in values.items():
            if isinstance(value, Tensor):
                values[name] = torch.cat([image.values[name] for image in images])
        return cls(values, tuple(size for image in images for size in image.sizes))

    def copy(self) -> Call:
        """The same with tensors of its own, ordinary ones also within `torch.inference_mode`."""
        with torch.inference_mode(False):
            values = {
                name: value.clone() if isinstance(value, Tensor) else value
                for name, value in self.values.items()
            }
        return replace(self, values=values)

    def digest(self, prefix: str) -> str:
        """Hash of all arguments; `prefix` names the tower and the form of the call."""
        digest = hashlib.sha256(prefix.encode())
        for value in self.values.values():
            if isinstance(value, Tensor):
                digest.update(f"{tuple(value.shape)} {value.dtype}".encode())
                digest.update(content(value))
        return digest.hexdigest()

    def _part(self, number: int, rows: tuple[int, int]) -> Call:
        values = dict(self.values)
        for name, value in values.items():
            if isinstance(value, Tensor):
                one_each = len(value) == len(self.sizes)
                start, stop = (number, number + 1) if one_each else rows
                values[name] = value[start:stop]
        return replace(self, values=values, sizes=self.sizes[number : number + 1])


def content(tensor: Tensor) -> memoryview:
    """The bytes of a tensor, without a copy where it is in the memory of the CPU."""
    plain = tensor.detach().cpu().contiguous().reshape(-1)
    return plain.view(torch.uint8).numpy().data


def _sizes(pixels: Tensor, tensors: Sequence[Tensor]) -> tuple[int, ...]:
    """Rows of the pixels of every image: images are stacked, or all their patches are in one list
    whose lengths follow from a tensor of grids.
    """
    if pixels.dim() > 2:
        return (1,) * len(pixels)
    for grid in tensors:
        if grid is not pixels and grid.dim() == 2 and not grid.is_floating_point():
            sizes = tuple(grid.prod(dim=1).tolist())
            if sum(sizes) == len(pixels):
                return sizes
    raise Unsupported("its inputs are patches without their grids")


def _form(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"tensor of {value.dim()} dimensions, {value.dtype}"
    parts = value if isinstance(value, (list, tuple)) else [value]
    if not all(isinstance(part, SIMPLE) for part in parts):
        raise Unsupported(f"it gets an object of the class {type(value).__name__}")
    return repr(value)


def joints(whole: Leaves, single: Sequence[Leaves]) -> list[int | None]:
    """Along which dimension outputs of single images are joined to that of the batch, for every
    part of the output; None for one that is no tensor.

    Raises:
        Unsupported: no dimension fits, or the values differ by more than rounding.
    """
    if any(len(leaves) != len(whole) for leaves in single):
        raise Unsupported("the form of its output depends on the number of images")
    columns = zip(whole, zip(*single, strict=True), strict=True)
    return [_joint(together, alone) for together, alone in columns]


def _joint(together: Any, alone: Sequence[Any]) -> int | None:
    if not isinstance(together, Tensor):
        if any(value != together for value in alone):
            raise Unsupported("a part of its output is no tensor and depends on the image")
        return None
    for dimension in range(min(2, together.dim())):
        joined = _try_join(alone, dimension)
        if joined is not None and joined.shape == together.shape:
            if not agree(joined, together):
                raise Unsupported("the features of an image depend on the images beside it")
            return dimension
    raise Unsupported("its output cannot be divided by image")


def _try_join(parts: Sequence[Any], dimension: int) -> Tensor | None:
    try:
        return torch.cat(list(parts), dim=dimension)
    except (RuntimeError, TypeError):
        return None


def agree(one: Tensor, other: Tensor) -> bool:
    """Equal up to rounding: half of the digits agree. Sums of another order round otherwise."""
    if one.dtype != other.dtype:
        return False
    if not one.is_floating_point():
        return torch.equal(one, other)
    error = (one.float() - other.float()).norm()
    tolerance = torch.finfo(one.dtype).eps ** 0.5
    return bool(error <= tolerance * other.float().norm())


def same(whole: Leaves, joined: Leaves) -> bool:
    """Whether two outputs are equal, bit for bit."""
    pairs = zip(whole, joined, strict=True)
    return all(torch.equal(a, b) for a, b in pairs if isinstance(a, Tensor))


def join(single: Sequence[Leaves], dimensions: Sequence[int | None]) -> Leaves:
    """The output of a batch from those of its images; no tensor shares memory with theirs."""
    columns = zip(*single, strict=True)
    return [
        column[0] if dimension is None else torch.cat(list(column), dim=dimension)
        for column, dimension in zip(columns, dimensions, strict=True)
    ]


def rows(leaves: Sequence[Tensor], count: int) -> Iterator[list[Tensor]]:
    """The output of every image of a batch whose images are stacked in all parts of the output."""
    for i in range(count):
        yield [leaf[i : i + 1].clone() for leaf in leaves]
