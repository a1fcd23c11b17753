"""What the runs of a recipe ask of a configuration of accelerate that shares the model out over ranks: FSDP2."""

from __future__ import annotations

import os
from typing import Any

from accelerate.utils import AutocastKwargs
from torch import nn
from torch.distributed.fsdp import CPUOffloadPolicy

from cotbal.errors import CotbalError

FIELD = "resources.accelerate_config"


def refuse_other_sharding() -> None:
    """Look at what `accelerate launch` has put into the environment, before anything is loaded.

    Also has every rank load the whole model into its own memory: of models that ranks but the first hold without values
    (`fsdp_cpu_ram_efficient_loading`), accelerate cannot tell the parameters apart, and cannot fill buffers.

    Raises:
        CotbalError: DeepSpeed, or the first version of FSDP.
    """
    if _is_on("ACCELERATE_USE_DEEPSPEED"):
        raise CotbalError(
            f"{FIELD}: expected plain data parallelism or FSDP2; found DeepSpeed, with which nobody has tried the runs "
            "of a recipe. FSDP2 shares out as much (distributed_type: FSDP, fsdp_version: 2)"
        )
    if _is_on("ACCELERATE_USE_FSDP") and os.environ.get("FSDP_VERSION", "1") != "2":
        raise CotbalError(
            f"{FIELD}: expected fsdp_version: 2 in fsdp_config; found FSDP in its first version, which flattens the "
            "parameters, so that weights of tasks could not be checked nor parts frozen one by one"
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
    # Parameters are gathered as they are, trained ones in float32, and autocast computes in bfloat16, as it does in a
    # run that is not sharded; accelerate's policy would round parameters and summed gradients as well.
    plugin.mixed_precision_policy = None
    # Autocast would otherwise keep a cast copy of every parameter of the model until the forward pass ends.
    trainer.accelerator.autocast_handler = AutocastKwargs(cache_enabled=False)
    # Or gradients of the whole model would pile up on every rank until the last micro-batch.
    trainer.accelerator.gradient_state.plugin_kwargs["sync_each_batch"] = True
    plugin.set_state_dict_type("SHARDED_STATE_DICT")
    if plugin.transformer_cls_names_to_wrap is None:
        plugin.transformer_cls_names_to_wrap = layer_classes(trainer.model)


def layer_classes(model: nn.Module) -> list[str]:
    """Names of the classes that the model says are to stay in one piece (its layers), as far as it has any of them.

    LLaVA-1.5 names layers of CLIP's text model too, which it does not have; accelerate would stop there.
    """
    present = {type(module).__name__ for module in model.modules()}
    return sorted(set(getattr(model, "_no_split_modules", None) or ()) & present)
