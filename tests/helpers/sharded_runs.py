"""Runs of a recipe on two ranks under FSDP2 or DeepSpeed, all in one launch, which is this file as
a script.

python sharded_runs.py DIRECTORY LIST

LIST: JSON, a list of [job file, calls of `stop` until it says so, stage of ZeRO, or 0 for FSDP2]
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor

from cotbal.jobs import entry, worker
from cotbal.training import train as training
from cotbal.training.ranks import Ranks
from cotbal.training.trainers.trained_weights import is_partitioned, size_of

# What `accelerate launch` makes of the accelerate.yaml that `cotbal prepare academic` writes.
LAUNCHED = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_OFFLOAD_PARAMS": "false",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
}

# And of one with `distributed_type: DEEPSPEED` and a `zero_stage`, with accelerate's defaults.
LAUNCHED_ZERO = {
    "ACCELERATE_USE_DEEPSPEED": "true",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1",
    "ACCELERATE_GRADIENT_CLIPPING": "1.0",
    "ACCELERATE_DEEPSPEED_ZERO3_INIT": "true",
    "ACCELERATE_MIXED_PRECISION": "bf16",
}


def environment(stage: int) -> dict[str, str]:
    """Of a rank, for a stage of ZeRO or for FSDP2 (0)."""
    if not stage:
        return {**LAUNCHED, "ACCELERATE_USE_DEEPSPEED": "false"}
    return {
        **LAUNCHED_ZERO,
        "ACCELERATE_DEEPSPEED_ZERO_STAGE": str(stage),
        "ACCELERATE_USE_FSDP": "false",
    }


def without_compiling() -> None:
    """DeepSpeed would compile a faster sum over ranks of one machine; without it, it sums by
    gloo."""
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def on_gloo() -> None:
    """accelerate turns FSDP on in launches on GPUs and the like only; gloo can shard over CPUs as
    well.
    """
    create = training.TaskWeightedTrainer.create_accelerator_and_postprocess

    def created(self: Any) -> None:
        if os.environ["ACCELERATE_USE_FSDP"] == "true":
            self.args.distributed_state.distributed_type = DistributedType.MULTI_GPU
        create(self)

    training.TaskWeightedTrainer.create_accelerator_and_postprocess = created


def small_ones_too() -> None:
    """Stage 3 leaves parameters below a threshold whole, and all of a tiny model are below it."""
    settle = training.settle_sharding

    def settled(trainer: Any, dtype: str) -> None:
        settle(trainer, dtype)
        if trainer.is_deepspeed_enabled:
            plugin = trainer.accelerator.state.deepspeed_plugin
            plugin.deepspeed_config["zero_optimization"]["stage3_param_persistence_threshold"] = 0

    training.settle_sharding = settled


def _here(parameter: Any) -> int:
    if is_partitioned(parameter):
        return int(parameter.ds_tensor.numel())
    return int((parameter.to_local() if isinstance(parameter, DTensor) else parameter).numel())


def sharing(out: list[float]) -> None:
    """Note what part of the parameters this rank holds when a training ends."""
    save = training._save

    def saved(trainer: Any, *args: Any) -> None:
        parameters = list(trainer.model.parameters())
        out.append(sum(map(_here, parameters)) / sum(map(size_of, parameters)))
        save(trainer, *args)

    training._save = saved


def after(calls: int | None, rank: int) -> Callable[[], bool]:
    """`stop` of one rank."""
    asked = [0]

    def stop() -> bool:
        asked[0] += 1
        return calls is not None and rank == 1 and asked[0] >= calls

    return stop


def rank(number: int, directory: Path, runs: list[tuple[str, int | None, int]]) -> None:
    """One of two ranks, with what a launcher would put into its environment."""
    os.environ |= {
        "RANK": str(number),
        "LOCAL_RANK": str(number),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
    }
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    warnings.simplefilter("ignore", FutureWarning)  # DeepSpeed calls torch by names of its past
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{directory}/store", rank=number, world_size=2
    )
    entry.join = lambda: Ranks(number, 2, None)
    on_gloo()
    small_ones_too()
    without_compiling()
    parts: list[float] = []
    sharing(parts)
    ended = []
    for job, calls, stage in runs:
        os.environ |= environment(stage)
        entry.stop_signal = lambda calls=calls: after(calls, number)
        try:
            worker.main([job])
            ended.append("done")
        except SystemExit as stopped:
            ended.append(stopped.code)
        AcceleratorState._reset_state(reset_partial_state=True)
    (directory / f"rank{number}.json").write_text(json.dumps({"ended": ended, "parts": parts}))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    listed = [(job, calls, stage) for job, calls, stage in json.loads(sys.argv[2])]
    # Forked, so that transformers is imported once for both.
    torch.multiprocessing.start_processes(rank, (Path(sys.argv[1]), listed), 2, start_method="fork")
