from __future__ import annotations

from pathlib import Path

import pytest

from cotbal.recipe.mixture import Mixture, Task


def task(name: str, group: str | None = None, balanced: bool = True) -> Task:
    return Task(name, Path("t"), Path("v"), {}, "cider", ("cider",), None, group, balanced)


MIXTURE = Mixture(
    (
        task("vqa", "questions"),
        task("chat", balanced=False),
        task("caption"),
        task("gqa", "questions"),
        task("ocr"),
    )
)


def test_units_in_order_of_first_appearance() -> None:
    assert MIXTURE.units == ("questions", "caption", "ocr")


def test_balanced_tasks_keep_their_order() -> None:
    assert [t.name for t in MIXTURE.balanced] == ["vqa", "caption", "gqa", "ocr"]


def test_members() -> None:
    assert [t.name for t in MIXTURE.members("questions")] == ["vqa", "gqa"]
    assert [t.name for t in MIXTURE.members("ocr")] == ["ocr"]


def test_unit_of() -> None:
    assert MIXTURE.unit_of("gqa") == "questions"
    assert MIXTURE.unit_of("caption") == "caption"


def test_by_name() -> None:
    assert MIXTURE["ocr"].name == "ocr"
    with pytest.raises(KeyError):
        MIXTURE["none"]


def test_an_unbalanced_member_of_a_group_is_no_member_of_its_unit() -> None:
    mixture = Mixture((task("a", "g"), task("b", "g", balanced=False)))
    assert [t.name for t in mixture.members("g")] == ["a"]
    assert mixture.units == ("g",)
