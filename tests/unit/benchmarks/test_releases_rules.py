"""The rules of Appendix A, each by itself."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotbal.benchmarks.releases.conversation import Asked, Conversation
from cotbal.benchmarks.releases.rules import (
    capitalized,
    drawn,
    merge_by_image,
    segment,
    truncated,
    with_instruction,
    with_unique_ids,
    without_marker,
)


def turns(count: int) -> tuple[Asked, ...]:
    return tuple(Asked(f"q{k}", f"a{k}") for k in range(count))


def test_questions_about_one_image_come_together_in_the_order_of_the_file() -> None:
    items = [("b", Asked("1", "x")), ("a", Asked("2", "y")), ("b", Asked("3", "z"))]
    assert list(merge_by_image(items)) == [
        ("b", (Asked("1", "x"), Asked("3", "z"))),
        ("a", (Asked("2", "y"),)),
    ]


@pytest.mark.parametrize(
    ("count", "lengths"), [(1, [1]), (9, [9]), (10, [9, 1]), (11, [9, 2]), (27, [9, 9, 9])]
)
def test_segments_have_fewer_than_ten_turns(count: int, lengths: list[int]) -> None:
    pieces = list(segment(turns(count)))
    assert [len(piece) for piece in pieces] == lengths
    assert tuple(asked for piece in pieces for asked in piece) == turns(count)


def test_the_instruction_stands_behind_the_first_question_alone() -> None:
    first, second = with_instruction(turns(2), "Be brief.")
    assert first == Asked("q0\nBe brief.", "a0")
    assert second == Asked("q1", "a1")


@pytest.mark.parametrize(
    "text", ["<image>\nWhat is it?", "What is it?\n<image>", "  What is it?<image> ", "What is it?"]
)
def test_the_marker_is_taken_from_head_and_tail(text: str) -> None:
    assert without_marker(text) == "What is it?"


def test_a_record_with_an_image_starts_with_one_marker() -> None:
    record = Conversation("7", "coco/a.jpg", turns(2)).record("VQAv2")
    assert record == {
        "id": "7",
        "task": "VQAv2",
        "image": "coco/a.jpg",
        "conversations": [
            {"from": "human", "value": "<image>\nq0"},
            {"from": "gpt", "value": "a0"},
            {"from": "human", "value": "q1"},
            {"from": "gpt", "value": "a1"},
        ],
    }


def test_a_record_of_text_names_no_image_and_several_answers_are_a_list() -> None:
    record = Conversation("7", None, (Asked("q", ("a", "b")),)).record("ShareGPT")
    assert "image" not in record
    assert record["conversations"] == [
        {"from": "human", "value": "q"},
        {"from": "gpt", "value": ["a", "b"]},
    ]


def test_a_capital_is_all_that_changes() -> None:
    assert [capitalized(text) for text in ("yes", "iPhone", "", "äh", "2 dogs")] == [
        "Yes",
        "IPhone",
        "",
        "Äh",
        "2 dogs",
    ]


IDS = st.lists(st.text(max_size=6), unique=True, max_size=40)


@given(IDS, st.integers(0, 50), st.integers(0, 3), st.randoms())
def test_a_draw_depends_on_seed_and_ids_alone(
    ids: list[str], count: int, seed: int, random: object
) -> None:
    shuffled = list(ids)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    chosen = drawn(shuffled, count, seed)
    assert chosen == drawn(ids, count, seed)
    assert len(set(chosen)) == min(count, len(ids))
    assert set(chosen) <= set(ids)


@given(IDS, st.integers(0, 20), st.integers(0, 20))
def test_a_smaller_draw_is_the_beginning_of_a_larger_one(
    ids: list[str], small: int, more: int
) -> None:
    assert drawn(ids, small, 0) == drawn(ids, small + more, 0)[:small]


def test_other_seeds_and_other_purposes_draw_others() -> None:
    ids = [str(k) for k in range(1000)]
    draws = [set(drawn(ids, 100, 0)), set(drawn(ids, 100, 1)), set(drawn(ids, 100, 0, "covers"))]
    assert all(len(a & b) < 30 for a, b in pairwise(draws))


def test_the_draw_is_known_for_good() -> None:
    """Other numbers here mean that every prepared benchmark changes."""
    assert drawn([str(k) for k in range(100)], 5, 0, "questions") == ["9", "27", "37", "30", "58"]


def test_a_repeated_id_is_numbered() -> None:
    made = with_unique_ids(Conversation(name, None, turns(1)) for name in "aba")
    assert [conversation.id for conversation in made] == ["a", "b", "a_2"]


def length(asked: Asked) -> int:
    return len(str(asked.answer))


@pytest.mark.parametrize(("longest", "kept"), [(4, 2), (5, 2), (6, 3), (100, 4), (1, 1), (2, 1)])
def test_turns_beyond_the_longest_are_dropped_whole_and_the_first_stays(
    longest: int, kept: int
) -> None:
    assert len(truncated([Asked("q", "aa")] * 4, length, longest)) == kept
