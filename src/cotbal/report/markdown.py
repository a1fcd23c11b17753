"""The tables of the report as Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

from cotbal.report import curve_views
from cotbal.report.comparison import Comparison
from cotbal.report.contents import Contents
from cotbal.report.curves import DataCurves
from cotbal.report.flags import flag_table
from cotbal.report.model_tables import cost_table, model_tables, variant_tables
from cotbal.report.summary import summary
from cotbal.report.tables import Strong, Table, balance_tables, scores_table


def markdown(contents: Contents, comparison: Comparison, curves: DataCurves | None) -> str:
    """Summary, flags and every table of the page, with the same numbers."""
    tables: list[Table] = balance_tables(contents.balance) if contents.balance else []
    if contents.matrix:
        tables.append(scores_table(contents, contents.matrix))
    tables += variant_tables(contents, comparison) + model_tables(comparison)
    tables += curve_views.tables(curves) if curves else []
    if contents.runs:
        tables.append(cost_table(contents))
    sentences = inert(" ".join(summary(contents, comparison)))
    head = f"# cotbal: {inert(contents.name)}\n\n{sentences}\n"
    return "\n".join([head, *_flags(contents), *map(table, tables)])


def _flags(contents: Contents) -> list[str]:
    balance = contents.balance
    if not balance or not (balance.flags or balance.warnings):
        return []
    messages = [*(flag.message for flag in balance.flags), *balance.warnings]
    lines = [f"- {inert(message)}" for message in messages]
    return [table(flag_table(balance)), "\n".join(lines) + "\n"]


def table(content: Table) -> str:
    """One table under its title."""
    columns = range(len(content.header))
    alignment = [":--" if j == 0 or j in content.words else "--:" for j in columns]
    lines = [f"## {inert(content.title)}\n", _row(map(inert, content.header)), _row(alignment)]
    lines += [_row(map(_cell, row)) for row in content.rows]
    lines += ["", inert(content.note)] if content.note else []
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return f"**{inert(text)}**" if isinstance(text, Strong) else inert(text)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def inert(text: str) -> str:
    """`text` as plain Markdown on one line, without any tag, link, image or emphasis."""
    plain = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*|!]|\[(?![-+\d\N{MINUS SIGN}])|\](?=[(\[:]))", r"\\\1", plain)
