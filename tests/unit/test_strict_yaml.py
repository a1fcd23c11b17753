from __future__ import annotations

import math
import re
import string
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cotbal.errors import RecipeError
from cotbal.recipe import strict_yaml
from cotbal.recipe.strict_yaml import apply_override, dump_yaml, load_yaml, read_yaml
from helpers.errors import raises

# YAML 1.2.2, section 10.3.2; PyYAML reads those of the first row as YAML 1.1 does.
TEXTS = (
    *("12:00:00", "1:30", "190:20:30.15", "yes", "No", "on", "OFF", "1_000", "0b11", "2024-01-01"),
    *("y", "0o9", "0xg", "1e", ".", "e5", "0o", "+", "=", "1.5.2", ".iNf", "tRue", "--1", "½"),
)
VALUES: dict[str, Any] = {
    "0777": 777,
    "0o17": 15,
    "0x1F": 31,
    "+12": 12,
    "-0": 0,
    "1e-4": 1e-4,
    "1E5": 1e5,
    "1.": 1.0,
    ".5": 0.5,
    "-.5e+3": -500.0,
    "-.Inf": -math.inf,
    "true": True,
    "FALSE": False,
    "Null": None,
    "~": None,
    "": None,
}


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_text_in_yaml_1_2(text: str) -> None:
    assert load_yaml(text) == text
    assert load_yaml(f"key: {text}") == {"key": text}
    assert load_yaml(f"[{text}]") == [text]


@pytest.mark.parametrize("text", VALUES)
def test_what_is_a_number_a_boolean_or_null_in_yaml_1_2(text: str) -> None:
    value = load_yaml(f"key: {text}")["key"]
    assert value == VALUES[text]
    assert type(value) is type(VALUES[text])


def test_not_a_number() -> None:
    assert math.isnan(load_yaml(".NaN"))


def test_quotes_and_tags_win() -> None:
    assert load_yaml("""[ '1', "true", !!str 2, !!float 3 ]""") == ["1", "true", "2", 3.0]


def test_merges() -> None:
    merged = "a: &a {x: 1, y: 2}\nb: &b {z: 3}\nc:\n  <<: *a\n  y: 4\nd:\n  <<: [*a, *b]\n"
    read = load_yaml(merged)
    assert read["c"] == {"x": 1, "y": 4}
    assert read["d"] == {"x": 1, "y": 2, "z": 3}
    with pytest.raises(yaml.YAMLError, match="'<<'"):
        load_yaml("a: &a {x: 1}\nb:\n  <<: *a\n  <<: *a\n")


def test_a_merge_of_a_value_that_merges_and_lies_deeper() -> None:
    read = load_yaml("a: {x: {y: &b {<<: {k: 0}, k: 1}}}\nc:\n  <<: *b\n  k: 2\n")
    assert read == {"a": {"x": {"y": {"k": 1}}}, "c": {"k": 2}}


BOMB = "b0: &b0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"b{i}: &b{i} [{', '.join([f'*b{i - 1}'] * 9)}]\n" for i in range(1, 9)
)
MERGES = "b0: &b0 {x: 1}\n" + "".join(
    f"b{i}: &b{i} {{<<: [{', '.join([f'*b{i - 1}'] * 9)}]}}\n" for i in range(1, 9)
)
HOSTILE = {
    "a bad bool": "a: !!bool foo",
    "a bad date": "a: !!timestamp foo",
    "a bad number": "a: !!int ''",
    "a bad float": "a: !!float x",
    "no binary": "a: !!binary é",
    "nested lists": "a: " + "[" * 2000 + "]" * 2000,
    "nested mappings": "a: " + "{a: " * 2000 + "}" * 2000,
    "nested blocks": "- " * 2000,
    "4,300 digits": "a: " + "9" * 4300,
    "5,000 digits": "a: " + "9" * 5000,
    "a long hexadecimal": "a: 0x" + "f" * 5000,
    "aliases of aliases": BOMB,
    "merges of merges": MERGES,
    "itself in a list": "a: &a [*a]",
    "itself in a merge": "a: &a {<<: *a}",
}


@pytest.mark.parametrize("version", ["1.1", "1.2"])
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_yaml_is_one_error_at_once(
    tmp_path: Path, text: str, version: Literal["1.1", "1.2"]
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    with raises(RecipeError, "broken-file", path) as caught:
        read_yaml(path, version)
    assert len(str(caught.value)) < len(str(path)) + 300
    with raises(RecipeError, "invalid-option"):
        apply_override({}, f"a={text}")


def test_aliases_are_welcome() -> None:
    tasks = "".join(f"  t{i}: {{<<: *task, train: {i}}}\n" for i in range(500))
    read = load_yaml(f"task: &task {{metric: anls, instruction: Be short.}}\ntasks:\n{tasks}")
    assert read["tasks"]["t7"] == {"metric": "anls", "instruction": "Be short.", "train": 7}


def test_aliases_repeat_so_many_values_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strict_yaml, "_MOST_REPEATED", 100)

    def repeated(aliases: int) -> str:
        """Each alias repeats a list of four values: five."""
        return f"a: &a [1, 2, 3, 4]\nb: [{', '.join(['*a'] * aliases)}]"

    assert len(load_yaml(repeated(20))["b"]) == 20
    with pytest.raises(yaml.YAMLError):
        load_yaml(repeated(21))


def test_an_override_is_yaml_1_2_without_repeated_keys() -> None:
    content: dict[str, Any] = {}
    apply_override(content, "resources.hours=12:00:00")
    apply_override(content, "model.checkpoint=no")
    assert content == {"resources": {"hours": "12:00:00"}, "model": {"checkpoint": "no"}}
    with raises(RecipeError, "invalid-option", "'train'"):
        apply_override(content, "tasks.a={train: a, train: b}")
    with raises(RecipeError, "invalid-option", "'a=!!int x'"):
        apply_override(content, "a=!!int x")


def test_an_error_names_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("name: a\ntasks:\n  b: 1\n  b: 2\n")
    with raises(RecipeError, "broken-file", "recipe.yaml, line 4, column 3", "'b'"):
        read_yaml(path)
    path.write_text("name: !!int x\n")
    with raises(RecipeError, "broken-file", path):
        read_yaml(path)


def test_files_of_yaml_1_1_programs_are_read_as_these_read_them(tmp_path: Path) -> None:
    path = tmp_path / "accelerate.yaml"
    path.write_text("offload: yes\nport: 0777\n")
    assert read_yaml(path, version="1.1") == {"offload": True, "port": 511}


_LETTERS = st.text(string.printable + "é日")  # line breaks of Unicode are beyond PyYAML


@given(
    st.dictionaries(
        _LETTERS,
        st.none()
        | st.booleans()
        | st.integers(1 - 2**63, 2**63 - 1)
        | st.floats(allow_nan=False)
        | st.sampled_from([*TEXTS, *VALUES])
        | _LETTERS,
    )
)
def test_what_is_written_is_read_alike_by_both_versions(content: dict[str, Any]) -> None:
    written = dump_yaml(content)
    assert load_yaml(written) == content
    assert load_yaml(written, version="1.1") == content


def test_all_yaml_is_read_here() -> None:
    readers = [
        path.name
        for path in Path(strict_yaml.__file__).parent.rglob("*.py")
        if re.search(r"yaml\.(safe_|full_|unsafe_)?load", path.read_text(encoding="utf-8"))
    ]
    assert readers == ["strict_yaml.py"]
