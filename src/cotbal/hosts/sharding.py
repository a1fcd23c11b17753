"""What the runs of a recipe ask of a configuration of accelerate that shares the model out over ranks: FSDP2."""

from __future__ import annotations

import os
from typing import Any

from accelerate.utils import AutocastKwargs, convert_outputs_to_fp32
from accelerate.utils.modeling import get_mixed_precision_context_manager
from torch import nn
from torch.distributed.fsdp import CPUOffloadPolicy

from cotbal.errors import CotbalError

FIELD = "resources.accelerate_config"


def refuse_other_sharding() -> None:
    """Look at what `accelerate launch` has put into the environment, before anything is loaded.

    Also has every rank load the whole model, then and for the answers after the training. Otherwise ranks but the first
    would hold a model without values (`fsdp_cpu_ram_efficient_loading`), nothing to answer with; and accelerate 1.15
    tells parameters apart by where they lie in memory, which such parameters do not.

    Raises:
        CotbalError: DeepSpeed, or the first version of FSDP.
    """
    if _is_on("ACCELERATE_USE_DEEPSPEED"):
        raise CotbalError(
            f"{FIELD}: expected plain data parallelism or FSDP2; found DeepSpeed, with which nobody has tried the runs "
            "of a recipe. FSDP2 shares out as much (distributed_type: FSDP, fsdp_version: 2)"
        )
    if not _is_on("ACCELERATE_USE_FSDP"):
        return
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise CotbalError(
            f"{FIELD}: expected fsdp_version: 2 in fsdp_config; found the first version of FSDP, with which nobody "
            "has tried the runs of a recipe"
        )
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"


def _is_on(name: str) -> bool:
    return os.environ.get(name, "false").lower() in ("true", "1")


def settle_sharding(trainer: Any) -> None:
    """Fix what FSDP2 leaves open, before the model is shared out; a run's result must not depend on where it runs.

    Args:
        trainer: of transformers, with its model still whole.

    Raises:
        CotbalError: a model in four bits, or parameters kept in the memory of CPUs.
    """
    if not trainer.is_fsdp_enabled:
        return
    plugin = trainer.accelerator.state.fsdp_plugin
    if getattr(trainer.model, "is_quantized", False):
        raise CotbalError(f"model.quantization: four bits are not shared out over ranks; leave {FIELD} out")
    if isinstance(plugin.cpu_offload, CPUOffloadPolicy):
        raise CotbalError(f"{FIELD}: expected fsdp_offload_params: false; parameters on CPUs are not supported")
    _compute_by_autocast(trainer)
    # Or gradients of the whole model would pile up on every rank until the last micro-batch.
    trainer.accelerator.gradient_state.plugin_kwargs["sync_each_batch"] = True
    plugin.set_state_dict_type("SHARDED_STATE_DICT")
    if plugin.transformer_cls_names_to_wrap is None:
        plugin.transformer_cls_names_to_wrap = layer_classes(trainer.model)


def _compute_by_autocast(trainer: Any) -> None:
    """Have the model compute as in a run that is not sharded: trained parameters in float32, the rest by autocast.

    accelerate has FSDP2 cast in its place: to bfloat16 everywhere, sums of gradients over ranks too.
    """
    accelerator = trainer.accelerator
    accelerator.state.fsdp_plugin.mixed_precision_policy = None
    # Autocast would otherwise keep a cast copy of every parameter of the model until the forward pass ends.
    accelerator.autocast_handler = AutocastKwargs(cache_enabled=False)
    if accelerator.native_amp:
        cast = get_mixed_precision_context_manager(True, accelerator.autocast_handler)
        trainer.model.forward = convert_outputs_to_fp32(cast(trainer.model.forward))


def layer_classes(model: nn.Module) -> list[str]:
    """Names of the classes that the model says are to stay in one piece (its layers), as far as it has any of them.

    LLaVA-1.5 names layers of CLIP's text model too, which it does not have; accelerate would stop there.
    """
    present = {type(module).__name__ for module in model.modules()}
    return sorted(set(getattr(model, "_no_split_modules", None) or ()) & present)
