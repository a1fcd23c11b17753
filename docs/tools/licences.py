"""Writes docs/licences.md: the licence of every package that cotbal or one of its extras installs.

    python docs/tools/licences.py

Versions are those of constraints.txt, licences those that the installed packages declare. Packages
of extras that are not installed can be in a folder of PYTHONPATH (`pip install --no-deps
--target`).
"""

from __future__ import annotations

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "licences.md"
HEAD = """# Licences of dependencies

What the packages in `constraints.txt` declare; most come with extras alone. cotbal is Apache-2.0,
and contains code of none of them. Data have licences of their own, which the report shows.

| package | version | licence |
|---|---|---|
"""
LONGEST = 60  # characters of a field that names a licence; a longer one is its text


def main() -> None:
    """Write the page."""
    rows = [f"| {name} | {version} | {licence(name)} |\n" for name, version in pins()]
    PAGE.write_text(HEAD + "".join(rows), encoding="utf-8")


def pins() -> list[tuple[str, str]]:
    """Package and version of every line of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    matches = [re.match(r"([\w.-]+)==(\S+)", line) for line in lines]
    return [(match[1], match[2]) for match in matches if match]


def licence(name: str) -> str:
    """The licence that an installed package declares."""
    try:
        package = distribution(name)
    except PackageNotFoundError:
        return "not installed here"
    return declared(package).replace("|", "/")


def declared(package: Distribution) -> str:
    """Its SPDX expression, else its classifiers, else a short field, else the title of its text."""
    fields = package.metadata
    prefix = "License :: OSI Approved :: "
    classifiers = [
        value.removeprefix(prefix)
        for value in fields.get_all("Classifier", [])
        if value.startswith(prefix)
    ]
    text = (fields.get("License") or "").strip()
    if fields.get("License-Expression"):
        return str(fields["License-Expression"])
    if classifiers:
        return ", ".join(classifiers)
    if text and "\n" not in text and len(text) <= LONGEST:
        return text
    return text.splitlines()[0].strip()[:LONGEST] if text else "not declared"


if __name__ == "__main__":
    main()
