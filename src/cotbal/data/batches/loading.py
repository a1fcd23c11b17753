"""Batches are made by processes beside the one that trains or answers, so that a GPU need not wait
for images.

What a batch holds does not depend on who makes it, and batches come in the order in which they were
asked for: the number of processes changes no result.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, get_worker_info

from cotbal.errors import CotbalError

BESIDE_A_GPU = 4  # processes per rank, as in LLaVA's own scripts
START = "fork"  # collators hold processors and functions that no other way can hand over

Item = TypeVar("Item")
Batch = TypeVar("Batch")


def processes(wanted: int | None) -> int:
    """How many a rank has: what the recipe says (`resources.dataloader_workers`), or some where
    there is a GPU.
    """
    return wanted if wanted is not None else BESIDE_A_GPU * torch.cuda.is_available()


def made(items: Sequence[Item], make: Callable[[Item], Batch], workers: int) -> Iterator[Batch]:
    """`make(item)` for every item, in their order, `workers` of them ahead of whoever takes them.

    Raises:
        CotbalError: that of `make`, in its own sentence.
    """
    if not workers:
        yield from map(make, items)
        return
    options: dict[str, Any] = {"num_workers": workers, "multiprocessing_context": START}
    dataset: Any = items  # whatever has a length and places will do
    loader: Any = iter(DataLoader(dataset, batch_size=None, collate_fn=steady(make), **options))
    try:
        yield from loader
    except CotbalError as error:
        raise type(error)(sentence(error), error.code) from None
    finally:
        # at once, and not when nobody holds on to the error and its traceback any more
        loader._shutdown_workers()


def steady(make: Callable[[Any], Batch]) -> Callable[[Any], Batch]:
    """`make` for a process of a loader, which a signal to the whole job must not end.

    Where a scheduler tells a job to save and stop, every process of it gets the signal. Those of
    the loader leave with the training; if they left first, it could not reach the end of its step.
    """

    def steadily(item: Any) -> Batch:
        if get_worker_info() is not None:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return make(item)

    return steadily


def sentence(error: BaseException) -> str:
    """What an exception says; of an error in a process of a loader, which comes as a traceback, its
    end.
    """
    name = f"{type(error).__module__}.{type(error).__name__}: "
    return str(error).rpartition(name)[2].strip() if isinstance(error, CotbalError) else str(error)
