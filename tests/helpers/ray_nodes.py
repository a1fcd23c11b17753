"""A Ray cluster of two nodes on this machine, in a process that follows the commands on its
standard input.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from types import TracebackType
from typing import Any

import psutil

QUICK = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 4,
}
# The GPU is one in name only.
NODE = {"num_cpus": 4, "num_gpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
ATTEMPTS = 3  # nodes have half a minute or two to start, which a busy machine may not have


class RayDidNotStart(Exception):
    """On this machine, or not in time."""


class RayNodes:
    """The cluster, while the block runs: a head and a second node, which both can be lost."""

    def __enter__(self) -> RayNodes:
        from cotbal.jobs.executors.ray import (
            PATIENCE,
        )  # not before conftest has set up how modules are imported

        for _ in range(ATTEMPTS):
            self.process = subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={
                    **os.environ,
                    **PATIENCE,
                    "RAY_USAGE_STATS_ENABLED": "0",
                    "CUDA_VISIBLE_DEVICES": "0",
                },
            )
            self.address = self._line()
            if self.address:
                return self
            self.__exit__()
        raise RayDidNotStart(f"it did not start in {ATTEMPTS} attempts")

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()

    def lose(self) -> None:
        """The second node dies at once, with all that runs on it as far as Ray can."""
        self._tell("lose")

    def add(self) -> None:
        """There is a second node again."""
        self._tell("add")

    def lose_head(self) -> None:
        """The head and its node die at once, and nothing brings them back."""
        self._tell("lose head")

    def _tell(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        assert self._line() == "done"

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what Ray says is no answer
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "_system_config": QUICK})
    try:
        second = cluster.add_node(**NODE)
        print(cluster.address, file=answers)
        for line in sys.stdin:
            if line.strip() == "lose head":
                kill(cluster.head_node)
                print("done", file=answers)
                sys.stdin.read()
                kill(second)
                os._exit(0)  # nothing is left that could be shut down in order
            elif line.strip() == "lose":
                cluster.remove_node(second, allow_graceful=False)
            else:
                second = cluster.add_node(**NODE)
            print("done", file=answers)
    finally:
        cluster.shutdown()


def kill(node: Any) -> None:
    """As if it lost its power, the tasks of its node included."""
    for started in (one.process.pid for kind in node.all_processes.values() for one in kind):
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(started)
            for one in [*process.children(), process]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()


if __name__ == "__main__":
    main()
