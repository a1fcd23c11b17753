"""The file name is the registry: a name is a module of a package here, or a user's dotted path."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from types import ModuleType

from cotbal.errors import CotbalError, near


def names(package: str) -> list[str]:
    """Sorted names of the public modules of a package such as `cotbal.metrics`."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return sorted(
        m.name for m in pkgutil.iter_modules(spec.submodule_search_locations) if m.name[0] != "_"
    )


def load(package: str, name: str) -> ModuleType:
    """The module `name` of `package`, or a user's module when `name` contains a dot.

    Raises:
        CotbalError: no such module; the message lists the known names.
    """
    path = name if "." in name else f"{package}.{name}"
    if all(part.isidentifier() for part in path.split(".")):
        try:
            return importlib.import_module(path)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{path}.".startswith(f"{error.name}."):
                raise  # the module exists, but an import in it fails
    kind, known = package.rpartition(".")[2], names(package)
    raise CotbalError(
        f"{kind}: expected one of {', '.join(known)}, or the dotted path of your own module; found"
        f" {name!r}" + near(name, known),
        "unknown-name",
    )
