"""The page of licences names every pinned package, with a licence that is known."""

from __future__ import annotations

import re

import licences


def test_every_pinned_package_has_a_licence() -> None:
    _, _, table = licences.PAGE.read_text().partition("|---|---|---|\n")
    rows = re.findall(r"^\| (\S+) \| (\S+) \| (.+) \|$", table, re.MULTILINE)
    assert [row[:2] for row in rows] == licences.pins()
    unknown = [name for name, _, licence in rows if licence.startswith("not ")]
    assert not unknown


def test_what_is_installed_declares_what_the_page_says() -> None:
    assert licences.licence("numpy") in licences.PAGE.read_text()
    assert licences.licence("no-such-package-anywhere") == "not installed here"
