"""Which characters of a rendered conversation carry loss."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from tokenizers import AddedToken

from cotbal.data.batches.chat import ChatTemplate, messages
from cotbal.data.reading.record import Turn
from cotbal.errors import CotbalError
from helpers.errors import raises

TOKENIZER = SimpleNamespace(
    eos_token="</s>",
    special_tokens_map={"eos_token": "</s>", "bos_token": "<s>"},
    added_tokens_decoder={
        i: AddedToken(text, special=True) for i, text in enumerate(("<s>", "</s>", "<end>"))
    },
)
TURNS = (
    Turn("user", "<image>\nWhat is it?"),
    Turn("assistant", "A dog."),
    Turn("user", "Where?"),
    Turn("assistant", "Left."),
)
BODY = (
    "{% for part in m['content'] %}{% if part['type'] == 'image' %}<image>\n"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
)
MARKED = (
    "{% for m in messages %}{% if m['role'] == 'user' %}USER: "
    + BODY
    + " {% else %}ASSISTANT: {% generation %}"
    + BODY
    + "{% endgeneration %}</s>{% endif %}{% endfor %}{% if add_generation_prompt %}ASSISTANT: {%"
    " endif %}"
)
PLAIN = MARKED.replace("{% generation %}", "").replace("{% endgeneration %}", "")
NO_END = PLAIN.replace("</s>", " ")


def chat(template: str) -> ChatTemplate:
    return ChatTemplate(template, TOKENIZER)


def learnt(template: str) -> list[str]:
    rendered = chat(template).render(TURNS)
    return [rendered.text[start:stop] for start, stop in rendered.spans]


@pytest.mark.parametrize("template", [MARKED, PLAIN], ids=["marked", "plain"])
def test_spans_are_the_answers_and_their_end(template: str) -> None:
    assert learnt(template) == ["A dog.</s>", "Left.</s>"]
    assert (
        chat(template).render(TURNS).text
        == "USER: <image>\nWhat is it? ASSISTANT: A dog.</s>USER: Where? ASSISTANT: Left.</s>"
    )


def test_a_template_without_end_of_turn_gets_one() -> None:
    """LLaVA-1.5's own template ends turns with a space; without an end the model would never learn
    to stop.
    """
    assert learnt(NO_END) == ["A dog. </s>", "Left. </s>"]


def test_a_turn_ends_with_the_token_that_the_template_writes() -> None:
    """Gemma's turns end with another token than its tokenizer's end; what follows it is never
    learnt.
    """
    own_end = PLAIN.replace("</s>", "<end>\n")
    assert (chat(own_end).lead, chat(own_end).end) == (0, "<end>")
    assert learnt(own_end) == ["A dog.<end>", "Left.<end>"]
    assert learnt(MARKED.replace("</s>", " <end>\n")) == ["A dog. <end>", "Left. <end>"]


def test_white_space_that_the_prompt_leaves_out_is_learnt() -> None:
    """LLaVA-1.5's prompt ends before the space that leads to the answer, and its marks begin behind
    it.
    """
    short_prompt = MARKED.replace("%}ASSISTANT: {% endif", "%}ASSISTANT:{% endif")
    assert (chat(short_prompt).lead, chat(short_prompt).end) == (1, "</s>")
    assert learnt(short_prompt) == [" A dog.</s>", " Left.</s>"]


def test_a_turn_without_any_end_is_rejected() -> None:
    endless = SimpleNamespace(eos_token=None, special_tokens_map={}, added_tokens_decoder={})
    with raises(CotbalError, "broken-checkpoint", "eos_token"):
        ChatTemplate(NO_END, endless).render(TURNS)


def test_the_prompt_is_a_prefix_of_what_was_trained() -> None:
    prompt = chat(PLAIN).prompt(TURNS[:1])
    assert chat(PLAIN).render(TURNS).text.startswith(prompt + "A dog.")


@pytest.mark.parametrize(
    "template",
    [MARKED, PLAIN, NO_END, MARKED.replace("</s>", " ")],
    ids=["marked", "plain", "no end", "marked, no end"],
)
def test_later_prompts_close_earlier_answers_as_in_training(template: str) -> None:
    trained = chat(template).render(TURNS, "One word.").text
    assert trained.startswith(chat(template).prompt(TURNS[:3], "One word.") + "Left.")


def test_the_prompt_of_a_template_that_rewrites_the_past_stays_as_it_is() -> None:
    prompt = chat("{{ messages | length }}" + NO_END).prompt(TURNS[:3])
    assert prompt.startswith("3USER: ")
    assert "</s>" not in prompt


def test_the_instruction_is_in_the_first_question_only() -> None:
    text = chat(PLAIN).render(TURNS, "One word.").text
    assert text.count("One word.") == 1
    assert "What is it?\nOne word. ASSISTANT" in text


def test_a_template_that_rewrites_the_past_is_rejected() -> None:
    rewriting = "{{ messages | length }}" + PLAIN
    with raises(CotbalError, "invalid-chat-template", "{% generation %}"):
        chat(rewriting).render(TURNS)


def test_parts_keep_text_and_images_in_order() -> None:
    made = messages(
        (Turn("user", "Compare <image> and\n<image>\nplease"), Turn("assistant", "Same."))
    )
    assert made[0]["content"] == [
        {"type": "text", "text": "Compare "},
        {"type": "image"},
        {"type": "text", "text": " and\n"},
        {"type": "image"},
        {"type": "text", "text": "\nplease"},
    ]


IN_PLACE = BODY.replace("<image>\n", "<image>")
IMAGES_FIRST = (
    "{% for part in m['content'] if part['type'] == 'image' %}<image>\n{% endfor %}"
    "{% for part in m['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
)
ASKED = (
    "<image>\nWhat?",
    "<image>\n<image>\nCompare.",
    "Look:\n<image>\nWhat is it?",
    "A: <image>\nB: <image>\nCompare.",
    "Is <image> red?",
)


@pytest.mark.parametrize(
    ("body", "breaks", "expected"),
    [
        (
            IN_PLACE,  # Qwen2-VL
            False,
            ("<image>What?", "<image><image>Compare.", *ASKED[2:]),
        ),
        (
            BODY,  # InternVL
            True,
            (*ASKED[:4], "Is <image>\n red?"),
        ),
        (
            IMAGES_FIRST,  # LLaVA-1.5
            True,
            (
                *ASKED[:2],
                "<image>\nLook:\nWhat is it?",
                "<image>\n<image>\nA: B: Compare.",
                "<image>\nIs  red?",
            ),
        ),
    ],
    ids=["in place", "line break", "images first"],
)
def test_line_breaks_beside_images_are_written_once(
    body: str, breaks: bool, expected: tuple[str, ...]
) -> None:
    template = chat(PLAIN.replace(BODY, body))
    assert template.breaks is breaks
    texts = [template.prompt((Turn("user", asked),)) for asked in ASKED]
    assert texts == [f"USER: {text} ASSISTANT: " for text in expected]
