"""The settings of the Chat Benchmark in the recipe, with their sources."""

from __future__ import annotations

from cotbal.benchmarks.releases.paper import PaperRecipe

_HEAD = """\
# The Chat Benchmark of CoTBal / VisATB (arXiv 2403.04343), written by `cotbal prepare chat`.
# Where the paper is silent, the choice made here is in a comment beside it. See docs/benchmarks.md.
# Tokens: {tokens}
# Validation is LLaVA-Bench on COCO, 30 questions per task; the test is LLaVA-Bench in the wild (17, 15 and 28). The right
# answers are GPT-4's; the metric `judge` compares with them and needs a judge. So few questions make wide intervals.
name: chat
images: images
on_missing_image: {policy}
outside_images: allow  # `images` holds links to yours
tasks:
"""
_REST = """\
generation: {max_new_tokens: 1024, batch_size: 16}  # the paper is silent; as LLaVA answers its own benchmark
portions: {large: 1, mini: 1/32, seed: 0}           # paper; the seed is ours
balance:
  form: simple                   # paper (Appendix F): contributions without minis, Eq. 15; difficulty by Eq. 16
  difficulty: real
  temperature: 0.5               # published code
"""
RECIPE = PaperRecipe(
    _HEAD,
    _REST,
    "scripts_visatb/finetune_chat.sh",
    "it was trained on these conversations already.",
    epochs=3,
)
