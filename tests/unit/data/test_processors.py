"""A processor that cannot be used is refused in one sentence, before anything is trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cotbal.data.batches.processors import load_processor
from cotbal.errors import CotbalError
from helpers.errors import raises
from helpers.tiny_vlm import BASE


def copied(tmp_path: Path, **changes: Any) -> Path:
    """Pocket's processor with other settings of its tokenizer; None takes one away."""
    for name in (
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    ):
        shutil.copy(BASE / name, tmp_path / name)
    path = tmp_path / "tokenizer_config.json"
    settings = {**json.loads(path.read_text()), **changes}
    path.write_text(
        json.dumps({name: value for name, value in settings.items() if value is not None})
    )
    return tmp_path


def test_a_missing_padding_token_is_the_end_token(tmp_path: Path) -> None:
    tokenizer = load_processor(str(copied(tmp_path, pad_token=None)), False).tokenizer
    assert tokenizer.pad_token == tokenizer.eos_token == "<|end|>"


def test_nothing_to_pad_with_is_rejected(tmp_path: Path) -> None:
    with raises(CotbalError, "broken-checkpoint", tmp_path, "pad_token"):
        load_processor(str(copied(tmp_path, pad_token=None, eos_token=None)), False)


def test_text_alone_is_rejected(tmp_path: Path) -> None:
    (copied(tmp_path, processor_class=None) / "processor_config.json").unlink()
    with raises(CotbalError, "model-not-supported", tmp_path, "tokenizer and image_processor"):
        load_processor(str(tmp_path), False)


def test_a_package_that_the_processor_needs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = copied(tmp_path) / "processor_config.json"
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "processor_class": "OmDetTurboProcessor"})
    )
    monkeypatch.setattr("cotbal.data.batches.processors.is_torchvision_available", lambda: False)
    monkeypatch.setattr(
        "cotbal.data.batches.processors.AutoProcessor.from_pretrained", needs_a_package
    )
    with raises(CotbalError, "missing-dependency", tmp_path, "OmDetTurboProcessor"):
        load_processor(str(tmp_path), False)


def needs_a_package(*args: Any, **options: Any) -> Any:
    raise ImportError("OmDetTurboProcessor requires the Torchvision library")
