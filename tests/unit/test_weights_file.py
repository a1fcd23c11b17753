from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import cotbal
from cotbal.errors import CotbalError
from cotbal.scores.weights_file import read_task_weights, read_weights
from helpers.errors import raises

# Two tasks of one group, and one that is not balanced.
WRITTEN = """{"weights": {"qa": 0.5, "ocr": 1.5},
 "tasks": {"vqa": 0.5, "chart": 0.5, "ocr": 1.5, "chat": 1}}"""


def written(directory: Path, text: str) -> Path:
    (directory / "w.json").write_text(text)
    return directory / "w.json"


def test_weights_of_tasks_and_of_units(tmp_path: Path) -> None:
    path = written(tmp_path, WRITTEN)
    expected = {"vqa": 0.5, "chart": 0.5, "ocr": 1.5, "chat": 1.0}
    assert read_task_weights(path) == read_task_weights(str(path)) == expected
    assert read_weights(path) == {"qa": 0.5, "ocr": 1.5}


@pytest.mark.parametrize("read", [read_task_weights, read_weights])
def test_a_plain_mapping(read: object, tmp_path: Path) -> None:
    assert read(written(tmp_path, '{"a": 2, "b": 0.5}')) == {"a": 2, "b": 0.5}  # type: ignore[operator]


def test_weights_of_units_alone_are_no_weights_of_tasks(tmp_path: Path) -> None:
    with raises(CotbalError, "missing-weights", "w.json", '"tasks"'):
        read_task_weights(written(tmp_path, '{"weights": {"qa": 0.5, "ocr": 1.5}}'))


@pytest.mark.parametrize(
    "text", ["", "[1]", "3", '{"a": "1"}', '{"weights": [1]}', '{"a": {"b": 1}}', '{"a": true}']
)
@pytest.mark.parametrize("read", [read_task_weights, read_weights])
def test_anything_else(read: object, text: str, tmp_path: Path) -> None:
    units = read is read_task_weights and '"weights"' in text
    with raises(CotbalError, "missing-weights" if units else "invalid-weights", "w.json"):
        read(written(tmp_path, text))  # type: ignore[operator]


@pytest.mark.parametrize("weight", ["0", "-1", "NaN", "Infinity"])
def test_a_weight_of_a_task_is_positive(weight: str, tmp_path: Path) -> None:
    with raises(CotbalError, "invalid-weights", "w.json"):
        read_task_weights(written(tmp_path, f'{{"tasks": {{"a": {weight}}}}}'))


@pytest.mark.parametrize("read", [read_task_weights, read_weights])
@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1e9}',
        '{"a": 1000001}',
        f'{{"a": {"9" * 400}}}',
        f'{{"a": {"9" * 5000}}}',
        '{"a": 1e999}',
        "[" * 100_000,
        '{"a": ' * 100_000,
    ],
    ids=lambda text: text[:12],
)
def test_what_is_too_large_is_one_error(read: object, text: str, tmp_path: Path) -> None:
    with raises(CotbalError, "invalid-weights", "w.json") as caught:
        read(written(tmp_path, text))  # type: ignore[operator]
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("read", [read_task_weights, read_weights])
def test_no_such_file(read: object, tmp_path: Path) -> None:
    with raises(CotbalError, "missing-file", "none.json"):
        read(tmp_path / "none.json")  # type: ignore[operator]


def test_it_is_public_and_needs_no_torch(tmp_path: Path) -> None:
    path = written(tmp_path, WRITTEN)
    code = (
        f"import sys, cotbal; print(cotbal.read_task_weights({str(path)!r})['chat']);"
        " print(sorted({'torch', 'numpy', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1.0", "[]"]


def test_whatever_is_public_can_be_imported() -> None:
    assert "read_task_weights" in cotbal.__all__
    assert all(callable(getattr(cotbal, name)) for name in cotbal.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        cotbal.nothing  # noqa: B018


@pytest.mark.parametrize("read", [read_task_weights, read_weights])
def test_edited_in_one_of_the_two_places(read: object, tmp_path: Path) -> None:
    """A training would use the old weight where an export uses the new one."""
    text = '{"weights": {"a": 0.5, "b": 1.5}, "tasks": {"a": 0.5, "b": 1.4}}'
    with raises(CotbalError, "invalid-weights", "w.json", "'b'", "1.5", "1.4"):
        read(written(tmp_path, text))  # type: ignore[operator]


@pytest.mark.parametrize("read", [read_task_weights, read_weights])
def test_the_wrong_entry_is_named(read: object, tmp_path: Path) -> None:
    with raises(CotbalError, "invalid-weights", "'b'", "'1,2'"):
        read(written(tmp_path, '{"a": 1, "b": "1,2"}'))  # type: ignore[operator]


@pytest.mark.parametrize("read", [read_task_weights, read_weights])
def test_no_weights(read: object, tmp_path: Path) -> None:
    with raises(CotbalError, "invalid-weights", "no weights"):
        read(written(tmp_path, "{}"))  # type: ignore[operator]


@pytest.mark.parametrize("read", [read_task_weights, read_weights])
def test_a_byte_order_mark(read: object, tmp_path: Path) -> None:
    assert read(written(tmp_path, '\ufeff{"a": 2}')) == {"a": 2}  # type: ignore[operator]
