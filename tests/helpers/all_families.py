"""All families that tests or `benchmarks/model_families.py` make checkpoints of, by the type in
their configuration.
"""

from __future__ import annotations

from helpers.further_families import FURTHER
from helpers.rare_families import RARE
from helpers.tiny_families import FAMILIES

ALL = FAMILIES | FURTHER | RARE
# The whole contract for those that many people train or that are built in a way of their own, its
# core for others.
FULL = (*FAMILIES, "llava_next", "gemma4", "glm4v", "qwen3_vl_moe", "idefics2", "mllama")
SHORT = tuple(name for name in FURTHER if name not in FULL)
# A projector before the decoder, grids of varying size, no chat template, cross-attention: these
# guard every change, the others belong to `make test-all`.
ARCHETYPES = ("llava", "qwen2_5_vl", "paligemma", "mllama")
