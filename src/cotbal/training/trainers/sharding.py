"""Runs whose model is sharded by a configuration of accelerate: FSDP2, DeepSpeed ZeRO."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import torch
from accelerate.utils import AutocastKwargs, convert_outputs_to_fp32
from accelerate.utils.modeling import get_mixed_precision_context_manager
from torch import nn
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from cotbal.recipe.accelerate_file import of_environment, reject_unsupported


def validate_environment() -> None:
    """Validate what `accelerate launch` has put into the environment, before anything is loaded.

    Also overrides what the recipe decides (precision, accumulation, clipping), and has every rank
    load the whole model. With `fsdp_cpu_ram_efficient_loading` ranks but the first would hold a
    model without values: they could not answer after the training, and accelerate 1.15 identifies
    parameters by their address in memory, which such parameters lack.

    Raises:
        CotbalError: it shards models in a way that is not supported.
    """
    sharing = of_environment(os.environ)
    reject_unsupported(sharing)
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


def settle_sharding(trainer: Any, dtype: str) -> None:
    """Set what the configuration leaves open, so that results do not depend on the machine.

    Args:
        trainer: of transformers, with its model still whole.
        dtype: in which the model computes.

    Raises:
        CotbalError: a model in four bits.
    """
    sharing = of_environment(os.environ)
    reject_unsupported(sharing, getattr(trainer.model, "is_quantized", False))
    if trainer.is_fsdp_enabled:
        _settle_fsdp2(trainer)
    elif trainer.is_deepspeed_enabled:
        _settle_zero(trainer, dtype)


def _settle_fsdp2(trainer: Any) -> None:
    plugin = trainer.accelerator.state.fsdp_plugin
    _compute_by_autocast(trainer)
    # Or every rank would hold gradients of the whole model until the last micro-batch.
    trainer.accelerator.gradient_state.plugin_kwargs["sync_each_batch"] = True
    plugin.set_state_dict_type("SHARDED_STATE_DICT")
    if plugin.transformer_cls_names_to_wrap is None:
        plugin.transformer_cls_names_to_wrap = layer_classes(trainer.model)


def _compute_by_autocast(trainer: Any) -> None:
    """Compute as in a run that is not sharded: trained parameters in float32, and autocast.

    accelerate would have FSDP2 cast everything to bfloat16, sums of gradients over ranks too.
    """
    accelerator = trainer.accelerator
    accelerator.state.fsdp_plugin.mixed_precision_policy = None
    # Autocast would otherwise keep a cast copy of every parameter until the forward pass ends.
    accelerator.autocast_handler = AutocastKwargs(cache_enabled=False)
    if accelerator.native_amp:
        cast = get_mixed_precision_context_manager(True, accelerator.autocast_handler)
        trainer.model.forward = convert_outputs_to_fp32(cast(trainer.model.forward))


def _settle_zero(trainer: Any, dtype: str) -> None:
    """As `_compute_by_autocast`: in bfloat16 DeepSpeed would cast all parameters, so it is set to
    float32.

    Inside its engine only an autocast of the model's own forward has an effect, and accelerate has
    none under DeepSpeed.
    """
    if dtype == "bfloat16":
        cast = partial(
            torch.autocast, trainer.accelerator.device.type, torch.bfloat16, cache_enabled=False
        )
        trainer.model.forward = convert_outputs_to_fp32(cast()(trainer.model.forward))
        trainer.accelerator.autocast = cast  # for the checks before the training
    # Or transformers would also partition the models that are loaded after the training.
    unset_hf_deepspeed_config()


def layer_classes(model: nn.Module) -> list[str]:
    """Class names of the layers that must not be split, as the model names them.

    LLaVA-1.5 also names layers of CLIP's text model, which it does not have and which would be an
    error in accelerate.
    """
    present = {type(module).__name__ for module in model.modules()}
    return sorted(set(getattr(model, "_no_split_modules", None) or ()) & present)
