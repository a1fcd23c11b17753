from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoProcessor, AutoTokenizer

from cotbal.benchmarks import pocket
from cotbal.benchmarks.zeroshot.checkpoint import (
    plan_preparation,
    template_of,
    vicuna_template,
    write_copy,
)
from cotbal.data.batches.chat import ChatTemplate
from cotbal.data.reading.record import Turn
from cotbal.errors import CotbalError
from helpers.errors import names_all, raises
from helpers.fake_lmms import IMAGES, write_checkpoint

BASE = Path(pocket.__file__).parent / "base"
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. "
)


def prepared(checkpoint: Path, target: Path) -> Path:
    return write_copy(plan_preparation(checkpoint, as_trained=False), target)


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def test_images_are_padded_and_the_template_is_that_of_llava(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source")
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    plan = plan_preparation(source, as_trained=False)
    processor, padding, template = plan.changes
    assert names_all(processor, "CLIPImageProcessor", "LlavaImageProcessor")
    assert names_all(padding, "do_pad", "false", "true")
    assert names_all(template, "template", "vicuna_v1")
    copy = write_copy(plan, tmp_path / "copy")
    changed = {"do_pad": True, "image_processor_type": "LlavaImageProcessor"}
    assert read(copy / "preprocessor_config.json") == IMAGES | changed
    assert template_of(copy) == vicuna_template()
    assert (copy / "model.safetensors").is_symlink()
    assert (copy / "model.safetensors").read_bytes() == before["model.safetensors"]
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before


def test_the_file_that_transformers_reads_is_changed(tmp_path: Path) -> None:
    """With a processor in both files, the nested one wins; `do_pad` in the other alone would do
    nothing.
    """
    nested = {
        "patch_size": 14,
        "image_processor": IMAGES | {"image_processor_type": "LlavaImageProcessor"},
    }
    source = write_checkpoint(tmp_path / "source", processor_config=nested)
    copy = prepared(source, tmp_path / "copy")
    assert read(copy / "processor_config.json")["image_processor"]["do_pad"] is True
    assert read(copy / "processor_config.json")["patch_size"] == 14
    assert read(copy / "preprocessor_config.json") == IMAGES


def test_transformers_loads_the_copy_and_pads(tmp_path: Path) -> None:
    from PIL import Image

    copy = prepared(BASE, tmp_path / "copy")
    processor = AutoProcessor.from_pretrained(copy)
    # Half as high as wide: padding leaves rows of the mean colour above and below, squashing leaves
    # none.
    pixels = processor.image_processor(
        Image.new("RGB", (80, 40), (255, 0, 0)), return_tensors="pt"
    )["pixel_values"]
    assert abs(float(pixels[0, 0, 2, 24])) < 0.01
    assert float(pixels[0, 0, 24, 24]) == pytest.approx(1)
    assert processor.chat_template == processor.tokenizer.chat_template == vicuna_template()
    # What is trained from it, and saved, needs no preparation any more.
    processor.save_pretrained(tmp_path / "trained")
    (tmp_path / "trained" / "config.json").write_text('{"model_type": "llava"}')
    assert plan_preparation(tmp_path / "trained", as_trained=False).changes == ()


def test_the_prompt_of_llava() -> None:
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    end = tokenizer.eos_token
    turns = [
        Turn("user", "<image>\nWhat is it?"),
        Turn("assistant", "A cat."),
        Turn("user", "Why?"),
    ]
    chat = ChatTemplate(vicuna_template(), tokenizer)
    shown = chat.prompt(turns)
    assert (
        shown == f"{SYSTEM}USER: <image>\nWhat is it? ASSISTANT: A cat.{end}USER: Why? ASSISTANT:"
    )
    as_text = [{"role": "user", "content": "<image>\nWhat is it?"}]
    assert (
        tokenizer.apply_chat_template(
            as_text, chat_template=vicuna_template(), tokenize=False, add_generation_prompt=True
        )
        == f"{SYSTEM}USER: <image>\nWhat is it? ASSISTANT:"
    )
    assert chat.prompt(turns[2:]) == f"{SYSTEM}USER: Why? ASSISTANT:"


def test_a_base_that_was_prepared_can_be_trained() -> None:
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    turns = [
        Turn("user", "Hi"),
        Turn("assistant", "A cat."),
        Turn("user", "Why?"),
        Turn("assistant", "Fur."),
    ]
    rendered = ChatTemplate(vicuna_template(), tokenizer).render(turns)
    answers = [rendered.text[start:stop] for start, stop in rendered.spans]
    # The prompt ends with "ASSISTANT:", so the blank is the model's to write.
    assert answers == [f" A cat.{tokenizer.eos_token}", f" Fur.{tokenizer.eos_token}"]


def test_a_system_turn_takes_the_place_of_the_sentence() -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    shown = render_jinja_template(
        [turns], chat_template=vicuna_template(), add_generation_prompt=True
    )[0][0]
    assert shown == "Be brief. USER: Hi ASSISTANT:"


def test_a_checkpoint_that_is_as_it_should_be_is_left_alone(tmp_path: Path) -> None:
    right = IMAGES | {"do_pad": True, "image_processor_type": "LlavaImageProcessorFast"}
    source = write_checkpoint(
        tmp_path / "source", template=vicuna_template(), preprocessor_config=right
    )
    assert plan_preparation(source, as_trained=False).changes == ()


@pytest.mark.parametrize("name", ["chat_template", "tokenizer_config", "processor_config"])
def test_no_other_template_is_left_in_the_copy(tmp_path: Path, name: str) -> None:
    source = write_checkpoint(
        tmp_path / "source", template=None, **{name: {"chat_template": "other", "kept": 1}}
    )
    assert template_of(source) == "other"
    copy = prepared(source, tmp_path / "copy")
    assert not [path.name for path in copy.glob("*.json") if "chat_template" in read(path)]
    assert name == "chat_template" or read(copy / f"{name}.json")["kept"] == 1


def test_as_trained_changes_nothing_but_needs_a_template(tmp_path: Path) -> None:
    plan = plan_preparation(write_checkpoint(tmp_path / "with"), as_trained=True)
    assert (plan.written, plan.changes) == ({}, ())
    with raises(CotbalError, "unsupported-checkpoint", "without"):
        plan_preparation(write_checkpoint(tmp_path / "without", template=None), as_trained=True)


@pytest.mark.parametrize(
    ("files", "code", "name"),
    [
        ({"config": {"model_type": "qwen2_vl"}}, "unsupported-checkpoint", "'qwen2_vl'"),
        ({"config": None}, "broken-file", "config.json"),
        ({"config": [1]}, "broken-file", "found list"),
        (
            {"preprocessor_config": {"image_processor_type": "SiglipImageProcessor"}},
            "unsupported-checkpoint",
            "SiglipImageProcessor",
        ),
        ({"preprocessor_config": None}, "broken-file", "preprocessor_config.json"),
    ],
)
def test_what_cannot_be_prepared(
    tmp_path: Path, files: dict[str, object], code: str, name: str
) -> None:
    with raises(CotbalError, code, name):
        plan_preparation(write_checkpoint(tmp_path / "source", **files), as_trained=False)


def test_a_copy_is_replaced_but_nothing_else(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source")
    copy = prepared(source, tmp_path / "copy")
    (copy / "stale.json").write_text("{}")
    assert not (prepared(source, copy) / "stale.json").exists()
    theirs = write_checkpoint(tmp_path / "theirs")
    with raises(CotbalError, "existing-output", theirs):
        prepared(source, theirs)
    assert not (theirs / "model.safetensors").is_symlink()
