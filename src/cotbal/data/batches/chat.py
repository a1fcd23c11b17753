"""Conversations as the model's own chat template writes them, and which characters the model must
learn to write.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers.utils.chat_template_utils import render_jinja_template

from cotbal.data.reading.record import Turn, between_markers, with_instruction
from cotbal.errors import CotbalError

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")

Message = dict[str, Any]
Span = tuple[int, int]


@dataclass(frozen=True)
class Rendered:
    """A conversation as text.

    Attributes:
        text: what the tokenizer gets, one placeholder an image.
        spans: for every assistant turn, first and last (exclusive) character of what carries loss.
    """

    text: str
    spans: tuple[Span, ...]


def messages(
    turns: Sequence[Turn], instruction: str | None = None, broken: bool = False
) -> list[Message]:
    """The turns in the form that chat templates read.

    Args:
        instruction: is appended to the first user turn.
        broken: whether the template writes line breaks behind images, see `breaks_behind_images`.
    """
    return [
        {"role": turn.role, "content": _parts(turn.text, broken)}
        for turn in with_instruction(turns, instruction)
    ]


def _parts(text: str, broken: bool) -> list[Message]:
    """Text and image parts."""
    first, *others = between_markers(text, broken)
    parts: list[Message] = [{"type": "text", "text": first}] if first else []
    for piece in others:
        parts.append({"type": "image"})
        parts += [{"type": "text", "text": piece}] if piece else []
    return parts


@dataclass(frozen=True)
class Frame:
    """What a template writes around the words of an assistant turn.

    Attributes:
        lead: characters of white space between the prompt and the words. The prompt ends before
            them, so the model has to write them itself (LLaVA-1.5: the prompt ends with
            `ASSISTANT:`, and a space follows).
        end: token that ends the turn. It need not be the end token of the tokenizer (Gemma 3:
            `<end_of_turn>` and `<eos>`), which serves where the template writes none (LLaVA-1.5).
    """

    lead: int
    end: str


def frame(template: str, tokenizer: Any) -> Frame:
    """The frame of a chat template, found by rendering a question and an answer.

    Raises:
        CotbalError: neither the template nor the tokenizer has a token that ends a turn.
    """
    turns = (Turn("user", "question"), Turn("assistant", "answer"))
    before, _, after = _render(messages(turns), template, tokenizer).rpartition("answer")
    prompt = render_prompt(messages(turns[:1]), template, tokenizer)
    gap = before[len(prompt) :] if before.startswith(prompt) else ""
    known = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    written = [token for token in known if after.lstrip().startswith(token)]
    end: str | None = max(written, key=len, default=tokenizer.eos_token)
    if end is None:
        raise CotbalError(
            "neither the chat template nor the tokenizer has a token that ends the assistant's"
            " turn, so a model would never learn to stop; set eos_token in tokenizer_config.json",
            "no-end-token",
        )
    return Frame(len(gap) if gap.isspace() else 0, end)


def breaks_behind_images(template: str, tokenizer: Any) -> bool:
    """Whether a template writes a line break between an image and the text behind it."""
    parts = [{"type": "image"}, {"type": "text", "text": "question"}]
    text = render_prompt([{"role": "user", "content": parts}], template, tokenizer)
    return text.partition("question")[0].endswith("\n")


def render_prompt(conversation: list[Message], template: str, tokenizer: Any) -> str:
    """Everything up to the point where the assistant answers."""
    return _render(conversation, template, tokenizer, add_generation_prompt=True)


def render(conversation: list[Message], template: str, tokenizer: Any, frame: Frame) -> Rendered:
    """The whole conversation and its assistant spans, each closed by an end-of-turn token that
    carries loss too.

    The template's own generation marks are used where it has them, together with the white space
    that leads to them; otherwise a span is what the template adds when the assistant turn is added.
    Nothing behind the end of a turn carries loss: the model never has to write it.

    Raises:
        CotbalError: the template rewrites earlier turns, so that spans cannot be found.
    """
    text = _render(conversation, template, tokenizer)
    if _GENERATION.search(template) is not None:
        spans = [(a - frame.lead, b) for a, b in _marked_spans(conversation, template, tokenizer)]
    else:
        spans = _added_spans(conversation, template, tokenizer)
    return _with_ends(text, spans, frame.end)


def _render(conversation: list[Message], template: str, tokenizer: Any, **options: Any) -> str:
    text: str = render_jinja_template(
        [conversation], chat_template=template, **_special_tokens(tokenizer), **options
    )[0][0]
    return text


def _special_tokens(tokenizer: Any) -> dict[str, str]:
    return {
        name: value
        for name, value in tokenizer.special_tokens_map.items()
        if isinstance(value, str)
    }


def _marked_spans(conversation: list[Message], template: str, tokenizer: Any) -> list[Span]:
    _, indices = render_jinja_template(
        [conversation],
        chat_template=template,
        return_assistant_tokens_mask=True,
        **_special_tokens(tokenizer),
    )
    return [(start, end) for start, end in indices[0]]


def _added_spans(conversation: list[Message], template: str, tokenizer: Any) -> list[Span]:
    text = _render(conversation, template, tokenizer)
    spans = []
    for i, message in enumerate(conversation):
        if message["role"] != "assistant":
            continue
        before = _render(conversation[:i], template, tokenizer, add_generation_prompt=True)
        after = _render(conversation[: i + 1], template, tokenizer)
        if not (text.startswith(before) and text.startswith(after)):
            raise CotbalError(
                "the chat template writes earlier turns differently once a turn is added, so the"
                " assistant's words cannot be distinguished from the prompt; give the template"
                " {% generation %} marks, or use another one",
                "invalid-chat-template",
            )
        spans.append((len(before), len(after)))
    return spans


def _with_ends(text: str, spans: list[Span], end: str) -> Rendered:
    """Let every span end with an end-of-turn token: take in one that follows it, or write one where
    there is none.
    """
    closed: list[Span] = []
    shift = 0
    for span in spans:
        start, stop = span[0] + shift, span[1] + shift
        if end in text[start:stop]:
            closed.append((start, text.rindex(end, start, stop) + len(end)))
            continue
        gap = len(text[stop:]) - len(text[stop:].lstrip())
        if text.startswith(end, stop + gap):
            stop += gap
        else:
            text = text[:stop] + end + text[stop:]
            shift += len(end)
        closed.append((start, stop + len(end)))
    return Rendered(text, tuple(closed))
