"""Where answers of `Decoder` are those of `generate`."""

from __future__ import annotations

import json
from typing import Any

from transformers import DynamicCache, GenerationConfig, GenerationMixin
from transformers.cache_utils import DynamicLayer

from cotbal.data.batches.collate import Collator
from cotbal.data.batches.questions import QuestionCollator

# Families for which tests compare the answers; `tests/contracts/test_shared_answers.py`.
FAMILIES = frozenset(
    {
        "aya_vision",
        "deepseek_vl",
        "idefics3",
        "internvl",
        "llava",
        "llava_next",
        "llava_onevision",
        "mistral3",
        "ovis2",
        "smolvlm",
        "vipllava",
    }
)
ATTENTION = frozenset({"eager", "sdpa"})  # what computes with gaps between the tokens of a row
# Positions of one token must not depend on how long the row is in the end.
ROTATIONS = frozenset({"default", "linear", "llama3", "yarn"})

GREEDY = {"do_sample": False, "num_beams": 1, "use_cache": True}
IDS = ("bos_token_id", "decoder_start_token_id")  # beside those of the end and of padding


def obstacle(model: Any, collator: Collator) -> str | None:
    """Why the answers have to come from `generate`; None if they need not."""
    text = model.config.get_text_config(decoder=True)
    attention = text._attn_implementation
    rotation = (getattr(text, "rope_parameters", None) or {}).get("rope_type", "default")
    layers = {type(layer) for layer in DynamicCache(config=model.config).layers}
    settings = other_settings(model.generation_config)
    obstacles = {
        f"not tested with {model.config.model_type}": model.config.model_type not in FAMILIES,
        "the processor takes one question per record": isinstance(collator, QuestionCollator),
        "the model has its own generate": type(model).generate is not GenerationMixin.generate,
        "some layers do not attend to all tokens": layers != {DynamicLayer},
        f"attention is {attention}": attention not in ATTENTION,
        f"rotary positions are {rotation}": rotation not in ROTATIONS,
        f"generation settings {', '.join(settings)}": bool(settings),
    }
    return next((reason for reason, present in obstacles.items() if present), None)


def other_settings(stored: GenerationConfig) -> dict[str, Any]:
    """Generation settings that could change which token is chosen."""
    settings: dict[str, Any] = json.loads(stored.to_json_string(use_diff=True))
    kept = (*IDS, "eos_token_id", "pad_token_id", "transformers_version")
    return {
        name: value
        for name, value in settings.items()
        if value and name not in kept and not name.startswith("_") and value != GREEDY.get(name)
    }
