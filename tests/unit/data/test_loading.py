"""Processes that make batches ahead of whoever takes them."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch

from cotbal.data.batches.loading import BESIDE_A_GPU, made, processes, sentence
from cotbal.errors import DataError
from helpers.errors import raises


def test_batches_come_in_the_order_that_was_asked_for_from_other_processes() -> None:
    batches = list(made(range(7), lambda item: (item * item, os.getpid()), 2))
    assert [square for square, _ in batches] == [0, 1, 4, 9, 16, 25, 36]
    makers = {process for _, process in batches}
    assert len(makers) == 2
    assert os.getpid() not in makers


def test_without_processes_they_are_made_here() -> None:
    assert list(made([3], lambda item: (item, os.getpid()), 0)) == [(3, os.getpid())]


def test_a_signal_to_the_whole_job_does_not_end_them(tmp_path: Path) -> None:
    """A scheduler tells every process of a job to stop; the training still needs the batches of its
    step.
    """

    def make(item: int) -> int:
        if item == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return item

    before = signal.getsignal(signal.SIGTERM)
    assert list(made(range(4), make, 1)) == [0, 1, 2, 3]
    assert signal.getsignal(signal.SIGTERM) is before, "the handler of this process is restored"


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_is_the_same_in_a_worker(workers: int) -> None:
    def make(item: int) -> int:
        message = f"record {item} (r{item}): there is no image cotbal.errors: a.png"
        raise DataError(message, "missing-image")

    before = multiprocessing.active_children()  # of other tests
    with raises(DataError, "missing-image") as problem:
        list(made([5], make, workers))
    assert str(problem.value) == "record 5 (r5): there is no image cotbal.errors: a.png"
    assert set(multiprocessing.active_children()) <= set(before), (
        "who holds on to the error does not hold on to processes"
    )


def test_the_message_of_an_error_in_the_loader_of_the_trainer() -> None:
    """As the Trainer's, which hands over what the process wrote of it."""
    text = (
        "Caught DataError in DataLoader worker process 0.\nTraceback\n "
        " ...\ncotbal.errors.DataError: no a.png\n"
    )
    assert sentence(DataError(text)) == "no a.png"


def test_the_message_of_other_errors() -> None:
    assert sentence(ValueError("builtins.ValueError: twice")) == "builtins.ValueError: twice"


def test_a_recipe_may_say_how_many_and_a_gpu_gets_some(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, default in ((True, BESIDE_A_GPU), (False, 0)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert processes(None) == default
        assert processes(3) == 3
        assert processes(0) == 0
