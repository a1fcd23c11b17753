"""NLVR, development set: 20 sentences about RGBA images, as JSON lines in a file called `.json`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cotbal.benchmarks.large.embedded import side_by_side
from cotbal.benchmarks.releases.rows import json_lines
from cotbal.data.reading.images import open_image

pytestmark = pytest.mark.needs("real_data")
WIDTH, HEIGHT = 400, 100


def rows_of(real: Path) -> list[Any]:
    path = real / "nlvr/dev_excerpt.json"
    return [row for _, row in json_lines(path, lambda what, done, total: None)]


def images_of(real: Path, row: Any) -> list[Path]:
    folder = real / "nlvr/images" / row["directory"]
    return sorted(folder.glob(f"dev-{row['identifier']}-*.png"))


def test_every_sentence_and_its_images_are_read(real: Path) -> None:
    rows = rows_of(real)
    assert len(rows) == 20
    assert {row["label"] for row in rows} == {"true", "false"}
    assert sum(len(images_of(real, row)) for row in rows) == 60


def test_two_images_become_one_side_by_side(real: Path) -> None:
    paths = images_of(real, rows_of(real)[0])[:2]
    joined = Image.open(io.BytesIO(side_by_side([path.read_bytes() for path in paths])))
    assert (joined.size, joined.mode) == ((2 * WIDTH, HEIGHT), "RGB")
    expected = np.hstack([np.asarray(open_image(path), dtype=int) for path in paths])
    assert np.abs(np.asarray(joined, dtype=int) - expected).mean() < 2  # JPEG
