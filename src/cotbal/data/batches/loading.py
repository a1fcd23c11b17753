"""Worker processes make batches, so that a GPU need not wait for images.

The number of workers changes no result: batches and their order do not depend on it.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, get_worker_info

from cotbal.errors import CotbalError

BESIDE_A_GPU = 4  # processes per rank, as in LLaVA's own scripts
START = "fork"  # collators hold processors and functions that no other way can hand over

Item = TypeVar("Item")
Batch = TypeVar("Batch")


def processes(wanted: int | None) -> int:
    """Workers per rank: `resources.dataloader_workers`, or some where there is a GPU."""
    return wanted if wanted is not None else BESIDE_A_GPU * torch.cuda.is_available()


def made(items: Sequence[Item], make: Callable[[Item], Batch], workers: int) -> Iterator[Batch]:
    """`make(item)` for every item, in their order, made ahead by `workers` processes.

    Raises:
        CotbalError: that of `make`.
    """
    if not workers:
        yield from map(make, items)
        return
    options: dict[str, Any] = {"num_workers": workers, "multiprocessing_context": START}
    dataset: Any = items  # anything with a length and indices
    collate: Any = steady(partial(_made_or_error, make))
    loader: Any = iter(DataLoader(dataset, batch_size=None, collate_fn=collate, **options))
    try:
        for batch in loader:
            if isinstance(batch, CotbalError):
                raise batch
            yield batch
    finally:
        loader._shutdown_workers()  # at once, also while somebody holds the error


def _made_or_error(make: Callable[[Item], Batch], item: Item) -> Batch | CotbalError:
    """An error comes back as a value: the loader would make it a traceback without its code."""
    try:
        return make(item)
    except CotbalError as error:
        return error


def steady(make: Callable[[Any], Batch]) -> Callable[[Any], Batch]:
    """`make` for a worker of a loader, which a signal to the whole job must not end.

    A scheduler that asks a job to save and stop signals all its processes. Workers end with the
    training, which needs them to finish its step.
    """

    def steadily(item: Any) -> Batch:
        if get_worker_info() is not None:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return make(item)

    return steadily


def sentence(error: BaseException) -> str:
    """The message of an exception; that of a worker of a loader is the end of a traceback."""
    name = f"{type(error).__module__}.{type(error).__name__}: "
    return str(error).rpartition(name)[2].strip() if isinstance(error, CotbalError) else str(error)
