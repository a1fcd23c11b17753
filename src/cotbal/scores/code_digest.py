"""A digest of the code of a module, to recognise results of other code."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from itertools import chain
from pathlib import Path
from types import ModuleType

_STANDARD = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))
_INSTALLED = {"site-packages", "dist-packages"}


@cache
def code_digest(*modules: ModuleType) -> str:
    """SHA-256 of the code of these modules and of every module that they import, at any depth.

    Left out are comments, layout, the standard library, installed packages other than those of the
    modules themselves, and data that a module reads from files.
    """
    packages = {module.__name__.partition(".")[0] for module in modules}
    waiting = [module.__name__ for module in modules]
    code: dict[str, bytes] = {}
    while waiting:
        for name in _with_parents(waiting.pop()):
            spec = _spec(name)
            if name in code or spec is None or not _is_followed(spec, packages):
                continue
            content, imported = _read(spec)
            code[name] = content
            waiting += imported
    digest = hashlib.sha256()
    for name in sorted(code):
        content = code[name]
        digest.update(f"{name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _with_parents(name: str) -> Iterator[str]:
    """`a`, `a.b` and `a.b.c` for `a.b.c`: an import runs all of them."""
    parts: list[str] = []
    for part in name.split("."):
        parts.append(part)
        yield ".".join(parts)


def _spec(name: str) -> ModuleSpec | None:
    """The spec of a module, without running its code; None if it has no file."""
    loaded = sys.modules.get(name)
    spec = getattr(loaded, "__spec__", None)
    if spec is None and loaded is None:
        parent, _, _ = name.rpartition(".")
        spec = _below(parent, name) if parent else importlib.util.find_spec(name)
    if spec is None or not spec.has_location or not spec.origin:
        return None
    return spec


def _below(parent: str, name: str) -> ModuleSpec | None:
    """The spec of a module inside the package `parent`."""
    package = _spec(parent)
    folders = package and package.submodule_search_locations
    if not folders:
        return None
    return PathFinder.find_spec(name, folders)


def _is_followed(spec: ModuleSpec, packages: set[str]) -> bool:
    package, _, _ = spec.name.partition(".")
    if package in packages:
        return True
    path = Path(str(spec.origin))
    installed = any(path.is_relative_to(folder) for folder in _STANDARD)
    return not installed and _INSTALLED.isdisjoint(path.parts)


def _read(spec: ModuleSpec) -> tuple[bytes, list[str]]:
    """The code of a module without comments and layout, and the names that it imports."""
    content = Path(str(spec.origin)).read_bytes()
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):  # compiled, or code that no import has reached yet
        return content, []
    imports = (_names(node, spec.parent or "") for node in _executed(tree))
    return ast.dump(tree).encode(), list(chain.from_iterable(imports))


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a tree without imports for type checkers, which no run executes."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield from _executed(child)


def _names(node: ast.AST, package: str) -> Iterator[str]:
    """Names that a statement may import; `from a import b` does not show whether b is a module."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name
    elif isinstance(node, ast.ImportFrom):
        with suppress(ImportError):  # beyond the package, in code that no import has reached yet
            dots = "." * node.level
            base = importlib.util.resolve_name(dots + (node.module or ""), package)
            for alias in node.names:
                yield f"{base}.{alias.name}"
