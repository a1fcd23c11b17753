"""The settings of the Academic Benchmark as the recipe carries them, each with its source."""

from __future__ import annotations

from cotbal.benchmarks.releases import paper
from cotbal.benchmarks.releases.sources import Choices

_HEAD = """\
# The Academic Benchmark of CoTBal / VisATB (arXiv 2403.04343, Table 8), written by `cotbal prepare academic`.
# Where the paper is silent, the choice made here is in a comment beside it. See docs/benchmarks.md.
# Drawn with seed {seed}; the paper names none. Short answers {capitals}, as in LLaVA-1.5's mixture.
# Boxes: {decimals} decimals, of {box}. {leaks}
# Tokens: {tokens}
name: academic
images: images
on_missing_image: {policy}
tasks:
"""
_REST = """\
generation: {max_new_tokens: 256, batch_size: 16}  # the paper is silent; descriptions of ShareGPT4V are the longest
portions: {large: 1, mini: 1/32, seed: 0}          # paper; the seed is ours
balance:
  form: standard                 # paper
  difficulty: real
  temperature: 0.5               # published code, both model sizes
"""
_TUNED = "it was trained on a mixture that holds VQAv2, GQA, OCR-VQA, RefCOCO and ShareGPT already."


def head(choices: Choices) -> str:
    """The top of the recipe, with what was chosen."""
    capitals = "begin with a capital"
    if not choices.capitalize:
        capitals = "are as in the releases, not capitalized"
    box = "the picture padded to a square" if choices.pad_boxes else "the picture itself"
    leaks = "Pictures of evaluation splits are left out of RefCOCO's training."
    if not choices.drop_eval_images:
        leaks = (
            "Pictures of RefCOCO's evaluation splits occur in RefCOCOg's training; the paper is"
            " silent."
        )
    return paper.head(
        _HEAD, choices, capitals=capitals, decimals=choices.box_decimals, box=box, leaks=leaks
    )


def settings(model: str) -> str:
    """Everything behind the tasks. Raises CotbalError for an unknown model."""
    script = "scripts_visatb/finetune_academic.sh"
    return paper.settings(model, epochs=1, script=script, tuned=_TUNED) + _REST
