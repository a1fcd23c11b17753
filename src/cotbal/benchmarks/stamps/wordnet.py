"""WordNet nouns from the plain text files: the more general word above a noun."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Synset:
    """One meaning: its words, the offsets of the meanings directly above it, and its definition."""

    words: tuple[str, ...]
    above: tuple[str, ...]
    gloss: str


def parse_synset(line: str) -> tuple[str, Synset]:
    """A line of data.noun: offset, file number, type, word count (hex), words, pointer count,
    pointers | gloss.
    """
    head, _, gloss = line.partition(" | ")
    fields = head.split()
    words_end = 4 + 2 * int(fields[3], 16)
    words = tuple(word.replace("_", " ") for word in fields[4:words_end:2])
    pointers = fields[words_end + 1 :]
    count = 4 * int(fields[words_end])
    kinds, offsets = pointers[:count:4], pointers[1:count:4]
    above = [offset for kind, offset in zip(kinds, offsets, strict=True) if kind in ("@", "@i")]
    definition = gloss.strip().split(";")[0]
    return fields[0], Synset(words, tuple(above), definition)


def parse_index(line: str) -> tuple[str, tuple[str, ...]]:
    """A line of index.noun: the word, then among other things its synset offsets, commonest
    first."""
    fields = line.split()
    word = fields[0].replace("_", " ")
    offsets = fields[-int(fields[2]) :]
    return word, tuple(offsets)


class WordNet:
    """The nouns of one WordNet directory (index.noun and data.noun)."""

    def __init__(self, directory: Path) -> None:
        self.synsets = dict(parse_synset(line) for line in entries(directory / "data.noun"))
        self.index = dict(parse_index(line) for line in entries(directory / "index.noun"))

    def chain(self, offset: str) -> list[str]:
        """The meanings above one, nearest first, along the first pointer."""
        offsets = []
        while above := self.synsets[offset].above:
            offset = above[0]
            offsets.append(offset)
        return offsets

    def sense_under(self, noun: str, roots: tuple[str, ...]) -> str | None:
        """The commonest meaning of a noun (or of its last word) that is under one of the root
        words.
        """
        last_word = noun.rsplit(maxsplit=1)[-1]
        for word in (noun, last_word):
            for offset in self.index.get(word, ()):
                if not set(roots).isdisjoint(self.words_above(offset)):
                    return offset
        return None

    def words_above(self, offset: str) -> set[str]:
        """The words of all meanings above one."""
        words: set[str] = set()
        for above in self.chain(offset):
            words.update(self.synsets[above].words)
        return words


def entries(path: Path) -> list[str]:
    """The lines of a WordNet file without the licence text, whose lines start with a blank."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith(" ")]
