from __future__ import annotations

import pytest

from cotbal.jobs.rundir import RunDir
from cotbal.report import write_report
from cotbal.report.markdown import inert, table
from cotbal.report.tables import Strong, Table


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("region_caption", "region_caption"),
        ("a|b", r"a\|b"),
        ("<img src=x>", "&lt;img src=x&gt;"),
        ("![x](http://y)", r"\!\[x\](http://y)"),
        ("two\nlines  *bold*", r"two lines \*bold\*"),
        ("1.2 [0.9, 1.5]", "1.2 [0.9, 1.5]"),
        ("-0.1 [\N{MINUS SIGN}0.9, 1.5]", "-0.1 [\N{MINUS SIGN}0.9, 1.5]"),
    ],
)
def test_texts_stay_texts(text: str, expected: str) -> None:
    assert inert(text) == expected


def test_table() -> None:
    content = Table(
        "Title",
        ("unit", "weight", "in words"),
        (("a", Strong("1.0"), "b"),),
        words=frozenset({2}),
    )
    assert (
        table(content)
        == "## Title\n\n| unit | weight | in words |\n| :-- | --: | :-- |\n| a | **1.0** | b |\n"
    )


def test_every_row_has_as_many_cells_as_its_header(finished: RunDir) -> None:
    write_report(finished.root)
    text = (finished.report / "tables.md").read_text()
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(blocks) == 12
    for block in blocks:
        assert len({line.count("|") for line in block}) == 1
