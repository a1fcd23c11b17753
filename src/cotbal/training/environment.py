"""Environment variables by which a driver steers the processes of its runs."""

from __future__ import annotations

PARENT = "COTBAL_PARENT"  # process that a worker must not outlive
# Set: at SIGTERM a worker saves a checkpoint and ends with the exit code STOPPED.
PREEMPTIBLE = "COTBAL_PREEMPTIBLE"
