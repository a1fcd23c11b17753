"""The recipe file of `pocket`, with the settings its health criteria were measured with."""

from __future__ import annotations

from cotbal.benchmarks.pocket.mixes import EQUAL, MAX_NEW_TOKENS
from cotbal.benchmarks.pocket.records import SIZES
from cotbal.benchmarks.pocket.tasks import VISUAL_TASKS

_TASK = """\
  {name}:
    train: data/{name}_train.jsonl
    validation: data/{name}_validation.jsonl
    test: data/{name}_test.jsonl
    metric: {metric}
"""
_SETTINGS = """\
model:
  checkpoint: base
  vision: frozen
  projector: full
  language: full
  dtype: float32
  max_length: 160
optimization:
  epochs: 1
  batch_size: {batch_size}
  micro_batch_size: {batch_size}
  learning_rate: {learning_rate}
  schedule: cosine
  warmup_ratio: 0.05
  weight_decay: 0.0
  max_grad_norm: 1.0
  seed: 0
generation: {{max_new_tokens: {max_new_tokens}, batch_size: 128}}
portions: {{large: 1, mini: {mini}, seed: 0}}
balance:
  form: standard
  replicates: 3  # trainings of the mini with different seeds: they show the noise of training
  temperature: 0.5
  weight_range: [0.5, 2.0]
  bootstrap: 1000
"""


def recipe_text(size: str, seed: int, mix: str = EQUAL) -> str:
    """The YAML of one size; its first line names size, seed and mix, which identify a prepared
    directory.
    """
    tasks = []
    for task in VISUAL_TASKS:
        text = _TASK.format(name=task.name, metric=task.metric)
        tasks.append(text + (f"    instruction: {task.instruction}\n" if task.instruction else ""))
    tasks.append(_TASK.format(name="chat", metric="exact_match") + "    balanced: false\n")
    name, suffix = ("pocket", "") if mix == EQUAL else (f"pocket-{mix}", f", mix {mix}")
    head = (
        f"# cotbal benchmark pocket, size {size}, seed {seed}{suffix}\nname: {name}\nimages:"
        " images\ntasks:\n"
    )
    settings = _SETTINGS.format(**vars(SIZES[size]), max_new_tokens=MAX_NEW_TOKENS[mix])
    return head + "".join(tasks) + settings
