"""The pictures of the README, made from a finished run directory.

    cotbal demo
    cotbal compare runs/pocket/recipe.yaml --methods ew,cotbal --seeds 0,1 --out runs/pocket
    python docs/tools/pictures.py runs/pocket

Writes docs/overview.svg (from balance.json), and with Chromium docs/report.png and
docs/comparison.png (from report/index.html).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1]
CELL, TOP, LEFT = (
    26,
    74,
    118,
)  # pixels: side of a cell, upper edge of the panels, width of the names
STYLE = """
.page { fill: #ffffff } .text { fill: #1f2328 } .faint { fill: #59636e } .cell { fill: #eff2f5 }
.blue { fill: #3b6fd4 } .orange { fill: #d9822b } .line { stroke: #59636e }
.value { fill: #1f2328 }
@media (prefers-color-scheme: dark) {
  .page { fill: #0d1117 } .text { fill: #e6edf3 } .faint { fill: #9198a1 } .cell { fill: #21262d }
  .blue { fill: #5b8def } .orange { fill: #e0913f } .line { stroke: #9198a1 }
  .value { fill: #e6edf3 }
}
text { font: 12px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif }
.head { font-size: 14px; font-weight: 600 } .small { font-size: 10px }
"""


def overview(balance: dict[str, Any]) -> str:
    """Three panels as one SVG: what the probes train on, their contributions, the weights."""
    units = balance["units"]
    size = CELL * len(units)
    parts = [
        *_probes(units, 24),
        *_heat_map(units, balance["contribution"], 24 + LEFT + size + 40),
        *_weights(units, balance, 24 + 2 * (LEFT + size + 40) - LEFT + 10),
    ]
    width, height = 24 + 2 * (LEFT + size + 40) + 250, TOP + CELL * (len(units) + 1) + 62
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img">\n<title>From probes to task weights</title>\n'
        f"<style>{STYLE}</style>\n"
        f'<rect class="page" width="{width}" height="{height}" rx="8"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _probes(units: Sequence[str], x: float) -> Iterator[str]:
    bottom = TOP + CELL * (len(units) + 1)
    yield _text(x, 26, "1. Probes", "text head")
    yield _text(x, 44, "short trainings, one per row", "faint")
    for row, run in enumerate(("all mini", *units)):
        y = TOP + CELL * row
        yield _text(x + LEFT - 8, y + 17, run, "text", "end")
        for column in range(len(units)):
            side = CELL - 6 if column == row - 1 else 8
            inset = (CELL - side) / 2
            yield _rect(x + LEFT + CELL * column + inset, y + inset, side, side, "blue")
    yield _text(x + LEFT, bottom + 18, "large: full data of the task", "faint small")
    yield _text(x + LEFT, bottom + 32, "small: a mini of the task", "faint small")


def _heat_map(
    units: Sequence[str], contribution: Sequence[Sequence[float | None]], x: float
) -> Iterator[str]:
    bottom = TOP + CELL * len(units)
    yield _text(x, 26, "2. Contribution", "text head")
    yield _text(x, 44, "rows give, columns receive", "faint")
    for row, giver in enumerate(units):
        y = TOP + CELL * row
        yield _text(x + LEFT - 8, y + 17, giver, "text", "end")
        for column, value in enumerate(contribution[row]):
            yield from _heat_cell(x + LEFT + CELL * column, y, None if row == column else value)
    for column, receiver in enumerate(units):
        place = f"rotate(-35 {x + LEFT + CELL * column + 16} {bottom + 14})"
        yield _text(
            x + LEFT + CELL * column + 16, bottom + 14, receiver, "text small", "end", place
        )


def _heat_cell(x: float, y: float, value: float | None) -> Iterator[str]:
    yield _rect(x + 1, y + 1, CELL - 2, CELL - 2, "cell")
    if value is None:
        return
    color = "blue" if value > 0 else "orange"
    yield _rect(x + 1, y + 1, CELL - 2, CELL - 2, color, min(abs(value), 1.0))
    shown = f"{value:.1f}".replace("0.", ".").replace("-.0", ".0")
    yield _text(x + CELL / 2, y + 17, shown, "value small", "middle")


def _weights(units: Sequence[str], balance: dict[str, Any], x: float) -> Iterator[str]:
    scale, zero = 110, x + LEFT
    bottom = TOP + CELL * len(units)
    yield _text(zero, 26, "3. Weights", "text head")
    yield _text(zero, 44, "multiply the loss of the final training", "faint")
    yield (
        f'<line class="line" x1="{zero + scale}" y1="{TOP - 6}" x2="{zero + scale}" y2="{bottom}" '
        'stroke-dasharray="3 3"/>'
    )
    yield _text(zero + scale, bottom + 16, "1", "faint small", "middle")
    intervals = balance["weight_intervals"] or {}
    for row, unit in enumerate(units):
        y, weight = TOP + CELL * row, balance["weights"][unit]
        yield _rect(zero, y + 5, scale * weight, CELL - 10, "blue", 0.75)
        low, high = intervals.get(unit, (weight, weight))
        yield (
            f'<line class="line" x1="{zero + scale * low:.1f}" y1="{y + CELL / 2}" '
            f'x2="{zero + scale * high:.1f}" y2="{y + CELL / 2}" stroke-width="1.5"/>'
        )
        yield _text(zero + scale * high + 6, y + 17, f"{weight:.2f}", "text")
    seeds = balance["seeds"]
    noise = "sampling error only, one training seed" if seeds == 1 else f"{seeds} training seeds"
    yield _text(zero, bottom + 34, f"whiskers: {noise}", "faint small")
    yield _text(zero, bottom + 48, "measured on the embedded benchmark", "faint small")


def _text(
    x: float, y: float, text: str, kind: str, anchor: str = "start", transform: str = ""
) -> str:
    turned = f' transform="{transform}"' if transform else ""
    return (
        f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}"{turned}>{escape(text)}</text>'
    )


def _rect(x: float, y: float, width: float, height: float, kind: str, opacity: float = 1) -> str:
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'rx="2" opacity="{opacity:.2f}"/>'
    )


def photograph(page: Path, out: Path, width: int, height: int, heading: str | None = None) -> None:
    """A picture of `page` in headless Chromium, from `heading` (an id in the page) on."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("Chromium is needed for pictures of the report; install chromium")
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                browser,
                "--headless",
                "--no-sandbox",
                "--hide-scrollbars",
                "--force-device-scale-factor=1.5",
                f"--user-data-dir={profile}",
                f"--window-size={width},{height}",
                f"--screenshot={out}",
                page.resolve().as_uri() + (f"#{heading}" if heading else ""),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )


def main() -> None:
    """Write the pictures that the run directory has material for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a finished run directory")
    run = parser.parse_args().run
    balance = json.loads((run / "balance.json").read_text(encoding="utf-8"))
    (DOCS / "overview.svg").write_text(overview(balance), encoding="utf-8")
    report = run / "report" / "index.html"
    photograph(report, DOCS / "report.png", 1100, 1250)
    if (run / "comparison").is_dir():
        photograph(report, DOCS / "comparison.png", 1100, 620, "comparison")


if __name__ == "__main__":
    main()
