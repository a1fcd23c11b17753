"""The tables of the report as Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

from cotbal.report import curve_views, response_views
from cotbal.report.comparison import Comparison
from cotbal.report.contents import Contents
from cotbal.report.curves import DataCurves
from cotbal.report.flags import flag_table
from cotbal.report.model_tables import cost_table, model_tables, variant_tables
from cotbal.report.responses import Measured
from cotbal.report.summary import summary
from cotbal.report.tables import Strong, Table, balance_tables, scores_table


def markdown(
    contents: Contents,
    comparison: Comparison,
    curves: DataCurves | None,
    measured: Measured | None,
) -> str:
    """Summary, flags and every table of the page, with the same numbers."""
    tables: list[Table] = balance_tables(contents.balance) if contents.balance else []
    if contents.matrix:
        tables.append(scores_table(contents, contents.matrix))
    tables += variant_tables(contents, comparison)
    tables += model_tables(comparison)
    if measured:
        tables += response_views.tables(measured)
    if curves:
        tables += curve_views.tables(curves)
    if contents.runs:
        tables.append(cost_table(contents))
    name = inert(contents.name)
    sentences = " ".join(summary(contents, comparison, measured))
    head = f"# cotbal: {name}\n\n{inert(sentences)}\n"
    parts = [head, *_flags(contents), *_response(measured), *map(table, tables)]
    return "\n".join(parts)


def _response(measured: Measured | None) -> list[str]:
    """What was tried to measure the effect of weights, and the most important results."""
    if measured is None:
        return []
    sentences = [response_views.design_sentence(measured), *response_views.sentences(measured)]
    items = [f"- {inert(sentence)}\n" for sentence in [*sentences, *measured.unreadable]]
    return ["## Effect of weights\n\n" + "".join(items)]


def _flags(contents: Contents) -> list[str]:
    balance = contents.balance
    if not balance or not (balance.flags or balance.warnings):
        return []
    messages = [flag.message for flag in balance.flags]
    messages += balance.warnings
    items = ""
    for message in messages:
        items += f"- {inert(message)}\n"
    return [table(flag_table(balance)), items]


def table(content: Table) -> str:
    """One table under its title."""
    alignment = []
    for j in range(len(content.header)):
        holds_words = j == 0 or j in content.words
        alignment.append(":--" if holds_words else "--:")
    lines = [f"## {inert(content.title)}", ""]
    lines.append(_row(map(inert, content.header)))
    lines.append(_row(alignment))
    for row in content.rows:
        lines.append(_row(map(_cell, row)))
    if content.note:
        lines += ["", inert(content.note)]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    plain = inert(text)
    if isinstance(text, Strong):
        return f"**{plain}**"
    return plain


def _row(cells: Iterable[str]) -> str:
    content = " | ".join(cells)
    return f"| {content} |"


def inert(text: str) -> str:
    """`text` as plain Markdown on one line, without any tag, link, image or emphasis."""
    one_line = " ".join(text.split())
    plain = html.escape(one_line, quote=False)
    return re.sub(r"([\\`*|!]|\[(?![-+\d\N{MINUS SIGN}])|\](?=[(\[:]))", r"\\\1", plain)
