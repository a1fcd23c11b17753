"""The tokenizer files of a checkpoint whose tokens are bytes, and some special tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

SPECIAL = ("<s>", "</s>", "<pad>", "<image>", "<|user|>", "<|patch|>", "<|box|>", "[a|b]")
NOT_SPECIAL = ("<video>", "<loc1>")
TEMPLATE = "{{ bos_token }}{% for m in messages %}<|user|>{{ m.content }}{% endfor %}"


def write(directory: Path, **config: Any) -> Path:
    """`tokenizer.json`, `tokenizer_config.json`, `chat_template.jinja` and `config.json`."""
    directory.mkdir(parents=True, exist_ok=True)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(token, special=False) for token in NOT_SPECIAL])
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=9)
    tokenizer.save(str(directory / "tokenizer.json"))
    ids = {key: tokenizer.token_to_id(token) for key, token in config.items()}
    (directory / "config.json").write_text(json.dumps({"text_config": ids}))
    names = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": "<pad>"}
    listed = {"additional_special_tokens": ["<|box|>", "<loc1>"]}
    (directory / "tokenizer_config.json").write_text(json.dumps({**names, **listed}))
    (directory / "chat_template.jinja").write_text(TEMPLATE)
    return directory
