"""The two texts that are beside the data: LICENCES.md and recipe.yaml."""

from __future__ import annotations

from cotbal.benchmarks.stamps.packages import MIXTURE_PACKAGES, MODEL_PACKAGES
from cotbal.benchmarks.stamps.tasks import METRICS

SETTINGS = """\
model:
  checkpoint: base          # made by `cotbal prepare stamps-base`, or any other checkpoint directory
  vision: frozen
  projector: full
  language: lora
  lora: {rank: 16, alpha: 32, dropout: 0.0, targets: null}
  dtype: float32            # CPUs without instructions for bfloat16 emulate it, many times slower
  max_length: 256
optimization: {epochs: 1, batch_size: 8, micro_batch_size: 8, learning_rate: 1.0e-3, schedule: cosine,
  warmup_ratio: 0.05, weight_decay: 0.0, max_grad_norm: 1.0, seed: 0}
generation: {max_new_tokens: 24, batch_size: 32}
portions: {large: 1, mini: 1/16, seed: 0}
balance: {form: standard, temperature: 0.5, weight_range: [0.5, 2.0], bootstrap: 1000}
"""


def recipe_text(visual_tasks: list[str], text_task: str) -> str:
    """The recipe: every visual task is balanced, the text task trains with the mean weight."""
    lines = ["name: stamps", "images: images", "tasks:"]
    for name in [*visual_tasks, text_task]:
        lines.append(f"  {name}:")
        lines += [
            f"    {split}: data/{name}_{split}.jsonl" for split in ("train", "validation", "test")
        ]
        lines.append(f"    metric: {METRICS.get(name, 'exact_match')}")
        if name == text_task:
            lines.append("    balanced: false")
    return "\n".join(lines) + "\n" + SETTINGS


def licences_text() -> str:
    """Where everything came from, who made it and under which licence."""
    head = (
        "# Sources and licences\n\nThe records and images in this directory were made from the"
        " public packages below, on this machine.\nImages that hold a stamp are derived from a"
        " GPL-2+ work: keep them with this file, and think before you\npublish them. Things were"
        " cropped, scaled and pasted; grounds were cropped, blurred and made paler.\nThe copyright"
        " files of every author are in `cache/unpacked`,\nthe README files of the photographs in"
        " `cache/photos`.\n\n| package | version | from | content | licence and authors | sha256"
        " |\n|---|---|---|---|---|---|\n"
    )
    rows = []
    for package in (*MIXTURE_PACKAGES, *MODEL_PACKAGES):
        about = f"{package.version} | {package.client} | {package.content} | {package.licence}"
        rows.append(f"| {package.name} | {about} | `{package.sha256}` |")
    return head + "\n".join(rows) + "\n"
