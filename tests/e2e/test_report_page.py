"""The report in a real browser: nothing runs, nothing is fetched, nothing sticks out of a phone's
screen.
"""

from __future__ import annotations

import html
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cotbal.report import write_report
from helpers.chromium import FLAGS
from helpers.fake_run import TASKS, fake_run
from helpers.needs import browser, leave_out

pytestmark = pytest.mark.needs("browser")
HOSTILE = "</script><img src=x onerror=alert(1)>"
LONG = (
    "a_task_with_a_name_that_is_much_longer_than_any_label_should_ever_be_allowed_to_grow",
    "x" * 70,
    "ocr",
)
MIXTURES = {
    "pocket": TASKS,
    "many": tuple(f"classification_{i:02d}" for i in range(17)),
    "long": LONG,
}
PHONE, DESKTOP = 390, 1280
# Measures the page from inside and hands the numbers to the page around it.
PROBE = """<script>
document.querySelectorAll("details").forEach(d => d.open = true);
const wide = [...document.body.querySelectorAll("*")].filter(e => !e.closest(".scroll, pre, svg") && e.getClientRects().length);
parent.postMessage({
  inner: innerWidth,
  scroll: document.documentElement.scrollWidth,
  furthest: Math.max(...wide.map(e => e.getBoundingClientRect().right)),
  cells: document.querySelectorAll("#contribution svg .cell").length,
  armed: document.querySelectorAll("[onerror], script:not(:last-of-type)").length,
  broken: [...document.images].filter(i => i.complete && !i.naturalWidth).length,
  images: document.images.length,
  clipped: [...document.querySelectorAll("svg.plot text.end")].filter(t => t.getBoundingClientRect().left < t.closest(".scroll").getBoundingClientRect().left).length,
}, "*");
</script>"""  # noqa: E501
FRAME = (
    '<iframe id="{name}" style="border:0" width="{width}" height="3000" srcdoc="{page}"></iframe>'
)
# Frames, because the browser makes no window narrower than 500 pixels; and one start for all pages.
AROUND = """<!doctype html><body style="margin:0"><pre id="facts"></pre><script>
const facts = {{}};
onmessage = event => {{
  const frames = [...document.querySelectorAll("iframe")];
  facts[frames.find(frame => frame.contentWindow === event.source).id] = event.data;
  document.querySelector("#facts").textContent = JSON.stringify(facts);
}};
</script>{frames}"""


def run_browser(directory: Path, address: Path, *options: str) -> str:
    """What the browser prints for a page, with a profile of its own."""
    command = [browser(), *FLAGS, f"--user-data-dir={directory / 'profile'}", *options]
    argv = [*map(str, command), address.as_uri()]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        last = next(iter(done.stderr.strip().splitlines()[-1:]), "it printed nothing")
        leave_out("browser", f"{argv[0]} does not start here (exit code {done.returncode}: {last})")
    return done.stdout


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The report of a job on every mixture."""
    root = tmp_path_factory.mktemp("report")
    jobs = {name: fake_run(root / name, tasks) for name, tasks in MIXTURES.items()}
    return {name: write_report(files.root) for name, files in jobs.items()}


@pytest.fixture(scope="module")
def measured(
    pages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """Facts about every page in a phone's window and in a wide one."""
    directory = tmp_path_factory.mktemp("frames")
    frames = [
        FRAME.format(name=f"{name}-{width}", width=width, page=html.escape(with_probe(page)))
        for name, page in pages.items()
        for width in (PHONE, DESKTOP)
    ]
    (directory / "frames.html").write_text(AROUND.format(frames="".join(frames)))
    options = ("--dump-dom", "--virtual-time-budget=5000")
    dom = run_browser(directory, directory / "frames.html", *options)
    facts = re.search(r'<pre id="facts">(\{.*?\})</pre>', dom)
    assert facts, "the pages were not measured"
    answer: dict[str, dict[str, Any]] = json.loads(html.unescape(facts[1]))
    return answer


def with_probe(page: Path) -> str:
    """The page without its policy against scripts, because a script measures it."""
    text = page.read_text()
    open_to_scripts = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    assert open_to_scripts != text
    return open_to_scripts.replace("</body>", PROBE + "</body>")


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize("mixture", MIXTURES)
def test_page_fits_its_window(
    measured: dict[str, dict[str, Any]], mixture: str, width: int
) -> None:
    facts = measured[f"{mixture}-{width}"]
    assert facts["inner"] == width
    assert facts["scroll"] <= width
    assert facts["furthest"] <= width
    assert facts["cells"] == len(MIXTURES[mixture]) ** 2
    assert facts["clipped"] == 0
    assert facts["armed"] == 0
    assert facts["images"] > 4
    assert facts["broken"] == 0


def test_hostile_answer_is_inert(pages: dict[str, Path], tmp_path: Path) -> None:
    dom = run_browser(tmp_path, pages["pocket"], "--dump-dom")
    assert html.escape(HOSTILE, quote=False) in dom
    assert '<img src="x"' not in dom
    assert "<script" not in dom


def test_dark_scheme_and_images_of_the_page(pages: dict[str, Path], tmp_path: Path) -> None:
    brightness = {}
    for scheme, setting in (("light", 1), ("dark", 0)):
        target = tmp_path / f"{scheme}.png"
        options = (
            f"--blink-settings=preferredColorScheme={setting}",
            f"--window-size={DESKTOP},1200",
        )
        run_browser(tmp_path, pages["pocket"], *options, f"--screenshot={target}")
        with Image.open(target) as image:
            assert image.size == (DESKTOP, 1200)
            grey = np.asarray(image.convert("L"), dtype=int)
        assert np.ptp(grey) > 150  # something is drawn, in shades that can be distinguished
        brightness[scheme] = int(grey[3, 3])
    assert brightness["light"] > 240
    assert brightness["dark"] < 40
