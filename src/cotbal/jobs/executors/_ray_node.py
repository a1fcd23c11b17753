"""What Ray does on a node for a job: start its command and watch over it. Texts and numbers go in
and out.
"""

from __future__ import annotations

import platform
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from cotbal.jobs.executors import PREEMPTIBLE
from cotbal.jobs.executors._command import SAVE_SECONDS, start, stop

ADDRESS, PORT = "{address of node 0}", "{port of node 0}"  # filled in on the node
NOT_STARTED = 127  # as a shell says it
Ended = tuple[int, float, str]


def meeting() -> tuple[str, str]:
    """Address of this node, and a port of it that is free: where the ranks of a run find each
    other.
    """
    import ray

    with socket.socket() as one:
        one.bind(("", 0))
        return ray.util.get_node_ip_address(), str(one.getsockname()[1])


def do(
    argv: Sequence[str], directory: str, environment: Mapping[str, str], met: tuple[str, str] | None
) -> Ended:
    """Carry out a command on this node.

    Args:
        argv: with `ADDRESS` and `PORT` where the run spans several nodes.
        directory: of the job, the same on all nodes.
        environment: variables beside those of the node.
        met: what `meeting` said on node 0.

    Returns:
        Exit code, seconds, and why it could not start.
    """
    address, port = met or ("", "")
    command = [part.replace(ADDRESS, address).replace(PORT, port) for part in argv]
    started = time.monotonic()
    try:
        process = start(command, Path(directory), {**environment, PREEMPTIBLE: "1"})
    except OSError as error:
        return NOT_STARTED, 0.0, f"could not start on {platform.node()}: {error}"
    try:
        while process.poll() is None:
            time.sleep(0.1)  # no wait(): Ray calls a task back between two lines of Python
    finally:
        stop([process], SAVE_SECONDS)
    return process.returncode, time.monotonic() - started, ""
