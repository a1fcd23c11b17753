"""The things in the images: stamps and photographs with a name, a category and a human
caption."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from PIL import Image

from cotbal.benchmarks.stamps.rcc import read_rcc
from cotbal.benchmarks.stamps.wordnet import WordNet

SPLITS = ("train", "validation", "test")

# stamp folder -> category; folders that are not here (symbols, military, people, ...) are left out
STAMP_FOLDERS = {
    "animals/mammals": "mammal",
    "animals/marsupials": "mammal",
    "animals/birds": "bird",
    "animals/fish": "fish",
    "animals/insects": "insect",
    "food/fruit": "fruit",
    "food/vegetables": "vegetable",
    "plants/flowers": "flower",
    "household/tools": "tool",
    "household/arttools": "tool",
    "clothes": "clothing",
    "hobbies/music": "instrument",
    "vehicles": "vehicle",
    "town/houses": "building",
    "town/monuments": "building",
}
PHOTO_FOLDERS = {
    "categorization/resource/images/fishes": "fish",
    "categorization/resource/images/tools": "tool",
    "categorization/resource/images/monuments": "building",
    "explore_monuments/resource": "building",
}
# folders of mixed content: WordNet says what the file name means
NAMED_FOLDERS = (
    "erase/resource",
    "explore_farm_animals/resource",
    "explore_world_animals/resource",
)
GROUND_FOLDERS = (
    "categorization/resource/images/renewable",
    "explore_monuments/resource",
    "images/monuments",
)
BUNDLES = (
    "categorization",
    "erase",
    "explore_farm_animals",
    "explore_world_animals",
    "explore_monuments",
)
ANIMALS = ("mammal", "bird", "fish", "insect")
# words of WordNet that must be above a name for the meaning to be the shown one
ROOTS = {
    "insect": ("insect", "arthropod"),
    "fruit": ("edible fruit", "fruit"),
    "flower": ("flower", "angiosperm", "herb", "shrub"),
    "tool": ("tool", "implement"),
    "clothing": ("clothing", "covering"),
    "instrument": ("musical instrument",),
    "vehicle": ("vehicle", "craft"),
    "building": ("building", "structure"),
}
# names that say nothing, or a folder that is wrong about its content
LEFT_OUT = {
    "flower",
    "flowers",
    "shrimp",
    "couple of wings",
    "brown slug",
    "tractor wheel",
    "train sign",
    "button",
}
LEFT_OUT |= {"graveyard", "magic stones", "statue", "snail", "happy snail", "modern clothespin"}
LEFT_OUT |= {"spider playing soccer", "spider", "old-fashioned clothespin", "northern harrier"}
MAX_WORDS = 3


@dataclass(frozen=True)
class Thing:
    """One shown thing: `kind` is the more general noun of WordNet, `cutout` says that its ground
    is transparent.
    """

    name: str
    category: str
    caption: str
    kind: str
    image: Path
    cutout: bool


def collect_things(stamps: Path, photos: Path, wordnet: WordNet) -> list[Thing]:
    """All things of both sources, in a fixed order."""
    return [*stamp_things(stamps, wordnet), *photo_things(photos, wordnet)]


def stamp_things(stamps: Path, wordnet: WordNet) -> list[Thing]:
    """The stamps of known folders whose caption names the thing in a few words."""
    things = []
    for image in sorted(stamps.rglob("*.png")):
        category = category_of_folder(image.relative_to(stamps).as_posix(), STAMP_FOLDERS)
        text = image.with_suffix(".txt")
        if category is None or not text.exists() or image.stem.endswith(("_mirror", "_flip")):
            continue
        caption = text.read_text(encoding="utf-8", errors="replace").split("\n")[0].strip()
        name = name_in(caption)
        if name:
            things.append(
                Thing(name, category, caption, kind_of(name, category, wordnet), image, True)
            )
    return things


def photo_things(photos: Path, wordnet: WordNet) -> list[Thing]:
    """The photographs of gcompris, named by their files; WordNet finds the category where the
    folder is mixed.
    """
    things = []
    for image in sorted(photos.rglob("*.webp")):
        path = image.relative_to(photos).as_posix()
        name = words_of(image.stem)
        if name in LEFT_OUT:
            continue
        category = category_of_folder(path, PHOTO_FOLDERS)
        if category is None and path.startswith(NAMED_FOLDERS):
            category = animal_category(name, wordnet)
        if category and len(name.split()) <= MAX_WORDS:
            caption = f"{article(name)} {name}.".capitalize()
            kind = kind_of(name, category, wordnet)
            things.append(Thing(name, category, caption, kind, image, False))
    return things


def animal_category(name: str, wordnet: WordNet) -> str | None:
    """The group of animals that a name belongs to by WordNet, if any."""
    for group in ANIMALS:
        if wordnet.sense_under(name, ROOTS.get(group, (group,))):
            return group
    return None


def category_of_folder(path: str, folders: dict[str, str]) -> str | None:
    """The category of the folder that a relative path starts with."""
    for folder, category in folders.items():
        if path.startswith(folder + "/"):
            return category
    return None


def name_in(caption: str) -> str | None:
    """The bare name in a caption such as "A red kangaroo."; None where the caption is a whole
    story.
    """
    plain = re.sub(r"\(.*?\)|[“”\"]", "", caption).strip()
    match = re.fullmatch(r"(?:An?|The|Some|Two)\s+([^,.!?:;—–]+?)[.!]*", plain)
    words = match[1].lower().split() if match else []
    name = " ".join(words)
    return name if 0 < len(words) <= MAX_WORDS and name not in LEFT_OUT else None


def words_of(stem: str) -> str:
    """A file stem as words: "hawaMahal", "red_panda", "hammer12" become "hawa mahal", "red panda",
    "hammer".
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|_|\d+", " ", stem)
    return " ".join(spaced.lower().split())


