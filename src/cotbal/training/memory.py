"""Memory that this process has used at its peak, and how much there is."""

from __future__ import annotations

import os
import resource
import sys

import torch


def peak_memory_mib() -> int:
    """Of the GPU, as PyTorch has reserved it, or else of the process on this machine."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_reserved()) // 1024**2
    return peak_process_mib()


def peak_process_mib() -> int:
    """Of the process, in the memory of this machine."""
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib // 1024 if sys.platform != "darwin" else kib // 1024**2


def memory_mib() -> int:
    """Memory of the GPU, or else of this machine."""
    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory) // 1024**2
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1024**2
