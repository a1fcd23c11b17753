from __future__ import annotations

from pathlib import Path

import pytest

from cotbal.recipe.mixture import Mixture, Task


@pytest.fixture
def grouped() -> Mixture:
    """A group of two tasks, a task of its own, and one that is not balanced."""

    def task(name: str, group: str | None = None, balanced: bool = True) -> Task:
        return Task(name, Path(name), Path(name), {}, "exact_match", (), None, group, balanced)

    return Mixture((task("a", "ab"), task("b", "ab"), task("c"), task("chat", balanced=False)))
