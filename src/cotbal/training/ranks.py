"""The processes of one run: who writes, what they agree on, and when they stop together."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed

from cotbal.training.environment import PARENT, PREEMPTIBLE

PATIENCE = timedelta(
    hours=2
)  # ranks wait for the slowest answers, and for rank 0 while it writes a large model

T = TypeVar("T")


class Stopped(Exception):
    """The run was asked to stop, and what it has reached is on disk."""


@dataclass(frozen=True)
class Ranks:
    """This process among those of its run.

    Attributes:
        rank: its number, from 0.
        size: how many there are.
        group: over which they talk, on CPUs; None for one.
    """

    rank: int = 0
    size: int = 1
    group: Any = None

    @property
    def main(self) -> bool:
        """Whether this one writes."""
        return self.rank == 0

    def agreed(self, value: T) -> T:
        """The value that rank 0 has."""
        if self.size == 1:
            return value
        held = [value]
        distributed.broadcast_object_list(held, src=0, group=self.group)
        return held[0]

    def gathered(self, value: T) -> list[T]:
        """The values of all ranks, by rank."""
        if self.size == 1:
            return [value]
        held: list[Any] = [None] * self.size
        distributed.all_gather_object(held, value, group=self.group)
        return held

    def any(self, flag: bool) -> bool:
        """Whether it is so on some rank."""
        return any(self.gathered(flag))

    def wait(self) -> None:
        """Until every rank is here."""
        if self.size > 1:
            distributed.barrier(group=self.group)


ALONE = Ranks()


def join() -> Ranks:
    """Meet the others, if a launcher says in the environment that there are any; each takes a GPU
    of its own.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    gpus = torch.cuda.is_available()
    if gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if gpus else "gloo", timeout=PATIENCE)
    group = distributed.new_group(backend="gloo", timeout=PATIENCE)
    return Ranks(distributed.get_rank(), distributed.get_world_size(), group)


def is_of_another(error: BaseException) -> bool:
    """Whether an exception only says that another rank is gone; that one knows why."""
    return isinstance(error, distributed.DistError) or any(
        word in str(error) for word in ("gloo", "NCCL")
    )


def leave_with_parent() -> None:
    """End when the driver is gone, or the launcher: nobody would read the result, and a successor
    needs the place.
    """
    driver = os.environ.get(PARENT)
    if driver is None:
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent and _is_there(int(driver)):
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def stop_signal() -> Callable[[], bool]:
    """Whether SIGTERM came, where the executor said that it means: save, and leave the place to
    somebody else.
    """
    asked = threading.Event()
    if PREEMPTIBLE in os.environ:
        signal.signal(signal.SIGTERM, lambda *_: asked.set())
    return asked.is_set
