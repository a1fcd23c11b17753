"""Where files and images lie: forms of a release, shards, links, images that come inside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cotbal.benchmarks.releases.conversation import Conversation
from cotbal.benchmarks.releases.gallery import Gallery, coco_2014, inside
from cotbal.benchmarks.releases.sources import Files, Job, Source, choose, what_is_needed
from cotbal.benchmarks.releases.writing import Expected
from cotbal.errors import DataError
from helpers.errors import raises
from helpers.raw_releases import drawing


def nothing(files: Files, job: Job) -> Iterator[Conversation]:
    yield from ()


def source(form: str, **files: str) -> Source:
    return Source(form, files, f"get {form} there", nothing)


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_the_first_form_that_is_whole_is_chosen_unless_another_is_preferred(tmp_path: Path) -> None:
    forms = [source("original", q="a/q.json", a="a/a.json"), source("hub", rows="b/*.parquet")]
    assert choose(forms, tmp_path) is None
    touch(tmp_path, "a/q.json", "b/x.parquet")
    assert choose(forms, tmp_path) is forms[1]
    touch(tmp_path, "a/a.json")
    assert choose(forms, tmp_path) is forms[0]
    assert choose(forms, tmp_path, "hub") is forms[1]


def test_what_is_absent_is_named_with_what_is_needed_it(tmp_path: Path) -> None:
    touch(tmp_path, "a/q.json")
    text = what_is_needed(
        [source("original", q="a/q.json", a="a/a.json"), source("hub", r="b/*")], tmp_path
    )
    assert text.splitlines() == [
        "  original: needs a/a.json",
        "    get original there",
        "  hub: needs b/*",
        "    get hub there",
    ]


def test_an_optional_file_may_be_missing(tmp_path: Path) -> None:
    form = Source("hub", {"rows": "r.parquet", "images?": "i.parquet"}, "there", nothing)
    touch(tmp_path, "r.parquet")
    assert form.missing(tmp_path) == []
    assert form.find(tmp_path) == {"rows": [tmp_path / "r.parquet"]}


SHARDS = [f"d/train-0000{k}-of-00003-abc.parquet" for k in range(3)]


@pytest.mark.parametrize(
    "names",
    [
        SHARDS[:2],
        SHARDS[1:],
        [*SHARDS, "d/train-00000-of-00001-old.parquet"],
        [*SHARDS, "d/train-x.parquet"],
    ],
)
def test_missing_shards_and_second_copies_are_rejected(tmp_path: Path, names: list[str]) -> None:
    touch(tmp_path, *names)
    with raises(DataError, "ambiguous-file", "train-*.parquet"):
        source("hub", rows="d/train-*.parquet").find(tmp_path)


def test_all_shards_are_found_in_order(tmp_path: Path) -> None:
    touch(tmp_path, *reversed(SHARDS))
    assert source("hub", r="d/train-*.parquet").find(tmp_path)["r"] == [
        tmp_path / name for name in SHARDS
    ]


@pytest.mark.parametrize("pattern", ["llava/**/q.jsonl", "LLaVA/deep/*/q.jsonl"])
def test_files_behind_linked_directories_are_found(tmp_path: Path, pattern: str) -> None:
    touch(tmp_path, "elsewhere/data/q.jsonl")
    touch(tmp_path, "raw/llava/deep/readme")
    (tmp_path / "raw/llava/deep/data").symlink_to(tmp_path / "elsewhere/data")
    (tmp_path / "raw/llava/deep/again").symlink_to(tmp_path / "elsewhere/data")
    (tmp_path / "raw/llava/deep/up").symlink_to(tmp_path / "raw")
    (tmp_path / "raw/llava/up").symlink_to("..")
    (path,) = source("original", q=pattern).find(tmp_path / "raw")["q"]
    assert path == tmp_path / "raw/llava/deep/again/q.jsonl"


def test_nothing_is_found_below_a_directory_that_is_not_there(tmp_path: Path) -> None:
    assert source("original", q="a/**/q.json").find(tmp_path / "nowhere") == {}


def test_letter_case_counts_only_where_both_are_there(tmp_path: Path) -> None:
    form = source("original", q="chartqa/**/train_*.json")
    touch(tmp_path, "ChartQA/Train/Train_human.JSON")
    assert form.find(tmp_path)["q"] == [tmp_path / "ChartQA/Train/Train_human.JSON"]
    touch(tmp_path, "chartqa/train/train_human.json")
    assert form.find(tmp_path)["q"] == [tmp_path / "chartqa/train/train_human.json"]


def test_images_of_the_user_are_linked_and_nothing_is_written_among_them(tmp_path: Path) -> None:
    given = tmp_path / "given"
    touch(given, "gqa/images/1.jpg")
    gallery = Gallery(tmp_path / "out", given)
    gallery.offer(["gqa/images", "coco/train2017"])
    assert gallery.has("gqa/images/1.jpg")
    gallery.keep("gqa/images/2.jpg", drawing("red"))
    gallery.keep("coco/train2017/3.jpg", drawing("red"))
    assert [path.name for path in (given / "gqa/images").iterdir()] == ["1.jpg"]
    assert not gallery.has("gqa/images/2.jpg")
    assert gallery.has("coco/train2017/3.jpg")


def test_an_image_inside_a_snapshot_is_written_once_with_its_bytes(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path, None)
    assert not gallery.has("a/1.jpg")
    gallery.keep("a/1.jpg", drawing("red"))
    gallery.keep("a/1.jpg", drawing("blue"))
    assert gallery.has("a/1.jpg")
    assert (tmp_path / "a/1.jpg").read_bytes() == drawing("red")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["1.jpg"]


def test_a_name_as_long_as_it_may_be_is_written_and_a_longer_one_is_missing(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path, None)
    longest = f"a/{'x' * 251}.jpg"
    gallery.keep(inside(longest, "record 1"), drawing("red"))
    assert gallery.has(longest)
    assert not gallery.has(f"a/{'x' * 300}.jpg")


def test_bytes_that_are_no_image_count_as_a_missing_one(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path, None)
    gallery.keep("a/1.jpg", b"not found")
    assert not gallery.has("a/1.jpg")


def test_a_broken_link_is_mended_and_a_link_elsewhere_is_rejected(tmp_path: Path) -> None:
    for name in ("old", "new"):
        touch(tmp_path, f"{name}/1.jpg")
    gallery = Gallery(tmp_path / "out", None)
    gallery.link("x", tmp_path / "old")
    gallery.link("x", tmp_path / "old")
    with raises(DataError, "existing-output", tmp_path / "out/x", tmp_path / "old"):
        gallery.link("x", tmp_path / "new")
    (tmp_path / "old/1.jpg").unlink()
    (tmp_path / "old").rmdir()
    gallery.link("x", tmp_path / "new")
    assert gallery.has("x/1.jpg")


@pytest.mark.parametrize(
    ("there", "split", "name"),
    [
        ([], "train2014", "coco/train2017/000000000042.jpg"),
        ([], "val2014", "coco/val2014/COCO_val2014_000000000042.jpg"),
        (["coco/train2014/COCO_train2014_000000000042.jpg"], "train2014", None),
        (["coco/train2017/000000000042.jpg"], "val2014", None),
        (["coco/val2017/000000000042.jpg"], "val2014", None),
    ],
)
def test_a_coco_image_is_found_in_whichever_release_is_there(
    tmp_path: Path, there: list[str], split: str, name: str | None
) -> None:
    touch(tmp_path, *there)
    assert coco_2014(Gallery(tmp_path, None), 42, split) == (name or there[0])


NO_NAMES = [
    "",
    "/etc/passwd",
    "../a.jpg",
    "a/../../b.jpg",
    "a//b.jpg",
    "C:/a.jpg",
    "..\\a.jpg",
    "a\0.jpg",
    "ä" * 130,
]


@pytest.mark.parametrize("name", NO_NAMES)
def test_names_that_lead_out_of_the_root_are_rejected(name: str) -> None:
    with raises(DataError, "invalid-name", "record 3"):
        inside(name, "record 3")


@pytest.mark.parametrize(
    ("expected", "records", "turns", "differences"),
    [
        (Expected(), 5, 6, {}),
        (Expected(5, 6), 5, 6, {}),
        (Expected(5, 6), 4, 8, {"records": -1, "turns": 2}),
        (Expected(83_000, rounded_to=1000), 82_783, 1, {}),
        (Expected(83_000, rounded_to=1000), 83_500, 1, {}),
        (Expected(83_000, rounded_to=1000), 83_501, 1, {"records": 501}),
        (Expected(83_000, rounded_to=1000), 82_400, 1, {"records": -600}),
    ],
)
def test_a_difference_is_what_rounding_does_not_explain(
    expected: Expected, records: int, turns: int, differences: dict[str, int]
) -> None:
    assert expected.differences(records, turns) == differences


def test_a_folder_of_images_is_found_in_other_letter_case_and_behind_links(tmp_path: Path) -> None:
    touch(tmp_path, "store/1.jpg", "given/COCO/Val2017/2.jpg")
    (tmp_path / "given/COCO/Train2017").symlink_to(tmp_path / "store")
    gallery = Gallery(tmp_path / "out", tmp_path / "given")
    gallery.offer(["coco/train2017", "coco/val2017", "coco/val2014"])
    assert gallery.has("coco/train2017/1.jpg")
    assert gallery.has("coco/val2017/2.jpg")
    assert not (tmp_path / "out/coco/val2014").exists()
