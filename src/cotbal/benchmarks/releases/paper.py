"""Settings that the recipes of the paper's benchmarks share, with their sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cotbal.benchmarks.releases.benchmark import Benchmark, TaskPlan, chosen_tasks, task_yaml
from cotbal.benchmarks.releases.sources import Choices
from cotbal.errors import CotbalError

MODELS = {"7b": "llava-1.5-7b-base", "13b": "llava-1.5-13b-base"}

_ABOUT = """\
  # The paper tunes Vicuna-1.5 with the projector of LLaVA-1.5's first stage ({script}):
  # `cotbal prepare llava-base` makes such a checkpoint; put it into this directory beside the recipe. Not the tuned
  # llava-1.5 of the hub: {tuned}
"""
_TRAINED = """\
model:
{about}\
  checkpoint: {checkpoint}
  vision: frozen                 # LLaVA-1.5
  projector: full
  language: full
  dtype: bfloat16                # paper
  max_length: 2048               # paper (Appendix A); image tokens count here, in the published code they do not
  gradient_checkpointing: true   # published script; changes memory only
optimization:
  epochs: {epochs}                      # paper
  batch_size: 128                # paper
  micro_batch_size: 16           # published script; changes memory only
  learning_rate: 2.0e-5          # paper
  schedule: cosine               # paper
  warmup_ratio: 0.03             # paper
  weight_decay: 0.0              # published script
  seed: 0                        # the paper names none
"""


_RESOURCES = """\
resources:
  # Every training is sharded over 8 GPUs (FSDP2): weights, gradients and Adam of 7B take 109 GB, of 13B 209 GB, in
  # computed figures. None of it changes a result; see docs/machines.md for other machines.
  gpus: 8                        # published script
  accelerate_config: accelerate.yaml
"""
ACCELERATE = "accelerate.yaml"  # beside the recipe
FSDP2 = """\
# For `accelerate launch`, named by resources.accelerate_config of the recipe: shards a model, its gradients and its
# optimizer over the GPUs of a run, layer by layer. The recipe says how many GPUs there are.
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
num_machines: 1
num_processes: 8
fsdp_config:
  fsdp_version: 2
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_reshard_after_forward: true
  fsdp_offload_params: false
  fsdp_state_dict_type: SHARDED_STATE_DICT
  fsdp_cpu_ram_efficient_loading: false
"""


@dataclass(frozen=True)
class PaperRecipe:
    """What the recipes of the paper's benchmarks do not share.

    Attributes:
        head: template of the text before the tasks, see `head`.
        rest: the sections after `resources`.
        script: the published script with these settings.
        tuned: why the tuned checkpoint is not the one to start from.
        epochs: of a training.
    """

    head: str
    rest: str
    script: str
    tuned: str
    epochs: int = 1

    def settings(self, model: str) -> str:
        """Everything after the tasks: the sections from `model` on; `resources` names ACCELERATE,
        whose text is FSDP2.

        Args:
            model: key of MODELS.

        Raises:
            CotbalError: an unknown model.
        """
        if model not in MODELS:
            raise CotbalError(
                f"--model: expected one of {', '.join(MODELS)}; found {model!r}", "invalid-option"
            )
        about = _ABOUT.format(script=self.script, tuned=self.tuned)
        return trained(MODELS[model], self.epochs, about) + _RESOURCES + self.rest

    def benchmark(
        self,
        plans: Sequence[TaskPlan],
        tasks: Sequence[str] | None,
        model: str,
        choices: Choices,
        **others: str | int,
    ) -> Benchmark:
        """The benchmark, or some of its tasks.

        Args:
            plans: all tasks, in the order of the published task ids.
            tasks: names of those to make; None means all.
            model: key of MODELS.
            others: further fields of `head`.

        Raises:
            CotbalError: an unknown task or model.
        """
        top, settings = head(self.head, choices, **others), self.settings(model)

        def text(ready: Sequence[TaskPlan]) -> str:
            return top + "".join(map(task_yaml, ready)) + settings

        return Benchmark(plans, chosen_tasks(plans, tasks), text, {ACCELERATE: FSDP2})


def trained(checkpoint: str, epochs: int, about: str) -> str:
    """The sections `model` and `optimization` for a checkpoint; `about` are lines of comment above
    it.
    """
    return _TRAINED.format(checkpoint=checkpoint, epochs=epochs, about=about)


def head(template: str, choices: Choices, **others: str | int) -> str:
    """The top of a recipe, with what was chosen: seed, policy for missing images, tokens."""
    policy = "drop" if choices.on_missing_image == "drop" else "error"
    tokens = "conversations are whole; the trainer cuts them at max_length."
    if choices.max_tokens is not None:
        tokens = f"conversations end before the turn that would exceed {choices.max_tokens} tokens."
    return template.format(seed=choices.seed, policy=policy, tokens=tokens, **others)
