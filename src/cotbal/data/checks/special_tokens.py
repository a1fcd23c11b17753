"""Special tokens of a checkpoint in a user's texts: the tokenizer reads them as the tokens.

A text with `</s>` ends there, one with the model's own image token has an image too many, and
decoding removes them from answers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from cotbal.data.reading.record import IMAGE, Problem, Record
from cotbal.data.reading.records import Records
from cotbal.errors import DataError
from cotbal.recipe.mixture import Task

_AROUND = 20  # characters shown on both sides of a token


@dataclass(frozen=True)
class SpecialTokens:
    """The special tokens of a checkpoint, without the marker `<image>`, which is checked with the
    records.

    Attributes:
        structure: those that conversations are made of: ends, padding, roles, images. A text that
            holds one cannot be trained or asked as intended.
        others: all others, such as marks of boxes. They are learnt like words, but removed from
            answers.
    """

    structure: frozenset[str] = frozenset()
    others: frozenset[str] = frozenset()

    @property
    def all(self) -> frozenset[str]:
        """Both kinds."""
        return self.structure | self.others

    def of(self, text: str) -> list[str]:
        """The different tokens in a text, in order of appearance."""
        return list(dict.fromkeys(re.findall(_pattern(self.all), text))) if self.all else []


def read_special_tokens(checkpoint: Path) -> SpecialTokens:
    """The tokens in the files of a checkpoint directory; none where there are no files.

    Raises:
        DataError: the files have another form.
    """
    try:
        return _special_tokens(checkpoint)
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{checkpoint}: expected special tokens as transformers writes them into"
            f" tokenizer_config.json and tokenizer.json; {error!r:.200}",
            "broken-checkpoint",
        ) from None


def _special_tokens(checkpoint: Path) -> SpecialTokens:
    config = _read(checkpoint / "tokenizer_config.json")
    added = {entry["content"]: entry for entry in _added(checkpoint, config)}
    others = ("special_tokens_map.json", "processor_config.json")
    settings = [config, *(_read(checkpoint / name) for name in others)]
    roles = set(chain.from_iterable(map(_roles, settings)))
    listed = set(chain.from_iterable(map(_listed, settings)))
    numbers = set(_numbers(_read(checkpoint / "config.json")))
    template = "\n".join(_templates(checkpoint, config))
    named = set()
    special = set()
    for token, entry in added.items():
        if token == IMAGE:
            continue
        if token in roles or entry["id"] in numbers:
            named.add(token)
        elif entry.get("special") or token in listed:
            special.add(token)
    written = {token for token in special if token in template}
    return SpecialTokens(frozenset(named | written), frozenset(special - written))


def problems_of_instruction(task: Task, recipe: Path, tokens: SpecialTokens) -> Iterator[Problem]:
    """Special tokens and image markers in the instruction of a task, which each record gets."""
    instruction = task.instruction or ""
    for token in [*tokens.of(instruction), *([IMAGE] if IMAGE in instruction else [])]:
        if token not in tokens.others:
            where = f"task {task.name}: instruction"
            message = f"{where}: {message_of(token, instruction)}"
            yield Problem(recipe, 0, message, "special-token")


def problems_of_texts(records: Records, tokens: SpecialTokens) -> Iterator[Problem]:
    """Special tokens of structure in the turns and references of records, one error a text."""
    for record in _records_with(records, tokens.structure):
        for where, text in _texts(record):
            token = next((token for token in tokens.of(text) if token in tokens.structure), None)
            if token is not None:
                message = f"{where}: {message_of(token, text)}"
                yield Problem(records.source, record.number, message, "special-token")


def warnings_of_texts(records: Records, tokens: SpecialTokens) -> Iterator[str]:
    """One line on other special tokens in the records of a file, if there are any."""
    having = list(_records_with(records, tokens.others))
    if having:
        found_in = chain.from_iterable(tokens.of(text) for _, text in _texts(having[0]))
        first = next(found_in)
        yield (
            f"{records.source}: {len(having):,} of {len(records):,} records contain special tokens "
            f"of the checkpoint, which are removed from answers before they are scored; the first "
            f"is {first!r} in record {having[0].number}"
        )


def _records_with(records: Records, tokens: frozenset[str]) -> Iterator[Record]:
    if tokens:
        yield from (records[int(i)] for i in records.containing(_pattern(tokens)))


def _pattern(tokens: Iterable[str]) -> str:
    """A regular expression that matches each of these, the longest first."""
    longest_first = sorted(tokens, key=lambda token: (-len(token), token))
    return "|".join(map(re.escape, longest_first))


def _texts(record: Record) -> Iterator[tuple[str, str]]:
    """Every text of a record, and where it is."""
    for number, turn in enumerate(record.turns, 1):
        yield f"turn {number} ({turn.role})", turn.text
    for number, reference in enumerate(record.references[1:], 2):  # the first is the last turn
        yield f"answer {number}", reference


def message_of(token: str, text: str) -> str:
    """What is wrong with a text that holds this special token."""
    at = text.index(token)
    end = at + len(token)
    around = text[max(0, at - _AROUND) : end + _AROUND]
    apart = f"{token[0]} {token[1:]}"
    return (
        f"expected text without special tokens of the checkpoint; found {token!r} in {around!r}: "
        f"remove it, or break it up, such as {apart!r}"
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}  # not there, or broken: loading the checkpoint reports that
    return content if isinstance(content, dict) else {}


def _added(checkpoint: Path, config: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Tokens that are never split or joined with others: `id`, `content`, `special`."""
    for number, entry in (config.get("added_tokens_decoder") or {}).items():
        yield {**entry, "id": int(number)}
    yield from _read(checkpoint / "tokenizer.json").get("added_tokens") or []


def _roles(settings: Mapping[str, Any]) -> Iterator[str]:
    """Tokens that a file names by what they are for, such as `eos_token` or `image_token`."""
    yield from _contents(value for key, value in settings.items() if key.endswith("_token"))
    extra = settings.get("extra_special_tokens")
    yield from _contents(extra.values() if isinstance(extra, dict) else ())


def _listed(settings: Mapping[str, Any]) -> Iterator[str]:
    """Tokens that a file lists without a purpose."""
    for key in ("additional_special_tokens", "extra_special_tokens"):
        value = settings.get(key)
        yield from _contents(value if isinstance(value, list) else ())


def _contents(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        content = value.get("content") if isinstance(value, dict) else value
        if isinstance(content, str) and content:
            yield content


def _numbers(config: Mapping[str, Any]) -> Iterator[int]:
    """Ids of tokens that the configuration of the model, or of a part of it, names."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _numbers(value)
        elif key.endswith(("_token_id", "_token_index")):
            yield from value if isinstance(value, list) else [value]


def _templates(checkpoint: Path, config: Mapping[str, Any]) -> Iterator[str]:
    for content in (config, _read(checkpoint / "chat_template.json")):
        value = content.get("chat_template")
        several = value if isinstance(value, list) else [{"template": value}]
        yield from (str(entry.get("template") or "") for entry in several)
    file = checkpoint / "chat_template.jinja"
    if file.is_file():
        yield file.read_text(encoding="utf-8", errors="replace")
