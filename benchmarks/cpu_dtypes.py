"""How much slower is bfloat16 than float32 on this CPU? One linear layer, both types in turn, one
thread.

    python benchmarks/cpu_dtypes.py

The layer is the widest of SmolLM2-135M (576 to 1536) on eight rows of 110 tokens, the language
model of `stamps`. CPUs without instructions for bfloat16 emulate it; `torch.backends.mkldnn` says
nothing about that, so measure.
"""

from __future__ import annotations

import argparse
import platform
import time
from statistics import median

import torch
from torch.nn.functional import linear

ROWS, INWARD, OUTWARD = 8 * 110, 576, 1536


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=15, help="measurements of each type")
    pairs = parser.parse_args().pairs
    torch.set_num_threads(1)
    seconds: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    for _ in range(pairs + 1):
        for dtype, times in seconds.items():
            times.append(timed(dtype))
    ratios = sorted(
        slow / fast for fast, slow in zip(*(times[1:] for times in seconds.values()), strict=True)
    )
    print(
        f"{platform.processor() or platform.machine()}, torch {torch.__version__}, one thread,"
        f" {pairs} pairs:"
    )
    print(
        f"bfloat16 takes {median(ratios):.1f} times as long as float32 [{ratios[0]:.1f},"
        f" {ratios[-1]:.1f}]"
    )


def timed(dtype: torch.dtype) -> float:
    """Seconds of one product."""
    rows, weight = torch.randn(ROWS, INWARD).to(dtype), torch.randn(OUTWARD, INWARD).to(dtype)
    started = time.perf_counter()
    linear(rows, weight)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
