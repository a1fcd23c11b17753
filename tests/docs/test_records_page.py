"""The records page shows records that are read, and names every key that the code knows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cotbal.data.reading.conversations import normalise
from cotbal.data.reading.media import OTHER_MEDIA
from cotbal.data.reading.record import Record, Turn
from cotbal.data.reading.turns import MARKS, SPANS
from cotbal.data.reading.unread_keys import is_annotation
from cotbal.recipe.strict_yaml import load_yaml

PAGE = (Path(__file__).parents[2] / "docs" / "records.md").read_text(encoding="utf-8")
SHOWN = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]


def read(raw: object) -> Record:
    record = normalise(raw, 1, False, lambda content: "")
    assert isinstance(record, Record), record
    return record


def test_both_forms_are_the_same_record() -> None:
    assert read(SHOWN[0]) == read(SHOWN[1])
    assert read(SHOWN[0]).turns[0] == Turn("user", "<image>\nWhat is it?")


def test_the_marked_answer_carries_no_loss() -> None:
    assert read(SHOWN[2]).learnt == ("Five.",)


@pytest.mark.parametrize("key", [*MARKS, SPANS[0], *OTHER_MEDIA])
def test_every_known_key_is_named(key: str) -> None:
    assert re.search(rf"`{key}\b", PAGE)


def test_keys_that_are_said_to_be_reported_are() -> None:
    (sentence,) = re.findall(r"meant to say: (.*?)`check` warns", PAGE, re.DOTALL)
    keys = re.findall(r"`(\w+)`", sentence)
    assert len(keys) == 7
    assert not any(is_annotation(key, "text" if key != "max_pixels" else 1) for key in keys)


def test_yaml_is_read_as_it_says() -> None:
    (texts,) = re.findall(r"rules of YAML 1.2: (.*?) and\ndates are text", PAGE, re.DOTALL)
    matches = re.findall(r"`(.+?)`", texts)
    assert [load_yaml(text) for text in matches] == matches
    assert [load_yaml(text) for text in ("0777", "0o17", "1e-4")] == [777, 15, 1e-4]
