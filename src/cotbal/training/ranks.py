"""The processes of one run: their ranks, and when they stop."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed

from cotbal.training.environment import PREEMPTIBLE

# Ranks wait for the slowest answers, and for rank 0 while it writes a large model.
TIMEOUT = timedelta(hours=2)

T = TypeVar("T")


class Stopped(Exception):
    """The run received a signal to stop and has saved a checkpoint."""


@dataclass(frozen=True)
class Ranks:
    """This process among those of its run.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
        group: of processes, communicating on CPUs; None for one process.
    """

    rank: int = 0
    size: int = 1
    group: Any = None

    @property
    def main(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def agreed(self, value: T) -> T:
        """The value of rank 0."""
        if self.size == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, src=0, group=self.group)
        return values[0]

    def gathered(self, value: T) -> list[T]:
        """The values of all ranks, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value, group=self.group)
        return values

    def any(self, flag: bool) -> bool:
        """Whether `flag` is set on some rank."""
        return any(self.gathered(flag))

    def wait(self) -> None:
        """Wait until every rank calls this."""
        if self.size > 1:
            distributed.barrier(group=self.group)


ALONE = Ranks()


def join() -> Ranks:
    """Join the process group of the launcher, if there is one; each process takes one GPU."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    gpus = torch.cuda.is_available()
    if gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if gpus else "gloo", timeout=TIMEOUT)
    group = distributed.new_group(backend="gloo", timeout=TIMEOUT)
    return Ranks(distributed.get_rank(), distributed.get_world_size(), group)


def is_of_another(error: BaseException) -> bool:
    """Whether an exception only reports that another rank has failed."""
    return isinstance(error, distributed.DistError) or any(
        word in str(error) for word in ("gloo", "NCCL")
    )


def stop_signal() -> Callable[[], bool]:
    """Whether SIGTERM was received, for executors whose jobs are preempted by it."""
    received = threading.Event()
    if PREEMPTIBLE in os.environ:
        signal.signal(signal.SIGTERM, lambda *_: received.set())
    return received.is_set
