"""Hooks of the documentation site.

Two things MkDocs does not do by itself: the page of the command line is generated, and files of the
repository outside `docs/` that a page links to become pages or downloads of the site.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

TOOLS = Path(__file__).parent
DOCS = TOOLS.parent
ROOT = DOCS.parent
OUTSIDE = "repository"  # folder of the site with files from outside docs/
LINK = re.compile(r"(\]\()([^)#\s]+)(#[^)]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the generated page and every file of the repository that a page links to."""
    sys.path.insert(0, str(TOOLS))
    import cli_page

    files.append(File.generated(config, "cli.md", content=cli_page.page()))
    waiting = [ROOT / "docs" / file.src_uri for file in files.documentation_pages()]
    seen: set[Path] = set()
    while waiting:
        source = waiting.pop()
        for target in _outside_links(source):
            if target in seen:
                continue
            seen.add(target)
            uri = f"{OUTSIDE}/{target.relative_to(ROOT).as_posix()}"
            files.append(File.generated(config, uri, abs_src_path=str(target)))
            waiting.append(target)
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links that leave `docs/` at their place in the site."""
    source = _source(page.file.src_uri)

    def replaced(link: re.Match[str]) -> str:
        target = _target(source, link[2])
        if target is None:
            return link[0]
        path = "../" * page.file.src_uri.count("/") + _uri(target)
        return f"{link[1]}{path}{link[3] or ''})"

    return LINK.sub(replaced, markdown)


def _source(uri: str) -> Path:
    """The file behind a page of the site."""
    if uri.startswith(f"{OUTSIDE}/"):
        return ROOT / uri.removeprefix(f"{OUTSIDE}/")
    return DOCS / uri


def _uri(target: Path) -> str:
    if target.is_relative_to(DOCS):
        return target.relative_to(DOCS).as_posix()
    return f"{OUTSIDE}/{target.relative_to(ROOT).as_posix()}"


def _target(source: Path, link: str) -> Path | None:
    """The file that a relative link names; None for addresses and for files that do not exist."""
    if "://" in link or link.startswith("mailto:"):
        return None
    target = (source.parent / link).resolve()
    return target if target.is_file() and target.is_relative_to(ROOT) else None


def _outside_links(source: Path) -> list[Path]:
    if source.suffix != ".md" or not source.is_file():
        return []
    text = source.read_text(encoding="utf-8")
    targets = (_target(source, link[2]) for link in LINK.finditer(text))
    return [target for target in targets if target and not target.is_relative_to(DOCS)]
