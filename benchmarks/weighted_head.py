"""Time and memory of the weighted head: all logits, those of valid tokens, and chunks of them.

    python benchmarks/weighted_head.py

Measures everything from the last hidden states to the gradients of these states and of the head's
weight, in float32 and one thread. Every round runs each variant once, in a new order, and compares
its loss and gradients with those of all logits. A ratio is the median over the rounds of quotients
within a round. Time is CPU time, so a shared machine disturbs it little. Memory is the rise of the
process above what it held before the forward pass, gradients included. Linux only.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import platform
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from cotbal.loss import token_losses
from cotbal.training.trainers.chunked_loss import Finish, Tokens, any_head, linear_head

TOLERANCE = 1e-5  # of loss and gradients, relative: rounding of float32
TASKS = 8


@dataclass(frozen=True)
class Shape:
    """Width, vocabulary, positions, and the fraction of them with a label."""

    features: int
    words: int
    positions: int
    valid: float


SHAPES = {
    "576 x 49,152, 14 % valid": Shape(576, 49_152, 2048, 0.142),
    "1,024 x 32,000, 31 % valid": Shape(1024, 32_000, 4096, 0.311),
    "tiny": Shape(16, 300, 200, 0.25),
}


@dataclass(frozen=True)
class Case:
    """Hidden states of all positions, the head, and the tokens to predict."""

    hidden: Tensor
    head: nn.Linear
    mask: Tensor
    targets: Tensor
    factors: Tensor


def case_of(shape: Shape) -> Case:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(shape.positions, shape.features, generator=generator)
    head = nn.Linear(shape.features, shape.words, bias=False)
    with torch.no_grad():
        head.weight.normal_(0, shape.features**-0.5, generator=generator)
    mask = torch.rand(shape.positions, generator=generator) < shape.valid
    valid = int(mask.sum())
    weights = torch.rand(TASKS, generator=generator) + 0.5
    tasks = torch.randint(0, TASKS, (valid,), generator=generator)
    targets = torch.randint(0, shape.words, (valid,), generator=generator)
    return Case(hidden.requires_grad_(), head, mask, targets, weights[tasks] / valid)


def all_logits(case: Case) -> Tensor:
    """As the code of the paper: losses of all positions, then those with a label."""
    targets, factors = (torch.zeros(case.mask.shape, dtype=kind) for kind in (torch.long, None))
    targets[case.mask], factors[case.mask] = case.targets, case.factors
    return (token_losses(case.head(case.hidden), targets) * factors).sum()


def valid_logits(case: Case) -> Tensor:
    """The plain form of the trainer."""
    losses = token_losses(case.head(case.hidden[case.mask]), case.targets)
    return (losses * case.factors).sum()


def chunks(case: Case) -> Tensor:
    """What the trainer computes."""
    tokens = Tokens(case.targets, case.factors, True)
    carrier, losses = linear_head(case.hidden[case.mask], case.head, Finish(), tokens)
    return carrier + (losses * case.factors).sum()


def chunks_by_autograd(case: Case) -> Tensor:
    """What the self-check compares it with."""
    tokens = Tokens(case.targets, case.factors, True)
    carrier, losses = any_head(case.hidden[case.mask], case.head, case.head, tokens)
    return carrier + (losses * case.factors).sum()


VARIANTS: dict[str, Callable[[Case], Tensor]] = {
    "all logits": all_logits,
    "valid logits": valid_logits,
    "chunks": chunks,
    "chunks by autograd": chunks_by_autograd,
}


@dataclass(frozen=True)
class Result:
    """CPU seconds, MiB at most, loss and gradients."""

    seconds: float
    mib: float
    values: list[Tensor]


def measure(case: Case, variant: str) -> Result:
    """One forward and backward pass."""
    parameters = [case.hidden, case.head.weight]
    for parameter in parameters:
        parameter.grad = None
    before, started = settled_memory(), time.process_time()
    loss = VARIANTS[variant](case)
    loss.backward()
    seconds, rise = time.process_time() - started, status("VmHWM") - before
    values = [loss.detach(), *(p.grad for p in parameters if p.grad is not None)]
    return Result(seconds, rise, values)


def settled_memory() -> float:
    """MiB now, after free memory has gone back to the system; also where the peak starts again."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return status("VmRSS")


def status(field: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (kib,) = (line.split()[1] for line in lines if line.startswith(f"{field}:"))
    return int(kib) / 1024


def compare(values: list[Tensor], expected: list[Tensor]) -> None:
    """Loss and gradients of a variant with those of all logits."""
    for value, other in zip(values, expected, strict=True):
        distance = float((value - other).norm() / other.norm())
        assert distance <= TOLERANCE, f"differs by {distance:.1e}"


def table(shape: str, rounds: int) -> None:
    """Measure and print one shape."""
    order, case = random.Random(0), case_of(SHAPES[shape])
    expected = measure(case, "all logits").values
    results: dict[str, list[Result]] = {name: [] for name in VARIANTS}
    for _ in range(rounds):
        for name in order.sample(list(VARIANTS), len(VARIANTS)):
            result = measure(case, name)
            compare(result.values, expected)
            results[name].append(replace(result, values=[]))
    print(f"\n{shape}\n\n| variant | CPU s | ratio | peak MiB | ratio |\n|---|---|---|---|---|")
    base = results["all logits"]
    for name, rows in results.items():
        ratios = sorted(a.seconds / b.seconds for a, b in zip(rows, base, strict=True))
        seconds, mib = median(row.seconds for row in rows), max(row.mib for row in rows)
        memory = mib / max(row.mib for row in base)
        spread = f"{median(ratios):.3f} [{ratios[0]:.3f}, {ratios[-1]:.3f}]"
        print(f"| {name} | {seconds:.2f} | {spread} | {mib:.0f} | {memory:.3f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shapes", nargs="*", default=[name for name in SHAPES if name != "tiny"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{platform.machine()}, torch {torch.__version__}, one thread, {options.rounds} rounds")
    for shape in options.shapes:
        table(shape, options.rounds)


if __name__ == "__main__":
    main()
