from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotbal.data.reading.records import Records, open_records
from cotbal.data.sampling import (
    Portioned,
    draw_portions,
    kept_records,
    read_manifest,
    write_manifest,
)
from cotbal.errors import DataError
from cotbal.recipe.schema import Portions
from helpers.errors import raises
from helpers.record_rows import image, llava, write

rates = st.fractions(min_value=Fraction(1, 200), max_value=1, max_denominator=200)


@st.composite
def portions(draw: st.DrawFn) -> Portions:
    mini, large = sorted(draw(st.lists(rates, min_size=2, max_size=2, unique=True)))
    return Portions(mini=mini, large=large, seed=draw(st.integers(0, 2**31)))


def draw(n: int, task: str, rule: Portions) -> Portioned:
    return draw_portions(np.arange(n), task, rule)


@given(st.integers(1, 400), st.text(max_size=8), portions())
def test_portions_are_nested_exact_and_repeatable(n: int, task: str, rule: Portions) -> None:
    drawn, again = draw(n, task, rule), draw(n, task, rule)
    mini, large, full = (set(drawn.of(name).tolist()) for name in ("mini", "large", "full"))
    assert mini <= large <= full == set(range(n))
    assert len(mini) == max(1, n * rule.mini.numerator // rule.mini.denominator)
    assert len(large) == max(1, n * rule.large.numerator // rule.large.denominator)
    assert np.array_equal(drawn.order, again.order)
    assert (
        drawn.sizes == again.sizes == {"none": 0, "mini": len(mini), "large": len(large), "full": n}
    )
    assert len(drawn.of("none")) == 0


@given(st.integers(1, 400), st.text(max_size=8), portions(), rates, rates)
def test_fractions_are_nested_exact_and_meet_the_portions(
    n: int, task: str, rule: Portions, one: Fraction, other: Fraction
) -> None:
    drawn = draw(n, task, rule)
    small, large = (drawn.of(str(fraction)) for fraction in sorted((one, other)))
    assert set(small.tolist()) <= set(large.tolist())
    assert len(small) == max(1, n * min(one, other).numerator // min(one, other).denominator)
    assert np.all(np.diff(large) > 0)
    for name, rate in (("mini", rule.mini), ("large", rule.large), ("full", Fraction(1))):
        assert np.array_equal(drawn.of(name), drawn.of(str(rate)))


@given(st.integers(2, 300), st.integers(0, 2**31))
def test_a_larger_rate_only_adds_records(n: int, seed: int) -> None:
    small = draw(n, "vqa", Portions(mini=Fraction(1, 8), seed=seed))
    large = draw(n, "vqa", Portions(mini=Fraction(1, 3), seed=seed))
    assert set(small.of("mini").tolist()) <= set(large.of("mini").tolist())


def test_the_draw_is_fixed_for_ever() -> None:
    """A new version of NumPy or of ours must not change which records a published run saw."""
    drawn = draw(100, "vqa", Portions(mini=Fraction(1, 20), seed=3)).of("mini")
    assert drawn.tolist() == [44, 57, 69, 79, 82]


def test_seed_and_task_matter() -> None:
    drawn = {
        tuple(draw(1000, task, Portions(seed=seed)).of("mini").tolist())
        for task in ("vqa", "ocr")
        for seed in (0, 1)
    }
    assert len(drawn) == 4


def test_the_global_random_state_does_not_matter() -> None:
    np.random.seed(1)
    first = draw(100, "vqa", Portions()).order
    np.random.seed(2)
    assert np.array_equal(first, draw(100, "vqa", Portions()).order)


def test_the_draw_is_uniform() -> None:
    """Taking the first rows, or favouring some, would show: 400 draws of 1/10, so each record about
    40 times.
    """
    counts = np.zeros(50, int)
    for seed in range(400):
        counts[draw(50, "vqa", Portions(mini=Fraction(1, 10), seed=seed)).of("mini")] += 1
    assert np.min(counts) > 15
    assert np.max(counts) < 70


PORTIONED = Portioned(
    np.array([2, 5, 7, 9]), np.array([3, 0, 1, 2]), {"none": 0, "mini": 1, "large": 2, "full": 4}
)


def test_portioned() -> None:
    """The records of dropped images are left out of the places, so places and order are not the
    same.
    """
    assert PORTIONED.of("mini").tolist() == [5]
    assert PORTIONED.of("large").tolist() == [5, 7]
    assert PORTIONED.of("full").tolist() == [2, 5, 7, 9]
    assert PORTIONED.of("none").tolist() == []
    assert PORTIONED.of("3/4").tolist() == [5, 7, 9]
    assert PORTIONED.of("1/100").tolist() == [5]
    assert PORTIONED.smallest == ["full", "mini", "large", "full"]


def test_manifest(tmp_path: Path) -> None:
    path = tmp_path / "vqa.csv"
    write_manifest(path, iter(["a,b", 'c"', "d", "e"]), PORTIONED)
    lines = [
        "index,id,portion,order",
        '2,"a,b",full,3',
        '5,"c""",mini,0',
        "7,d,large,1",
        "9,e,full,2",
    ]
    assert path.read_text().splitlines() == lines
    read = read_manifest(path)
    assert np.array_equal(read.indices, PORTIONED.indices)
    assert np.array_equal(read.order, PORTIONED.order)
    assert read.sizes == PORTIONED.sizes
    assert {file.name for file in tmp_path.iterdir()} == {"vqa.csv", "vqa.csv.sha256"}


def test_a_manifest_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "vqa.csv"
    with pytest.raises(ValueError, match="shorter"):
        write_manifest(path, iter(["a"]), PORTIONED)
    assert not path.exists()


@pytest.fixture
def records(tmp_path: Path) -> Records:
    for name in ("a.png", "b.png"):
        image(tmp_path / name)
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:60])
    rows = [
        llava("0", image="a.png"),
        llava("1", image="b.png"),
        llava("2", image="c.png"),
        llava("3", "Hi", image=None),
        llava("4", "<image><image>", image=["a.png", "c.png"]),
    ]
    return open_records(write(tmp_path / "x.jsonl", rows), tmp_path / "cache")


def test_records_without_their_images_are_dropped(records: Records, tmp_path: Path) -> None:
    indices, dropped = kept_records(records, tmp_path, "drop")
    assert indices.tolist() == [0, 3]
    assert [line.split(": ")[:2] for line in dropped] == [
        [f"{records.source}, record 2", f"broken image {tmp_path / 'b.png'}"],
        [f"{records.source}, record 3", f"missing image {tmp_path / 'c.png'}"],
        [f"{records.source}, record 5", f"missing image {tmp_path / 'c.png'}"],
    ]


def test_dropping_without_decoding(records: Records, tmp_path: Path) -> None:
    assert kept_records(records, tmp_path, "drop", decode=False)[0].tolist() == [0, 1, 3]


def test_missing_images_are_an_error(records: Records, tmp_path: Path) -> None:
    first = f"{records.source}, record 3: missing image {tmp_path / 'c.png'}"
    with raises(DataError, "missing-image", first, "2 records", "on_missing_image: drop"):
        kept_records(records, tmp_path, "error")


def test_all_is_kept_when_nothing_is_missing(records: Records, tmp_path: Path) -> None:
    image(tmp_path / "c.png")
    assert kept_records(records, tmp_path, "error")[0].tolist() == [0, 1, 2, 3, 4]
