"""What the runs of a recipe ask of a configuration of accelerate that shards the model: FSDP2,
DeepSpeed ZeRO.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import torch
from accelerate.utils import AutocastKwargs, convert_outputs_to_fp32
from accelerate.utils.modeling import get_mixed_precision_context_manager
from torch import nn
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from cotbal.recipe.accelerate_file import of_environment, refuse


def refuse_other_sharding() -> None:
    """Look at what `accelerate launch` has put into the environment, before anything is loaded.

    Also passes over what the recipe says itself: precision, accumulation and clipping. And has
    every rank load the whole model, then and for the answers after the training. Otherwise ranks
    but the first would hold a model without values (`fsdp_cpu_ram_efficient_loading`), nothing to
    answer with; and accelerate 1.15 tells parameters apart by where they lie in memory, which such
    parameters do not.

    Raises:
        CotbalError: it shares models out in a way that is not supported.
    """
    sharing = of_environment(os.environ)
    refuse(sharing)
    if sharing.by is None:
        return
    os.environ["ACCELERATE_MIXED_PRECISION"] = "no"
    if sharing.by == "fsdp":
        os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    else:
        os.environ |= {
            "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "auto",
            "ACCELERATE_GRADIENT_CLIPPING": "auto",
        }


def by_deepspeed() -> bool:
    """Whether the launcher of this process asked for DeepSpeed."""
    return of_environment(os.environ).by == "deepspeed"


def place() -> dict[str, Any]:
    """Arguments of the Trainer: GPUs where there are any.

    With a setting for CPUs accelerate would leave DeepSpeed out, so gloo alone is set.
    """
    gpus, zero = torch.cuda.is_available(), by_deepspeed()
    return {
        "use_cpu": not gpus and not zero,
        "ddp_backend": "gloo" if zero and not gpus else None,
        "dataloader_pin_memory": gpus,
    }


def settle_sharding(trainer: Any, dtype: str) -> None:
    """Fix what is left open, before the model is sharded; a run's result must not depend on
    where it runs.

    Args:
        trainer: of transformers, with its model still whole.
        dtype: in which the model is to compute.

    Raises:
        CotbalError: a model in four bits.
    """
    sharing = of_environment(os.environ)
    refuse(sharing, getattr(trainer.model, "is_quantized", False))
    if trainer.is_fsdp_enabled:
        _settle_fsdp2(trainer)
    elif trainer.is_deepspeed_enabled:
        _settle_zero(trainer, dtype)


def _settle_fsdp2(trainer: Any) -> None:
    plugin = trainer.accelerator.state.fsdp_plugin
    _compute_by_autocast(trainer)
    # Or gradients of the whole model would pile up on every rank until the last micro-batch.
    trainer.accelerator.gradient_state.plugin_kwargs["sync_each_batch"] = True
    plugin.set_state_dict_type("SHARDED_STATE_DICT")
    if plugin.transformer_cls_names_to_wrap is None:
        plugin.transformer_cls_names_to_wrap = layer_classes(trainer.model)


def _compute_by_autocast(trainer: Any) -> None:
    """Have the model compute as in a run that is not sharded: trained parameters in float32, the
    rest by autocast.

    accelerate has FSDP2 cast in its place: to bfloat16 everywhere, sums of gradients over ranks
    too.
    """
    accelerator = trainer.accelerator
    accelerator.state.fsdp_plugin.mixed_precision_policy = None
    # Autocast would otherwise keep a cast copy of every parameter of the model until the forward
    # pass ends.
    accelerator.autocast_handler = AutocastKwargs(cache_enabled=False)
    if accelerator.native_amp:
        cast = get_mixed_precision_context_manager(True, accelerator.autocast_handler)
        trainer.model.forward = convert_outputs_to_fp32(cast(trainer.model.forward))


def _settle_zero(trainer: Any, dtype: str) -> None:
    """As `_compute_by_autocast`, for DeepSpeed, which in bfloat16 would cast all parameters; so it
    is set to float32.

    Inside its engine only an autocast of the model's own forward counts, and accelerate has none
    under DeepSpeed.
    """
    if dtype == "bfloat16":
        cast = partial(
            torch.autocast, trainer.accelerator.device.type, torch.bfloat16, cache_enabled=False
        )
        trainer.model.forward = convert_outputs_to_fp32(cast()(trainer.model.forward))
        trainer.accelerator.autocast = cast  # for the checks before the training
    # or transformers would cut up the models that are loaded after the training, too
    unset_hf_deepspeed_config()


def layer_classes(model: nn.Module) -> list[str]:
    """Names of the classes that the model says are to stay in one piece (its layers), as far as it
    has any of them.

    LLaVA-1.5 names layers of CLIP's text model too, which it does not have; accelerate would stop
    there.
    """
    present = {type(module).__name__ for module in model.modules()}
    return sorted(set(getattr(model, "_no_split_modules", None) or ()) & present)
