"""What runs on a node of Ray: a command, in a process of its own.

Ray gives one task after another to a process of a node. Such a process keeps a server that has
imported the modules of the first task, and forks the commands of the next ones from it; the server
ends with the process.
"""

from __future__ import annotations

import platform
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from cotbal.jobs.executors import Job
from cotbal.jobs.executors._forks import Forked, Forks
from cotbal.jobs.executors.processes import (
    SAVE_SECONDS,
    forked_or_fresh,
    start,
    stop,
    uninterrupted,
)

ADDRESS, PORT = "{address of node 0}", "{port of node 0}"  # filled in on the node
NOT_STARTED = 127  # the exit code of a shell that does not find a program


def meeting() -> tuple[str, str]:
    """Runs on node 0: its address and a free port, where the ranks of a run find each other."""
    import ray

    with socket.socket() as free:
        free.bind(("", 0))
        return ray.util.get_node_ip_address(), str(free.getsockname()[1])


def do(
    command: Sequence[str],
    directory: str,
    environment: Mapping[str, str],
    imports: Sequence[str] = (),
    first: tuple[str, str] = ("", ""),
) -> tuple[int, float, str]:
    """Runs on a node: run a command until it ends or the task is cancelled.

    Args:
        command: with `ADDRESS` and `PORT` where the run spans several nodes.
        directory: of the job, the same on all nodes.
        environment: variables beside those of the node.
        imports: modules that the command imports, if it may be forked from a process that has them.
        first: what `meeting` returned on node 0.

    Returns:
        Exit code, seconds, and why it could not start.
    """
    address, port = first
    filled = tuple(part.replace(ADDRESS, address).replace(PORT, port) for part in command)
    job = Job(directory, Path(directory), filled, imports=tuple(imports))
    started = time.monotonic()
    running: list[subprocess.Popen[bytes] | Forked] = []
    try:
        with uninterrupted():
            running.append(forked_or_fresh(job, filled, environment, _servers()))
        while running[0].poll() is None or _is_lost(running[0]):
            if running[0].returncode is not None:
                with uninterrupted():
                    running[0] = start(filled, job.directory, environment)
            time.sleep(0.1)  # no wait(): Ray interrupts a task between two lines of Python
    except OSError as error:
        return NOT_STARTED, 0.0, f"could not start on {platform.node()}: {error}"
    finally:
        stop(running, SAVE_SECONDS)
    code = running[0].returncode
    assert code is not None
    return code, time.monotonic() - started, ""


@cache
def _servers() -> Forks:
    """Those of this process."""
    return Forks(shared=True)


def _is_lost(process: subprocess.Popen[bytes] | Forked) -> bool:
    return isinstance(process, Forked) and process.lost
