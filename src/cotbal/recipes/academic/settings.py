"""The settings of the Academic Benchmark as the recipe carries them, each with its source."""

from __future__ import annotations

from cotbal.errors import CotbalError
from cotbal.recipes.releases.sources import Choices

MODELS = {"7b": "llava-1.5-7b-base", "13b": "llava-1.5-13b-base"}

_HEAD = """\
# The Academic Benchmark of CoTBal / VisATB (arXiv 2403.04343, Table 8), written by `cotbal prepare academic`.
# Where the paper is silent, the choice made here stands in a comment beside it. See docs/benchmarks.md.
# Drawn with seed {seed}; the paper names none. Short answers {capitals}, as in LLaVA-1.5's mixture.
# Boxes: {decimals} decimals, of {box}. {leaks}
# Tokens: {tokens}
name: academic
images: images
on_missing_image: {policy}
tasks:
"""
_SETTINGS = """\
model:
  # The paper tunes Vicuna-1.5 with the projector of LLaVA-1.5's first stage (scripts_visatb/finetune_academic.sh):
  # put such a checkpoint, in the form of transformers, into this directory beside the recipe. Not the tuned
  # llava-1.5 of the hub: it was trained on a mixture that holds VQAv2, GQA, OCR-VQA, RefCOCO and ShareGPT already.
  checkpoint: {checkpoint}
  vision: frozen                 # LLaVA-1.5
  projector: full
  language: full
  dtype: bfloat16                # paper
  max_length: 2048               # paper (Appendix A); here pictures are counted in, in the published code they are not
  gradient_checkpointing: true   # published script; changes memory only
optimization:
  epochs: 1                      # paper
  batch_size: 128                # paper
  micro_batch_size: 16           # published script; changes memory only
  learning_rate: 2.0e-5          # paper
  schedule: cosine               # paper
  warmup_ratio: 0.03             # paper
  weight_decay: 0.0              # published script
  seed: 0                        # the paper names none
generation: {{max_new_tokens: 256, batch_size: 16}}  # the paper is silent; descriptions of ShareGPT4V are the longest
portions: {{large: 1, mini: 1/32, seed: 0}}          # paper; the seed is ours
balance:
  form: standard                 # paper
  difficulty: real
  temperature: 0.5               # published code, both model sizes
"""


def head(choices: Choices) -> str:
    """The top of the recipe, with what was chosen."""
    tokens = "conversations are whole; the trainer cuts them at max_length."
    if choices.max_tokens is not None:
        tokens = f"conversations end before the turn that would exceed {choices.max_tokens} tokens."
    return _HEAD.format(
        seed=choices.seed,
        capitals="begin with a capital" if choices.capitalize else "are as in the releases, not capitalized",
        decimals=choices.box_decimals,
        box="the picture padded to a square" if choices.pad_boxes else "the picture itself",
        leaks="Pictures of evaluation splits are left out of RefCOCO's training."
        if choices.drop_eval_images
        else "Pictures of RefCOCO's evaluation splits occur in RefCOCOg's training; the paper is silent.",
        policy="drop" if choices.on_missing_image == "drop" else "error",
        tokens=tokens,
    )


def settings(model: str) -> str:
    """Everything behind the tasks. Raises CotbalError for an unknown model."""
    if model not in MODELS:
        raise CotbalError(f"--model: expected one of {', '.join(MODELS)}; found {model!r}")
    return _SETTINGS.format(checkpoint=MODELS[model])
