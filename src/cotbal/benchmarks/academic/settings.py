"""The settings of the Academic Benchmark in the recipe, with their sources."""

from __future__ import annotations

from cotbal.benchmarks.releases.paper import PaperRecipe
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
outside_images: allow  # `images` holds links to yours
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
RECIPE = PaperRecipe(
    _HEAD,
    _REST,
    "scripts_visatb/finetune_academic.sh",
    "it was trained on a mixture that holds VQAv2, GQA, OCR-VQA, RefCOCO and ShareGPT already.",
)


def chosen(choices: Choices) -> dict[str, str | int]:
    """What the user chose, as fields of the head."""
    capitals = "begin with a capital"
    if not choices.capitalize:
        capitals = "are as in the releases, not capitalized"
    box = "the image padded to a square" if choices.pad_boxes else "the image itself"
    leaks = "Images of evaluation splits are left out of RefCOCO's training."
    if not choices.drop_eval_images:
        leaks = (
            "Images of RefCOCO's evaluation splits occur in RefCOCOg's training; the paper is"
            " silent."
        )
    return {"capitals": capitals, "decimals": choices.box_decimals, "box": box, "leaks": leaks}