def kind_of(name: str, category: str, wordnet: WordNet) -> str:
    """The noun directly above the shown meaning of a name, the category where WordNet does not
    know it.
    """
    sense = wordnet.sense_under(name, ROOTS.get(category, (category,)))
    return wordnet.synsets[wordnet.chain(sense)[0]].words[0].lower() if sense else category


def article(name: str) -> str:
    """The indefinite article that goes before a name."""
    return "an" if name[0] in "aeiou" else "a"


def extract_photos(gcompris: Path, target: Path) -> Path:
    """Write the photographs out of the gcompris bundles, once."""
    if target.exists():
        return target
    partial = target.with_name(target.name + ".partial")
    for bundle in BUNDLES:
        for path, data in read_rcc(next(gcompris.rglob(f"{bundle}.rcc"))).items():
            if path.endswith((".webp", "README")):
                file = partial / path.partition("/activities/")[2]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)
    partial.rename(target)
    return target


def split_by_name(things: Iterable[Thing], seed: int) -> dict[str, list[Thing]]:
    """Split so that a name is in one split only: of every category 60 % train, 20 % validation, 20
    % test.
    """
    names: dict[str, set[str]] = {}
    for thing in things:
        names.setdefault(thing.category, set()).add(thing.name)
    home: dict[str, str] = {}
    for category in sorted(names):
        for name, split in zip(
            shuffled(names[category] - home.keys(), seed), cycle_of_splits(), strict=False
        ):
            home[name] = split
    splits: dict[str, list[Thing]] = {split: [] for split in SPLITS}
    for thing in things:
        splits[home[thing.name]].append(thing)
    return splits


def cycle_of_splits() -> Iterator[str]:
    """The order in which names get their split, without end."""
    return cycle(("train", "validation", "train", "test", "train"))


def shuffled(names: Iterable[str], seed: int) -> list[str]:
    """Names in an order that depends on the seed alone."""
    order = sorted(names)
    random.Random(seed).shuffle(order)
    return order


def grounds(photos: Path, seed: int) -> dict[str, list[Path]]:
    """Photographs to paste things on, split so that no ground is in two splits."""
    paths = photos.rglob("*.webp")
    order = sorted(path for path in paths if _is_ground(path.relative_to(photos)))
    random.Random(seed).shuffle(order)
    first = len(order) * 7 // 10
    second = len(order) * 85 // 100
    return {"train": order[:first], "validation": order[first:second], "test": order[second:]}


def _is_ground(path: Path) -> bool:
    return any(folder in path.as_posix() for folder in GROUND_FOLDERS)


def open_image(path: Path) -> Image.Image:
    """An image with its transparency, cropped to what is visible."""
    image = Image.open(path).convert("RGBA")
    visible = image.getchannel("A").point(lambda alpha: 255 if alpha > 32 else 0).getbbox()
    return image.crop(visible) if visible else image
