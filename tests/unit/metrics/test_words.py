from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotbal.metrics._words import split_words, word_count


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Two  red\tapples.", ["Two", "red", "apples."]),
        ("naïve café, 10 €", ["naïve", "café,", "10", "€"]),
        ("말 두 마리", ["말", "두", "마리"]),
        ("红色", ["红", "色"]),
        ("LED 灯\u3000亮", ["LED", "灯", "亮"]),
        ("是的。", ["是", "的", "。"]),
        ("สีแดง", ["ส", "ี", "แ", "ด", "ง"]),
        ("", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert split_words(text) == words


@given(st.text(st.characters(max_codepoint=0x0DFF)))
def test_scripts_with_spaces_are_split_as_python_does(text: str) -> None:
    assert split_words(text) == text.split()


@pytest.mark.parametrize(
    ("text", "count"), [("two red apples", 3), ("红色的", 2), ("LED 红色的", 3), ("สีแดงสีแดงสี", 3)]
)
def test_the_count_of_words(text: str, count: float) -> None:
    assert word_count(text) == count
