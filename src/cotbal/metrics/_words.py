"""Words of a text: between spaces, or single characters in scripts without spaces.

Chinese, Japanese, Thai, Lao, Burmese, Khmer and Tibetan are written without spaces between words;
metrics of n-grams are usually computed over their characters.
"""

from __future__ import annotations

import re

# CJK radicals to ideographs without the ideographic space, compatibility forms, half-width kana,
# and the planes of rare ideographs.
_EAST_ASIAN = (
    "\u2e80-\u2fff\u3001-\u30ff\u31c0-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
# Thai, Lao, Tibetan; Burmese; Khmer.
_SOUTH_EAST_ASIAN = "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff"
_WORD = re.compile(f"[{_EAST_ASIAN}{_SOUTH_EAST_ASIAN}]|[^\\s{_EAST_ASIAN}{_SOUTH_EAST_ASIAN}]+")
_EAST = re.compile(f"[{_EAST_ASIAN}]")
_SOUTH_EAST = re.compile(f"[{_SOUTH_EAST_ASIAN}]")
_CHARACTERS_PER_WORD = {_EAST: 1.5, _SOUTH_EAST: 4}  # about the mean length of a word


def split_words(text: str) -> list[str]:
    """Words and unspaced characters in their order; `text.split()` for all other scripts."""
    return text.split() if text.isascii() else _WORD.findall(text)


def word_count(text: str) -> float:
    """Estimated number of words; a character of an unspaced script is a fraction of a word."""
    count = float(len(split_words(text)))
    for script, characters_per_word in _CHARACTERS_PER_WORD.items():
        unspaced = len(script.findall(text))
        count -= unspaced
        count += unspaced / characters_per_word
    return count
