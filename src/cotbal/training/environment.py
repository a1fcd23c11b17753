"""Environment variables that a driver sets for the processes of its runs."""

from __future__ import annotations

PARENT = "COTBAL_PARENT"  # process that a worker must not outlive
# If set, a worker saves a checkpoint at SIGTERM and exits with the code STOPPED.
PREEMPTIBLE = "COTBAL_PREEMPTIBLE"
