"""Tokenizer, chat template and processor of the base of `pocket`: one token a word, a number or a
capital letter.
"""

from __future__ import annotations

import string
from pathlib import Path
from random import Random

import regex
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlavaProcessor, PreTrainedTokenizerFast
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from cotbal.benchmarks.pocket.chat import chat, continents
from cotbal.benchmarks.pocket.drawings import SIDE
from cotbal.benchmarks.pocket.records import SOURCES
from cotbal.benchmarks.pocket.tasks import VISUAL_TASKS
from pocket_lessons import random_lesson

# A word takes the space before it along; numbers and single capitals do not, so that "[12,20" and
# "frog 12" share "12".
PIECE = r" ?[A-Z]?[a-z]+(?![a-z])|[0-9]+|[A-Z]|\s|[^\sA-Za-z0-9]"
SPECIAL = ("<pad>", "<unk>", "<image>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>")
ROLES = "{% if message['role'] == 'user' %}<|user|>{% else %}<|system|>{% endif %}"
CONTENT = (
    "{% if message['content'] is string %}{{ message['content'] | trim }}{% else %}{% for part in"
    " message['content'] %}{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] | trim"
    " }}{% endif %}{% endfor %}{% endif %}"
)
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}<|assistant|>{%"
    " generation %}"
    + CONTENT
    + "<|end|>{% endgeneration %}{% else %}"
    + ROLES
    + CONTENT
    + "{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def vocabulary() -> list[str]:
    """Specials, every printable ASCII character, the numbers 0 to 100 and every word of tasks and
    lessons.
    """
    pieces = {piece for text in _texts() for piece in regex.findall(PIECE, text)}
    plain = [*string.printable[:95], "\n", *map(str, range(10, 101))]
    return [*SPECIAL, *plain, *sorted(pieces - set(plain))]


def build_processor() -> LlavaProcessor:
    """A `LlavaProcessor` whose `<image>` grows to 36 tokens; images of any size are resized to 48
    x 48.
    """
    words = {piece: number for number, piece in enumerate(vocabulary())}
    # BPE without merges: a piece that is in the vocabulary is one token, any other falls apart into
    # characters.
    tokenizer = Tokenizer(models.BPE(words, [], ignore_merges=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECE), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(list(SPECIAL))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<|end|>",
        extra_special_tokens={"image_token": "<image>"},
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )
    images = LlavaImageProcessorPil(
        size={"height": SIDE, "width": SIDE},
        do_center_crop=False,
        do_pad=False,
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return LlavaProcessor(
        images,
        fast,
        patch_size=8,
        vision_feature_select_strategy="default",
        chat_template=CHAT_TEMPLATE,
        num_additional_image_tokens=1,
    )


def save_processor(directory: Path) -> LlavaProcessor:
    processor = build_processor()
    processor.save_pretrained(directory)
    return processor


def _texts() -> list[str]:
    texts = [
        f"On {country} is {country}, {continent}?" for country, continent in continents().items()
    ]
    texts += [task.instruction for task in VISUAL_TASKS if task.instruction]
    for number in range(1500):
        rng = Random(f"vocabulary/{number}")
        lesson, asked = random_lesson(rng), chat(rng)
        texts += [
            asked.question,
            asked.answer,
            *(text for fact in lesson.facts for text in (fact.text, fact.answer)),
        ]
        for task in VISUAL_TASKS:
            question = task.ask(SOURCES[task.source][0](rng), rng)
            texts += [question.question, question.answer]
    # A word that opens an answer has no space before it, in the middle of a text it has one: both
    # are needed.
    words = {word for text in texts for word in regex.findall("[A-Za-z][a-z]+", text)}
    return [*texts, *words, *(f" {word}" for word in words)]
