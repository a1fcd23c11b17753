"""The way of an answer from the model to the metric, and how it is kept beside its references."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cotbal.data.conversations import IMAGE, Record
from cotbal.data.special_tokens import SpecialTokens
from cotbal.data.tokens import open_tokenizer
from cotbal.errors import MissingDependency
from cotbal.recipe.recipe import Recipe


def answer_row(record: Record, answer: str) -> dict[str, Any]:
    """A line of a file of answers: what a metric gets of a sample."""
    return {
        "id": record.id,
        "images": list(record.images),
        "question": question(record),
        "references": list(record.references),
        "details": dict(record.details),
        "answer": answer,
    }


def question(record: Record) -> str:
    """What was asked, without image markers."""
    return "\n".join(turn.text for turn in record.turns[:-1]).replace(IMAGE, "").strip()


class AnswerPath:
    """Gives a text back as a model that says it would: as tokens, at most `max_new_tokens` of them,
    decoded without special tokens, without white space at its ends.

    Args:
        tokenizer: a `tokenizers.Tokenizer`; None: white space alone is removed.
        max_new_tokens: as in the recipe.

    Attributes:
        identity: a text that is the same for two paths only if they change texts alike.
    """

    def __init__(self, tokenizer: Any | None, max_new_tokens: int) -> None:
        self.tokenizer = tokenizer
        self.max_new_tokens = max_new_tokens
        self.identity = "" if tokenizer is None else f"{max_new_tokens} {tokenizer.to_str()}"

    def texts(self, answers: Iterable[str]) -> dict[str, str]:
        """Every different text -> the text that a metric gets."""
        different = list(dict.fromkeys(answers))
        if self.tokenizer is None:
            return {text: text.strip() for text in different}
        encoded = self.tokenizer.encode_batch(different, add_special_tokens=False)
        ids = [each.ids[: self.max_new_tokens] for each in encoded]
        decoded = self.tokenizer.decode_batch(ids, skip_special_tokens=True)
        return {text: back.strip() for text, back in zip(different, decoded, strict=True)}

    def tokens(self, text: str) -> int:
        """Tokens of a text; 0 without a tokenizer."""
        if self.tokenizer is None:
            return 0
        return len(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def is_cut(self, text: str) -> bool:
        """Whether a text has more tokens than an answer can have."""
        return self.tokens(text) > self.max_new_tokens

    def change(self, text: str) -> str:
        """What changes a text on its way: its length, its ends, or the tokenizer."""
        back = self.texts([text])[text]
        if back == text.strip():
            return "starts or ends with white space, which is removed from answers"
        if self.is_cut(text):
            limit = self.max_new_tokens
            return f"has {self.tokens(text)} tokens, and generation.max_new_tokens is {limit}"
        same = unicodedata.normalize("NFC", text) == unicodedata.normalize("NFC", back)
        remark = ", the same characters in another Unicode form," if same else ""
        return f"becomes {back!r}{remark} when the tokenizer of the checkpoint has written it"


def answer_path(recipe: Recipe, tokens: SpecialTokens) -> AnswerPath:
    """The way of answers with the recipe's checkpoint; without a tokenizer.json, white space alone.

    Args:
        tokens: the special tokens of the checkpoint.
    """
    limit = recipe.file.generation.max_new_tokens
    file = None if recipe.file.model is None else Path(recipe.checkpoint) / "tokenizer.json"
    if file is None or not file.is_file():
        return AnswerPath(None, limit)
    try:
        tokenizer = open_tokenizer(file, "special tokens")
    except MissingDependency:
        return AnswerPath(None, limit)
    known = {
        token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special
    }
    tokenizer.add_special_tokens(sorted(tokens.all - known))  # as transformers does when it loads
    return AnswerPath(tokenizer, limit)
