"""The report in a real browser: nothing runs, nothing is fetched, nothing sticks out of a phone's
screen.
"""

from __future__ import annotations

import html
import json
import os
import re
import runpy
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cotbal.report import write_report

FAKE = runpy.run_path(str(Path(__file__).parents[1] / "unit" / "report" / "fake_run.py"))
HOSTILE = "</script><img src=x onerror=alert(1)>"
LONG = (
    "a_task_with_a_name_that_is_much_longer_than_any_label_should_ever_be_allowed_to_grow",
    "x" * 70,
    "ocr",
)
PHONE, DESKTOP = 390, 1280
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
)
# Measures the page from inside and hands the numbers to the page around it.
PROBE = """<script>
document.querySelectorAll("details").forEach(d => d.open = true);
const wide = [...document.body.querySelectorAll("*")].filter(e => !e.closest(".scroll, pre, svg") && e.getClientRects().length);
parent.postMessage(JSON.stringify({
  inner: innerWidth,
  scroll: document.documentElement.scrollWidth,
  furthest: Math.max(...wide.map(e => e.getBoundingClientRect().right)),
  cells: document.querySelectorAll("#contribution svg .cell").length,
  armed: document.querySelectorAll("[onerror], script:not(:last-of-type)").length,
  broken: [...document.images].filter(i => i.complete && !i.naturalWidth).length,
  images: document.images.length,
  clipped: [...document.querySelectorAll("svg.plot text.end")].filter(t => t.getBoundingClientRect().left < t.closest(".scroll").getBoundingClientRect().left).length,
  page: getComputedStyle(document.body).backgroundColor,
}), "*");
</script>"""  # noqa: E501
FRAME = """<!doctype html><body style="margin:0">
<iframe style="border:0" width="{width}" height="3000" srcdoc="{page}">
</iframe><pre id="found"></pre><script>onmessage = e => found.textContent = e.data</script>"""


def browser() -> str:
    """The browser's command; a missing browser is a failure, since nothing else would test the
    page.
    """
    wanted = [os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"]
    found = next((path for name in wanted if name and (path := shutil.which(name))), None)
    assert found, (
        "this test opens the report in Chromium, and none was found: install it (Debian, Ubuntu:"
        " `apt-get install chromium`), or set CHROMIUM to its path"
    )
    return found


def run_browser(directory: Path, address: Path, *options: str) -> str:
    """What the browser prints for a page, with a profile of its own."""
    command = [
        browser(),
        *FLAGS,
        f"--user-data-dir={directory / 'profile'}",
        *options,
        address.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def measured(directory: Path, page: Path, width: int, *options: str) -> dict[str, Any]:
    """Facts about a page in a window of this width.

    The page is put into a frame, because the browser makes no window narrower than 500 pixels, and
    a copy of it loses its policy against scripts, because a script measures it.
    """
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    assert text != page.read_text()
    frame = directory / f"frame-{width}.html"
    frame.write_text(
        FRAME.format(width=width, page=html.escape(text.replace("</body>", PROBE + "</body>")))
    )
    dom = run_browser(directory, frame, "--dump-dom", "--virtual-time-budget=5000", *options)
    found = re.search(r'<pre id="found">(\{.*?\})</pre>', dom)
    assert found, "the page was not measured"
    facts: dict[str, Any] = json.loads(html.unescape(found[1]))
    return facts


@cache
def _page(root: Path, tasks: tuple[str, ...]) -> Path:
    files = FAKE["fake_run"](root, tasks)
    return write_report(files.root)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize(
    "tasks",
    [FAKE["TASKS"], tuple(f"classification_{i:02d}" for i in range(17)), LONG],
    ids=["pocket", "many", "long"],
)
def test_page_fits_its_window(
    root: Path, tmp_path: Path, tasks: tuple[str, ...], width: int
) -> None:
    page = _page(root / tasks[0][:20], tasks)
    facts = measured(tmp_path, page, width)
    assert facts["inner"] == width
    assert facts["scroll"] <= width
    assert facts["furthest"] <= width
    assert facts["cells"] == len(tasks) ** 2
    assert facts["clipped"] == 0
    assert facts["armed"] == 0
    assert facts["images"] > 4
    assert facts["broken"] == 0


def test_hostile_answer_is_inert(root: Path, tmp_path: Path) -> None:
    page = _page(root / FAKE["TASKS"][0], FAKE["TASKS"])
    dom = run_browser(tmp_path, page, "--dump-dom")
    assert html.escape(HOSTILE, quote=False) in dom
    assert '<img src="x"' not in dom
    assert "<script" not in dom


def test_dark_scheme_and_pictures_of_the_page(root: Path, tmp_path: Path) -> None:
    page = _page(root / FAKE["TASKS"][0], FAKE["TASKS"])
    brightness = {}
    for scheme, setting in (("light", 1), ("dark", 0)):
        target = tmp_path / f"{scheme}.png"
        options = (
            f"--blink-settings=preferredColorScheme={setting}",
            f"--window-size={DESKTOP},1200",
        )
        run_browser(tmp_path, page, *options, f"--screenshot={target}")
        with Image.open(target) as picture:
            assert picture.size == (DESKTOP, 1200)
            grey = np.asarray(picture.convert("L"), dtype=int)
        assert np.ptp(grey) > 150  # something is drawn, in shades that can be told apart
        brightness[scheme] = int(grey[3, 3])
    assert brightness["light"] > 240
    assert brightness["dark"] < 40
