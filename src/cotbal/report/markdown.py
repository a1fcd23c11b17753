"""The tables of the report as Markdown."""

from __future__ import annotations

import html
import re

from cotbal.report import amount_views, tables
from cotbal.report.amounts import AmountCurves
from cotbal.report.comparison import Comparison
from cotbal.report.contents import Contents
from cotbal.report.summary import summary
from cotbal.report.tables import Table


def markdown(contents: Contents, found: Comparison, curves: AmountCurves | None) -> str:
    """Summary, flags and every table of the page, with the same numbers."""
    balance = contents.balance
    shown: list[Table] = []
    if balance:
        shown += [
            tables.weights_table(balance),
            tables.parts_table(balance),
            tables.measures_table(balance),
            tables.contribution_table(balance),
        ]
    if contents.matrix:
        shown.append(tables.scores_table(contents))
    shown += tables.variant_tables(contents, found) + tables.model_tables(found)
    shown += amount_views.tables(curves) if curves else []
    if contents.runs:
        shown.append(tables.cost_table(contents))
    head = f"# cotbal: {inert(contents.name)}\n\n{inert(' '.join(summary(contents, found)))}\n"
    return "\n".join([head, *_flags(contents), *map(table, shown)])


def _flags(contents: Contents) -> list[str]:
    if not contents.balance or not (contents.balance.flags or contents.balance.warnings):
        return []
    messages = [flag.message for flag in contents.balance.flags] + list(contents.balance.warnings)
    return [
        "## What was flagged\n",
        "\n".join(f"- {inert(message)}" for message in messages) + "\n",
    ]


def table(content: Table) -> str:
    """One table under its title; the cells that stand out are bold."""
    lines = [f"## {inert(content.title)}\n", _row([inert(name) for name in content.header])]
    last = len(content.header)
    lines.append(_row([":--" if j == 0 or j in content.words else "--:" for j in range(last)]))
    for i, cells in enumerate(content.rows):
        texts = [inert(text) for text in cells]
        lines.append(
            _row(
                [
                    f"**{text}**" if (i, j) in content.strong else text
                    for j, text in enumerate(texts)
                ]
            )
        )
    return "\n".join(lines) + "\n"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def inert(text: str) -> str:
    """`text` as plain Markdown on one line: no tag, link, picture or emphasis can come of it."""
    plain = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*|!]|\[(?![-+\d\N{MINUS SIGN}])|\](?=[(\[:]))", r"\\\1", plain)
