"""Conversations as the model's own chat template writes them, and which characters the model must
learn to write.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jinja2 import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from cotbal.data.reading.record import IMAGE, Turn, between_markers, with_instruction
from cotbal.errors import CotbalError, DataError

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")

Message = dict[str, Any]
Span = tuple[int, int]


@dataclass(frozen=True)
class Rendered:
    """A conversation as text.

    Attributes:
        text: input of the tokenizer, one placeholder per image.
        spans: for every assistant turn, first and last (exclusive) character of what carries loss.
    """

    text: str
    spans: tuple[Span, ...]


def messages(
    turns: Sequence[Turn], instruction: str | None = None, breaks: bool = False
) -> list[Message]:
    """The turns in the form that chat templates read.

    Args:
        instruction: is appended to the first user turn.
        breaks: as in `ChatTemplate`.
    """
    return [
        {"role": turn.role, "content": _parts(turn.text, breaks)}
        for turn in with_instruction(turns, instruction)
    ]


def _parts(text: str, breaks: bool) -> list[Message]:
    """Text and image parts."""
    first, *others = between_markers(text, breaks)
    parts: list[Message] = [{"type": "text", "text": first}] if first else []
    for piece in others:
        parts.append({"type": "image"})
        parts += [{"type": "text", "text": piece}] if piece else []
    return parts


class ChatTemplate:
    """Writes conversations as a model reads them.

    Args:
        template: in Jinja.
        tokenizer: of the same checkpoint.
    """

    def __init__(self, template: str, tokenizer: Any) -> None:
        self.template = template
        self.tokenizer = tokenizer

    @classmethod
    def of(cls, processor: Any) -> ChatTemplate:
        """The template of the processor or its tokenizer; of several, the one called `default`.

        Raises:
            DataError: there is none, or it cannot write a question about an image.
        """
        if not isinstance(getattr(processor, "image_token", None), str):
            raise DataError(
                f"{type(processor).__name__} has no token for an image in the text; supported:"
                " models that see images among their tokens",
                "model-not-supported",
            )
        template = processor.chat_template or processor.tokenizer.chat_template
        template = template.get("default") if isinstance(template, dict) else template
        if not isinstance(template, str):
            raise DataError(
                "the checkpoint has no chat template; put a chat_template.jinja beside its"
                " processor",
                "invalid-chat-template",
            )
        chat = cls(template, processor.tokenizer)
        try:
            text = chat.prompt((Turn("user", f"{IMAGE}\nquestion"),))
        except (TemplateError, TypeError) as error:
            raise DataError(
                f"the checkpoint's chat template cannot write a question about an image: {error}",
                "invalid-chat-template",
            ) from None
        if text.count(processor.image_token) != 1 or "question" not in text:
            raise DataError(
                f"the checkpoint's chat template should write {processor.image_token} once and the"
                f" question for a question about an image; found {text!r}: put a"
                " chat_template.jinja for images beside its processor",
                "invalid-chat-template",
            )
        return chat

    @cached_property
    def breaks(self) -> bool:
        """Whether the template writes a line break between an image and the text behind it."""
        parts = [{"type": "image"}, {"type": "text", "text": "question"}]
        asked = [{"role": "user", "content": parts}]
        text = self._write(asked, add_generation_prompt=True)
        return text.partition("question")[0].endswith("\n")

    @cached_property
    def lead(self) -> int:
        """Characters of white space between the prompt and the words of an assistant turn.

        The prompt ends before them, so the model has to write them itself (LLaVA-1.5: the prompt
        ends with `ASSISTANT:`, and a space follows).
        """
        before, prompt = self._example[0], self.prompt(_EXAMPLE[:1])
        gap = before[len(prompt) :] if before.startswith(prompt) else ""
        return len(gap) if gap.isspace() else 0

    @cached_property
    def end(self) -> str:
        """The token that ends an assistant turn.

        It need not be the end token of the tokenizer (Gemma 3: `<end_of_turn>` and `<eos>`), which
        is used where the template writes none (LLaVA-1.5).

        Raises:
            CotbalError: neither the template nor the tokenizer has one.
        """
        after = self._example[1].lstrip()
        special = (t for t in self.tokenizer.added_tokens_decoder.values() if t.special)
        written = [token for token in map(str, special) if after.startswith(token)]
        end: str | None = max(written, key=len, default=self.tokenizer.eos_token)
        if end is None:
            raise CotbalError(
                "neither the chat template nor the tokenizer has a token that ends the assistant's"
                " turn, so a model would never learn to stop; set eos_token in"
                " tokenizer_config.json",
                "broken-checkpoint",
            )
        return end

    @cached_property
    def _example(self) -> tuple[str, str]:
        """What the template writes before and behind the words of an assistant turn."""
        before, _, after = self._write(messages(_EXAMPLE)).rpartition("answer")
        return before, after

    def prompt(self, turns: Sequence[Turn], instruction: str | None = None) -> str:
        """Everything up to the point where the assistant answers.

        Earlier answers are closed as in `render`. A template that rewrites earlier turns cannot be
        trained with; its prompt stays as it writes it.
        """
        conversation = messages(turns, instruction, self.breaks)
        text = self._write(conversation, add_generation_prompt=True)
        if all(turn.role != "assistant" for turn in turns):
            return text
        try:
            before, spans = self._spans(conversation)
        except CotbalError:
            return text
        return _with_ends(text, spans, self.end).text if text.startswith(before) else text

    def render(self, turns: Sequence[Turn], instruction: str | None = None) -> Rendered:
        """The whole conversation and its assistant spans, each closed by an end-of-turn token that
        carries loss too.

        The template's own generation marks are used where it has them, together with the white
        space that leads to them; otherwise a span is what the template adds when the assistant turn
        is added. Nothing behind the end of a turn carries loss: the model never has to write it.

        Raises:
            CotbalError: the template rewrites earlier turns, so that spans cannot be found.
        """
        conversation = messages(turns, instruction, self.breaks)
        text, spans = self._spans(conversation)
        return _with_ends(text, spans, self.end)

    def _spans(self, conversation: list[Message]) -> tuple[str, list[Span]]:
        """The conversation as the template writes it, and its assistant spans."""
        if _GENERATION.search(self.template) is not None:
            return self._marked(conversation)
        text = self._write(conversation)
        return text, self._added_spans(conversation, text)

    def _write(self, conversation: list[Message], **options: Any) -> str:
        text: str = self._jinja(conversation, **options)[0][0]
        return text

    def _jinja(self, conversation: list[Message], **options: Any) -> Any:
        tokens = self.tokenizer.special_tokens_map.items()
        named = {name: token for name, token in tokens if isinstance(token, str)}
        return render_jinja_template(
            [conversation], chat_template=self.template, **named, **options
        )

    def _marked(self, conversation: list[Message]) -> tuple[str, list[Span]]:
        texts, indices = self._jinja(conversation, return_assistant_tokens_mask=True)
        return texts[0], [(start - self.lead, end) for start, end in indices[0]]

    def _added_spans(self, conversation: list[Message], text: str) -> list[Span]:
        spans = []
        for i, message in enumerate(conversation):
            if message["role"] != "assistant":
                continue
            before = self._write(conversation[:i], add_generation_prompt=True)
            after = self._write(conversation[: i + 1])
            if not (text.startswith(before) and text.startswith(after)):
                raise CotbalError(
                    "the chat template writes earlier turns differently once a turn is added, so"
                    " the assistant's words cannot be distinguished from the prompt; give the"
                    " template {% generation %} marks, or use another one",
                    "invalid-chat-template",
                )
            spans.append((len(before), len(after)))
        return spans


_EXAMPLE = (Turn("user", "question"), Turn("assistant", "answer"))


def _with_ends(text: str, spans: list[Span], end: str) -> Rendered:
    """Let every span end with an end-of-turn token: include one that follows it, or write one where
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
