"""Conversations without images: trivia of the ChatterBot corpus and general nouns of WordNet."""

from __future__ import annotations

import random
from pathlib import Path

from cotbal.benchmarks.stamps.things import ROOTS, SPLITS, Thing, article
from cotbal.benchmarks.stamps.wordnet import WordNet
from cotbal.recipe.strict_yaml import load_yaml

FILES = (
    "trivia",
    "science",
    "computers",
    "history",
    "food",
    "literature",
    "money",
    "sports",
    "ai",
    "coding",
    "health",
    "movies",
)
MAX_ANSWER_WORDS = 16


def corpus_pairs(corpus: Path) -> list[tuple[str, str]]:
    """Unique questions with a short answer; the first answer where the corpus has several."""
    pairs: dict[str, str] = {}
    for name in FILES:
        document = load_yaml(next(corpus.rglob(f"english/{name}.yml")).read_text(encoding="utf-8"))
        for turns in document["conversations"]:
            question = str(turns[0]).strip()
            answer = str(turns[1]).strip()
            if question.endswith("?") and 0 < len(answer.split()) <= MAX_ANSWER_WORDS:
                pairs.setdefault(question, answer)
    return sorted(pairs.items())


def word_pairs(things: list[Thing], wordnet: WordNet) -> list[tuple[str, str]]:
    """What kind of thing a name is, and what it means, by category and by WordNet."""
    pairs: dict[str, str] = {}
    for thing in things:
        called = f"{article(thing.name)} {thing.name}"
        pairs[f"What kind of thing is {called}?"] = thing.category
        if thing.kind != thing.category:
            pairs[f"{called.capitalize()} is a kind of what?"] = thing.kind
        sense = wordnet.sense_under(thing.name, ROOTS.get(thing.category, (thing.category,)))
        if sense and thing.name in wordnet.synsets[sense].words:
            pairs[f"What is {called}?"] = " ".join(
                wordnet.synsets[sense].gloss.split()[:MAX_ANSWER_WORDS]
            )
    return sorted(pairs.items())


def split_chat(
    pairs: list[tuple[str, str]], sizes: dict[str, int], seed: int
) -> dict[str, list[tuple[str, str]]]:
    """Disjoint shares of the pairs; fewer than asked for where the sources end."""
    order = sorted(set(pairs))
    random.Random(seed).shuffle(order)
    share = min(1.0, len(order) / sum(sizes.values()))
    shares, start = {}, 0
    for split in reversed(SPLITS):
        count = int(sizes[split] * share)
        shares[split] = order[start : start + count]
        start += count
    return shares
