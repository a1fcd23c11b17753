"""The figures of README and docs, made from a finished run directory.

    cotbal demo
    python docs/tools/figures.py runs/pocket

Writes docs/overview.svg (from balance.json), docs/report.png (from report/index.html, with
Chromium), and docs/comparison.svg (from the published study of seven methods).
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1]
RESULTS = DOCS.parent / "benchmarks" / "results"
STUDY = RESULTS / "pocket_methods_study_2-core-epyc_2026-11-24.md"
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
    width, height = 24 + 2 * (LEFT + size + 40) + 280, TOP + CELL * (len(units) + 1) + 62
    return _svg(width, height, "From probes to task weights", parts)


def _svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img">\n<title>{escape(title)}</title>\n'
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
    holds_training = "training" in balance["noise"]
    dashes = "" if holds_training else ' stroke-dasharray="3 3"'
    for row, unit in enumerate(units):
        y, weight = TOP + CELL * row, balance["weights"][unit]
        yield _rect(zero, y + 5, scale * weight, CELL - 10, "blue", 0.75)
        low, high = intervals.get(unit) or (weight, weight)
        yield (
            f'<line class="line" x1="{zero + scale * low:.1f}" y1="{y + CELL / 2}" '
            f'x2="{zero + scale * high:.1f}" y2="{y + CELL / 2}" stroke-width="1.5"{dashes}/>'
        )
        yield _text(zero + scale * 2.2, y + 17, f"{weight:.2f}", "text", "end")
    noise = "95 % interval, noise of samples and training"
    shown = noise if holds_training else "sampling error only"
    yield _text(zero, bottom + 34, f"whiskers: {shown}", "faint small")
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


def comparison(result: str) -> str:
    """Improvement of every method minus that of EW, with intervals, from a published result."""
    rows = sorted(_differences(result), key=lambda row: -row[1])
    scale, zero, width = 20, 440, 660  # pixels per point, place of 0
    height = TOP + CELL * len(rows) + 46
    parts = [
        _text(24, 26, "Improvement minus that of equal weights, in points", "text head"),
        _text(24, 44, "pocket, size study, 5 training seeds, 95 % intervals", "faint"),
        f'<line class="line" x1="{zero}" y1="{TOP - 8}" x2="{zero}" y2="{height - 36}"/>',
    ]
    for row, (method, value, low, high) in enumerate(rows):
        y = TOP + CELL * row + CELL / 2
        parts.append(_text(96, y + 4, method, "text", "end"))
        parts.append(
            f'<line class="line" x1="{zero + scale * low:.1f}" y1="{y}" '
            f'x2="{zero + scale * high:.1f}" y2="{y}" stroke-width="1.5"/>'
        )
        parts.append(f'<circle class="blue" cx="{zero + scale * value:.1f}" cy="{y}" r="4.5"/>')
        parts.append(
            _text(width - 24, y + 4, f"{value:+.2f} [{low:+.2f}, {high:+.2f}]", "text", "end")
        )
    for tick in (-15, -10, -5, 0):
        parts.append(_text(zero + scale * tick, height - 18, f"{tick}", "faint small", "middle"))
    return _svg(width, height, "Differences from equal weights", parts)


def _differences(result: str) -> Iterator[tuple[str, float, float, float]]:
    """Method, difference and interval, from the table of relative changes."""
    table = result[result.index("## Relative change against STL") :]
    (head,) = re.findall(r"^\| task \|(.*)\|$", table, re.MULTILINE)
    (last,) = re.findall(r"^\| improvement minus that of EW.*?\|(.*)\|$", table, re.MULTILINE)
    methods = [cell.strip() for cell in head.split("|")]
    for method, cell in zip(methods, last.replace("\N{MINUS SIGN}", "-").split("|"), strict=True):
        numbers = [float(number) for number in re.findall(r"[-+]?\d+\.\d+", cell)]
        if numbers:
            value, low, high = numbers
            yield method, value, low, high


def photograph(page: Path, sections: Sequence[str], out: Path, width: int, height: int) -> None:
    """An image of some sections of a report, in headless Chromium."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("Chromium is needed for the image of the report; install chromium")
    text = page.read_text(encoding="utf-8")
    bodies = [
        re.findall(rf'<section id="{section}">.*?</section>', text, re.DOTALL)[0]
        for section in sections
    ]
    head = text[: text.index("</head>")]
    with tempfile.TemporaryDirectory() as work:
        part = Path(work) / "part.html"
        body = f"<body><main style='margin: 1rem 2rem'>{''.join(bodies)}</main></body>"
        part.write_text(f"{head}</head>{body}</html>", encoding="utf-8")
        subprocess.run(
            [
                browser,
                "--headless",
                "--no-sandbox",
                "--hide-scrollbars",
                "--force-device-scale-factor=1.5",
                f"--user-data-dir={work}/profile",
                f"--window-size={width},{height}",
                f"--screenshot={out}",
                part.as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )


def main() -> None:
    """Write the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a finished run directory")
    run = parser.parse_args().run
    balance = json.loads((run / "balance.json").read_text(encoding="utf-8"))
    (DOCS / "overview.svg").write_text(overview(balance), encoding="utf-8")
    (DOCS / "comparison.svg").write_text(
        comparison(STUDY.read_text(encoding="utf-8")), encoding="utf-8"
    )
    report = run / "report" / "index.html"
    photograph(report, ("contribution", "difficulty"), DOCS / "report.png", 1000, 1180)


if __name__ == "__main__":
    main()
