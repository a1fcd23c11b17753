from __future__ import annotations

import pytest

from cotbal.data.reading.record import Turn, with_instruction

SHORT = "Answer in one word."


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("<image>\nWhat?", f"<image>\nWhat?\n{SHORT}"),
        (f"<image>\nWhat?\n{SHORT}", f"<image>\nWhat?\n{SHORT}"),
        (f"What? {SHORT} ", f"What? {SHORT} "),
        (f"<image>\n{SHORT}\nWhat?", f"<image>\n{SHORT}\nWhat?"),
        (f"{SHORT}", f"{SHORT}"),
        (f"Why is '{SHORT}' asked?", f"Why is '{SHORT}' asked?\n{SHORT}"),
    ],
)
def test_an_instruction_is_given_once(asked: str, expected: str) -> None:
    turns = (Turn("system", SHORT), Turn("user", asked), Turn("assistant", "frog"))
    instructed = with_instruction(turns, SHORT)
    assert instructed == (turns[0], Turn("user", expected), turns[2])
    assert with_instruction(instructed, f"{SHORT}\n") == instructed


def test_later_turns_get_none() -> None:
    turns = [Turn("user", "a"), Turn("assistant", "b", loss=False), Turn("user", "c")]
    assert with_instruction(turns, SHORT)[1:] == tuple(turns[1:])
    assert with_instruction(turns, None) == tuple(turns)
