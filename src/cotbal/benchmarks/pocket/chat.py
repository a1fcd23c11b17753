"""Text-only chat about what the images are made of: kinds of drawings, continents of countries,
spelling.
"""

from __future__ import annotations

from functools import cache
from random import Random

from cotbal.benchmarks.pocket.charts import gapminder_rows
from cotbal.benchmarks.pocket.drawings import DRAWINGS, KIND_OF, NAMES
from cotbal.benchmarks.releases.conversation import Asked


def chat(rng: Random) -> Asked:
    """One question that needs no image."""
    return rng.choice((_continent, _kind, _odd_one, _spelling))(rng)


def _continent(rng: Random) -> Asked:
    country = rng.choice(sorted(continents()))
    return Asked(f"On which continent is {country}?", continents()[country])


def _kind(rng: Random) -> Asked:
    name = rng.choice(NAMES)
    return Asked(f"What kind of thing is the {name}?", KIND_OF[name])


def _odd_one(rng: Random) -> Asked:
    kind = rng.choice(list(DRAWINGS))
    right = rng.choice(list(DRAWINGS[kind]))
    wrong = rng.choice([name for name in NAMES if KIND_OF[name] != kind])
    first, second = rng.sample((right, wrong), 2)
    return Asked(f"Which one is the {kind}, the {first} or the {second}?", right)


def _spelling(rng: Random) -> Asked:
    name = rng.choice([name for name in NAMES if len(name) <= 6])
    return Asked(f"Write the word {name} in capitals.", name.upper())


@cache
def continents() -> dict[str, str]:
    """Country -> continent, for the countries of the Gapminder excerpt that are written in plain
    letters.
    """
    return {
        row["country"]: row["continent"]
        for row in gapminder_rows()
        if row["country"].replace(" ", "").isalpha()
    }
