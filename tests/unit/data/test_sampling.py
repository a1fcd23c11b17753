from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_rows import llava, picture, write

from cotbal.data.records import Records, open_records
from cotbal.data.sampling import (
    Portioned,
    draw_portions,
    kept_records,
    portion_size,
    read_manifest,
    select,
    write_manifest,
)
from cotbal.errors import DataError
from cotbal.sections import Portions

rates = st.fractions(min_value=Fraction(1, 200), max_value=1, max_denominator=200)


@st.composite
def portions(draw: st.DrawFn) -> Portions:
    mini, large = sorted((draw(rates), draw(rates)))
    return Portions(mini=mini, large=large, seed=draw(st.integers(0, 2**31)))


@given(st.integers(1, 400), st.text(max_size=8), portions())
def test_portions_are_nested_exact_and_repeatable(n: int, task: str, rule: Portions) -> None:
    levels = draw_portions(n, task, rule)
    mini, large, full = (set(select(levels, name).tolist()) for name in ("mini", "large", "full"))
    assert mini <= large <= full == set(range(n))
    assert len(mini) == max(1, n * rule.mini.numerator // rule.mini.denominator)
    assert len(large) == max(1, n * rule.large.numerator // rule.large.denominator)
    assert np.array_equal(levels, draw_portions(n, task, rule))
    assert len(select(levels, "none")) == 0


@given(st.integers(2, 300), st.integers(0, 2**31))
def test_a_larger_rate_only_adds_records(n: int, seed: int) -> None:
    small = draw_portions(n, "vqa", Portions(mini=Fraction(1, 8), seed=seed))
    large = draw_portions(n, "vqa", Portions(mini=Fraction(1, 3), seed=seed))
    assert set(select(small, "mini")) <= set(select(large, "mini"))


def test_the_draw_is_fixed_for_ever() -> None:
    """A new version of NumPy or of ours must not change which records a published run saw."""
    drawn = select(draw_portions(100, "vqa", Portions(mini=Fraction(1, 20), seed=3)), "mini")
    assert drawn.tolist() == [44, 57, 69, 79, 82]


def test_seed_and_task_matter() -> None:
    drawn = {
        tuple(select(draw_portions(1000, task, Portions(seed=seed)), "mini"))
        for task in ("vqa", "ocr")
        for seed in (0, 1)
    }
    assert len(drawn) == 4


def test_the_global_random_state_does_not_matter() -> None:
    np.random.seed(1)
    first = draw_portions(100, "vqa", Portions())
    np.random.seed(2)
    assert np.array_equal(first, draw_portions(100, "vqa", Portions()))


def test_the_draw_is_uniform() -> None:
    """Taking the first rows, or favouring some, would show: 400 draws of 1/10, so each record about 40 times."""
    counts = sum(draw_portions(50, "vqa", Portions(mini=Fraction(1, 10), seed=seed)) == 0 for seed in range(400))
    assert np.min(counts) > 15
    assert np.max(counts) < 70


def test_floor_is_exact() -> None:
    assert portion_size(7, Fraction(3, 7)) == 3
    assert portion_size(10, Fraction(1, 32)) == 1
    assert portion_size(0, Fraction(1, 2)) == 0


def test_portioned() -> None:
    drawn = Portioned("vqa", np.array([2, 5, 7, 9]), np.array([2, 0, 1, 2], np.int8))
    assert drawn.of("mini").tolist() == [5]
    assert drawn.of("large").tolist() == [5, 7]
    assert drawn.of("full").tolist() == [2, 5, 7, 9]
    assert drawn.of("none").tolist() == []
    assert drawn.sizes == {"none": 0, "mini": 1, "large": 2, "full": 4}


def test_manifest(tmp_path: Path) -> None:
    path = tmp_path / "vqa.csv"
    indices, levels = np.array([0, 3, 4]), np.array([1, 0, 2], np.int8)
    write_manifest(path, iter(["a,b", 'c"', "d"]), indices, levels)
    assert path.read_text() == 'index,id,portion\n0,"a,b",large\n3,"c""",mini\n4,d,full\n'
    read_indices, read_levels = read_manifest(path)
    assert np.array_equal(read_indices, indices)
    assert np.array_equal(read_levels, levels)
    assert [file.name for file in tmp_path.iterdir()] == ["vqa.csv"]


def test_a_manifest_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "vqa.csv"
    with pytest.raises(ValueError, match="shorter"):
        write_manifest(path, iter(["a"]), np.arange(2), np.zeros(2, np.int8))
    assert not path.exists()


@pytest.fixture
def records(tmp_path: Path) -> Records:
    for name in ("a.png", "b.png"):
        picture(tmp_path / name)
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:60])
    rows = [
        llava("0", image="a.png"),
        llava("1", image="b.png"),
        llava("2", image="c.png"),
        llava("3", "Hi", image=None),
        llava("4", "<image><image>", image=["a.png", "c.png"]),
    ]
    return open_records(write(tmp_path / "x.jsonl", rows), tmp_path / "cache")


def test_records_without_their_pictures_are_dropped(records: Records, tmp_path: Path) -> None:
    indices, dropped = kept_records(records, tmp_path, "drop")
    assert indices.tolist() == [0, 3]
    assert [line.split(": ")[:2] for line in dropped] == [
        [f"{records.source}, record 2", f"broken picture {tmp_path / 'b.png'}"],
        [f"{records.source}, record 3", f"missing picture {tmp_path / 'c.png'}"],
        [f"{records.source}, record 5", f"missing picture {tmp_path / 'c.png'}"],
    ]


def test_dropping_without_decoding(records: Records, tmp_path: Path) -> None:
    assert kept_records(records, tmp_path, "drop", decode=False)[0].tolist() == [0, 1, 3]


def test_missing_pictures_are_an_error(records: Records, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        kept_records(records, tmp_path, "error")
    assert f"{records.source}, record 3: missing picture {tmp_path / 'c.png'}" in str(error.value)
    assert "2 records miss one" in str(error.value)
    assert "on_missing_image: drop" in str(error.value)


def test_all_is_kept_when_nothing_is_missing(records: Records, tmp_path: Path) -> None:
    picture(tmp_path / "c.png")
    assert kept_records(records, tmp_path, "error")[0].tolist() == [0, 1, 2, 3, 4]
