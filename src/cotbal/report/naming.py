"""The names that a reader knows: EW for `ew`, CoTBal for `cotbal`, STL for models of a single
task.
"""

from __future__ import annotations

from cotbal import plugins
from cotbal.errors import CotbalError

STL = "stl"  # method of the comparison: for every task a model trained on that task alone


def method_label(name: str) -> str:
    """The paper's name of a method; `cotbal-inter` is a variant of `cotbal` and becomes `CoTBal
    (inter)`.
    """
    if name == STL:
        return "STL"
    method, _, variant = name.partition("-")
    try:
        label: str = plugins.load("cotbal.weightings", method).LABEL
    except (
        CotbalError,
        ImportError,
        AttributeError,
    ):  # a module of the user's own that is not here today
        return name
    return f"{label} ({variant.replace('-', ' ')})" if variant else label
