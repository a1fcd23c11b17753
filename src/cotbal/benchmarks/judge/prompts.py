"""Prompt of a judge: a system message, a user message with fields to fill in, and a rule per
category.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from cotbal.errors import CotbalError
from cotbal.recipe.strict_yaml import load_yaml

DEFAULT = "default"  # the rule of all categories without one
FIELDS = ("context", "question", "first", "second", "rule")
NEEDED = ("question", "first", "second")
_FIELD = re.compile("{(" + "|".join(FIELDS) + ")}")


@dataclass(frozen=True)
class Prompt:
    """The texts of a judge.

    Attributes:
        system: the system message; none is sent where it is empty.
        user: the user message; `{context}`, `{question}`, `{first}`, `{second}` and `{rule}` are
            filled in.
        rules: category -> text for `{rule}`; `default` is for all others.
    """

    system: str
    user: str
    rules: Mapping[str, str]

    def messages(self, category: str, **fields: str) -> list[dict[str, str]]:
        """The messages to send; texts that are filled in are not searched for fields.

        Raises:
            CotbalError: there is no rule for the category.
        """
        filled = {**fields, "rule": self._rule(category)}
        user = _FIELD.sub(lambda match: filled[match[1]], self.user)
        messages = []
        if self.system:
            messages.append({"role": "system", "content": self.system})
        messages.append({"role": "user", "content": user})
        return messages

    def _rule(self, category: str) -> str:
        if "{rule}" not in self.user:
            return ""
        rule = self.rules.get(category, self.rules.get(DEFAULT))
        if rule is None:
            raise CotbalError(
                f"--prompt: expected a rule for the category {category!r}, or one named"
                f" {DEFAULT}; found {', '.join(self.rules) or 'none'}",
                "invalid-prompt",
            )
        return rule


class _LlavaRule(BaseModel):
    """One entry of LLaVA's `rule.json`, which has further keys."""

    prompt: str


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    system: str = ""
    user: str
    rules: dict[str, str] | str = {}


def default_prompt() -> Prompt:
    """The prompt that comes with cotbal."""
    path = files("cotbal.benchmarks.judge").joinpath("prompt.yaml")
    return _read(path.read_text(encoding="utf-8"), Path("prompt.yaml"))


def load_prompt(path: Path) -> Prompt:
    """A user's prompt: YAML with `system`, `user` and `rules`, which may be the path of LLaVA's
    `rule.json`.

    Raises:
        CotbalError: an invalid file, or a user message without the question or an answer.
    """
    try:
        return _read(path.read_text(encoding="utf-8"), path)
    except (OSError, UnicodeDecodeError) as error:
        raise CotbalError(
            f"{path}: expected the prompt of a judge as YAML; {error}", "invalid-prompt"
        ) from None


def _read(text: str, path: Path) -> Prompt:
    try:
        content = _File.model_validate(load_yaml(text))
    except (yaml.YAMLError, ValueError) as error:
        raise CotbalError(
            f"{path}: expected the prompt of a judge as YAML with system, user and rules;"
            f" {_one_line(error)}",
            "invalid-prompt",
        ) from None
    for name in NEEDED:
        if f"{{{name}}}" not in content.user:
            raise CotbalError(
                f"{path}: user: expected the fields {{question}}, {{first}}, {{second}}; missing"
                f" {{{name}}}",
                "invalid-prompt",
            )
    rules = content.rules
    if isinstance(rules, str):
        rules = _read_rules(path.parent / rules)
    return Prompt(content.system, content.user, rules)


def _read_rules(path: Path) -> dict[str, str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        entries = {name: _LlavaRule.model_validate(entry) for name, entry in content.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise CotbalError(
            f'{path}: expected rules as JSON, {{category: {{"prompt": text}}}}; {_one_line(error)}',
            "invalid-prompt",
        ) from None
    return {name: entry.prompt for name, entry in entries.items()}


def _one_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"
    return " ".join(str(error).split())
