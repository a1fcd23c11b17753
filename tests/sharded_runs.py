"""Runs of a recipe on two ranks under FSDP2, all in one launch, which is this file as a script.

python sharded_runs.py DIRECTORY LIST        LIST: JSON, a list of [job file, calls of `stop` until it says so]
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor

from cotbal import entry, training, worker
from cotbal.ranks import Ranks

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


def on_gloo() -> None:
    """accelerate turns FSDP on in launches on GPUs and the like only; gloo can shard over CPUs as well."""
    create = training.TaskWeightedTrainer.create_accelerator_and_postprocess

    def created(self: Any) -> None:
        self.args.distributed_state.distributed_type = DistributedType.MULTI_GPU
        create(self)

    training.TaskWeightedTrainer.create_accelerator_and_postprocess = created


def sharing(out: list[float]) -> None:
    """Note what part of the parameters this rank holds when a training ends."""
    save = training._save

    def saved(trainer: Any, *args: Any) -> None:
        parameters = list(trainer.model.parameters())
        here = sum((p.to_local() if isinstance(p, DTensor) else p).numel() for p in parameters)
        out.append(here / sum(p.numel() for p in parameters))
        save(trainer, *args)

    training._save = saved


def after(calls: int | None, rank: int) -> Callable[[], bool]:
    """`stop` of one rank."""
    asked = [0]

    def stop() -> bool:
        asked[0] += 1
        return calls is not None and rank == 1 and asked[0] >= calls

    return stop


def rank(number: int, directory: Path, runs: list[tuple[str, int | None]]) -> None:
    """One of two ranks, with what a launcher would put into its environment."""
    os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", **LAUNCHED}
    torch.distributed.init_process_group("gloo", init_method=f"file://{directory}/store", rank=number, world_size=2)
    entry.join = lambda: Ranks(number, 2, None)
    on_gloo()
    parts: list[float] = []
    sharing(parts)
    ended = []
    for job, calls in runs:
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
    listed = [(job, calls) for job, calls in json.loads(sys.argv[2])]
    # Forked, so that transformers is imported once for both.
    torch.multiprocessing.start_processes(rank, (Path(sys.argv[1]), listed), 2, start_method="fork")
