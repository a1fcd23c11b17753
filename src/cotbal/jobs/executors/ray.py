"""A Ray cluster: one task per run, on a node that Ray chooses; without an address, a cluster for
this job alone.

Nothing is left behind: tasks end with the driver, and commands with their tasks. Rerunning the
command resumes from the checkpoints in the run directory, which all nodes must see under the same
path, as they must the Python.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from cotbal.errors import CotbalError, MissingDependency, RunsFailed
from cotbal.jobs.executors import (
    Attempts,
    Job,
    Outcome,
    Resources,
    log_tail,
    passed_on,
    thread_environment,
)
from cotbal.jobs.executors._ray_node import ADDRESS, NOT_STARTED, PORT, do, meeting
from cotbal.jobs.executors.processes import SAVE_SECONDS, available, failure, visible_gpus
from cotbal.jobs.launching import Node, is_launched, launched

OBJECTS = 80 * 2**20  # bytes for Ray's objects, of which there are none; about the minimum
QUIET = {"log_to_driver": False, "logging_level": logging.ERROR}
PATIENCE = {  # on a busy machine
    "RAY_raylet_start_wait_time_s": "120",
    "RAY_agent_register_timeout_ms": "120000",
}
ANSWER_SECONDS = 10.0
LOOK_SECONDS = 1.0
RECONNECT = "RAY_gcs_rpc_server_reconnect_timeout_s"  # Ray's own variable
FAREWELL_SECONDS = 5.0  # for tasks, where the head is lost and their nodes may be
ENDING_SECONDS = 20.0  # to notice that the head is lost, end tasks and shut down, on a busy machine
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass
class _Submitted:
    """A job in the cluster.

    Attributes:
        tasks: one per node, those that have not ended.
        group: the nodes of a run that spans several, else None.
    """

    attempts: Attempts
    tasks: list[Any]
    group: Any
    since: float = field(default_factory=time.monotonic)

    @property
    def job(self) -> Job:
        return self.attempts.job


def run(jobs: Sequence[Job], resources: Resources) -> Iterator[Outcome]:
    """Submit every job to the cluster, the longest first, and yield outcomes as they end.

    A job that was killed, or whose node was lost, is retried and resumes from its checkpoint.

    Raises:
        MissingDependency: Ray is not installed.
        CotbalError: the cluster does not answer, or the one made for this job can never hold a run.
        RunsFailed: the head of the cluster is lost.
    """
    if not jobs:
        return
    with _cluster(jobs, resources) as cluster:
        waiting = deque(Attempts(job) for job in sorted(jobs, key=lambda job: -job.cost))
        submitted: list[_Submitted] = []
        try:
            while waiting or submitted:
                while waiting and len(submitted) < (resources.workers or len(jobs)):
                    submitted.append(cluster.submit(waiting.popleft()))
                ended, code, seconds, message = cluster.next_end(submitted)
                if code == 0 and ended.tasks:
                    continue  # the other nodes of the run still work
                cluster.cancel([ended])
                submitted.remove(ended)
                verdict = ended.attempts.verdict(code)
                if verdict == "retry":
                    time.sleep(LOOK_SECONDS)  # what took the task may be about to take the head
                    waiting.appendleft(ended.attempts)
                    continue
                done = verdict == "done"
                yield Outcome(ended.job, done, seconds, "" if done else message)
        finally:
            cluster.cancel(submitted)


@contextmanager
def _cluster(jobs: Sequence[Job], resources: Resources) -> Iterator[_Cluster]:
    """The cluster, for as long as the block runs; this process is left as it was."""
    before, handler = set(os.environ), signal.getsignal(signal.SIGTERM)
    address = resources.address or os.environ.get("RAY_ADDRESS")
    shared = len(jobs) > 1
    try:
        ray = _imported(local=address is None)
        if ray.is_initialized():
            yield _Cluster(ray, resources, False, ray.get_runtime_context().gcs_address, shared)
            return
        _make(ray, jobs, resources) if address is None else _connect(ray, address)
        try:
            head = ray.get_runtime_context().gcs_address
            yield _Cluster(ray, resources, address is None, head, shared)
        finally:
            ray.shutdown()
    finally:
        for name in set(os.environ) - before:
            del os.environ[name]
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray installs its own


def _imported(local: bool) -> Any:
    """Ray, which reads its settings when it is imported."""
    settings = {"RAY_USAGE_STATS_ENABLED": "0"}
    if "ray" not in sys.modules:
        # Without a token, anybody on the network could run tasks.
        settings |= {"RAY_AUTH_MODE": "token", **PATIENCE}
    for name, value in settings.items() if local else ():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ModuleNotFoundError:
        raise MissingDependency("--on ray", "ray") from None
    return ray


def _make(ray: Any, jobs: Sequence[Job], resources: Resources) -> None:
    """A cluster of this machine, with as many cores as the jobs may use."""
    slots = available(resources, len(jobs))
    cores = max(len(slots.devices) * slots.threads, os.cpu_count() or 1)
    cores = max(cores, *(job.needs.cpus or 1 for job in jobs))
    options = {"num_cpus": cores, "include_dashboard": False, "object_store_memory": OBJECTS}
    try:
        ray.init("local", **options, **QUIET)
    except Exception as error:  # Ray has no class for it
        raise CotbalError(
            "--on ray: Ray did not start on this machine; try again when it is less busy, or use"
            f" --on processes ({_lines(error)[0]})",
            "cluster-not-started",
        ) from error


def _connect(ray: Any, address: str) -> None:
    """Raise before Ray does, which takes a minute for it."""
    try:
        _connection(address)
        ray.init(address, **QUIET)
    except (OSError, RuntimeError, ValueError) as error:
        raise CotbalError(
            "--address: expected host:port of the head of a Ray cluster, such as 10.0.0.1:6379,"
            f" that answers; found {address} ({_lines(error)[0]})",
            "no-answer",
        ) from None


def _connection(address: str) -> None:
    """Raise OSError or ValueError unless `host:port` accepts a connection."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()


def _answers(address: str) -> bool:
    with suppress(OSError):
        _connection(address)
        return True
    return False


@dataclass(frozen=True)
class _Cluster:
    """Submits jobs and waits for their ends.

    Attributes:
        ray: the module.
        local: whether it was made for this job, on this machine.
        head: `host:port` of its head.
        shared: whether there are jobs that would share the imports of a process.
    """

    ray: Any
    resources: Resources
    local: bool
    head: str
    shared: bool

    def submit(self, attempts: Attempts) -> _Submitted:
        """One task per node of the job; tasks without room wait in Ray's queue."""
        job, needs = attempts.job, attempts.job.needs
        room = self._room(job)
        self._need_head()
        self._check_room(room, needs.nodes)
        task = self.ray.remote(do)
        options = {
            "name": job.name,
            "num_cpus": room["CPU"],
            "num_gpus": room["GPU"],
            "memory": room.get("memory"),
            "max_retries": 0,
        }
        threads = thread_environment(self._threads(job))
        environment = passed_on() | threads | dict(self.resources.environment)
        imports = job.imports if self.shared and not is_launched(needs) else ()
        more = (str(job.directory.resolve()), environment, imports)
        if needs.nodes == 1:
            command = launched(job.command, needs)
            return _Submitted(attempts, [task.options(**options).remote(command, *more)], None)
        group = self.ray.util.placement_group([room] * needs.nodes, strategy="STRICT_SPREAD")
        on = self.ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy
        meet = self.ray.remote(num_cpus=0)(meeting)
        first = meet.options(scheduling_strategy=on(group, 0)).remote()
        tasks = []
        for rank in range(needs.nodes):
            command = launched(job.command, needs, Node(str(rank), ADDRESS, PORT))
            placed = task.options(**options, scheduling_strategy=on(group, rank))
            tasks.append(placed.remote(command, *more, first))
        return _Submitted(attempts, tasks, group)

    def next_end(
        self, submitted: Sequence[_Submitted]
    ) -> tuple[_Submitted, int | None, float, str]:
        """Wait for a task to end: its job, its exit code (None if it was lost), its seconds, and
        why it failed.
        """
        tasks = {task: one for one in submitted for task in one.tasks}
        while not (ended := self.ray.wait(list(tasks), num_returns=1, timeout=LOOK_SECONDS)[0]):
            self._need_head()
        one = tasks[ended[0]]
        one.tasks.remove(ended[0])
        return one, *self._end(ended[0], one)

    def _need_head(self) -> None:
        """Return when the head answers. Ray waits for it too, and after longer ends this
        process.
        """
        patience = max(0.0, float(os.environ.get(RECONNECT, "60")) - ENDING_SECONDS)
        deadline = time.monotonic() + patience
        while not _answers(self.head):
            if time.monotonic() > deadline:
                raise RunsFailed(
                    f"--on ray: the head of the cluster, {self.head}, has not answered for"
                    f" {patience:.0f} seconds. Nothing is lost: once a head runs again, the same"
                    " command with its --address resumes",
                    "no-answer",
                )
            time.sleep(1)

    def _end(self, task: Any, one: _Submitted) -> tuple[int | None, float, str]:
        job = one.job
        try:
            code, seconds, problem = self.ray.get(task)
        except self.ray.exceptions.RayTaskError as error:  # no cotbal, or another one, on the node
            return NOT_STARTED, 0.0, f"{job.name} failed in its Ray task: {_lines(error)[-1]}"
        except self.ray.exceptions.RayError as error:
            message = f"{job.name} was lost: {_lines(error)[0]}"
            seconds = time.monotonic() - one.since
            return None, seconds, f"{message}\n{log_tail(job.directory / 'log.txt')}"
        if code == 0:
            return 0, seconds, ""
        return code, seconds, f"{job.name} {problem}" if problem else failure(job, code)

    def cancel(self, submitted: Sequence[_Submitted]) -> None:
        """Stop the remaining tasks of these jobs, and wait until they have stopped."""
        tasks = [task for one in submitted for task in one.tasks]
        for task in tasks:
            self.ray.cancel(task)
        if tasks and not _answers(self.head):
            self.ray.wait(tasks, num_returns=len(tasks), timeout=FAREWELL_SECONDS)
            return  # everything else would wait for the head
        if tasks:
            _, alive = self.ray.wait(tasks, num_returns=len(tasks), timeout=SAVE_SECONDS + 10)
            for task in alive:
                self.ray.cancel(task, force=True)
        for one in submitted:
            if one.group is not None:
                self.ray.util.remove_placement_group(one.group)

    def _threads(self, job: Job) -> int:
        """CPU threads per rank: as in `processes` on this machine; elsewhere the share of the
        requested cores, or 1.
        """
        if self.resources.threads:
            return self.resources.threads
        cores = (job.needs.cpus or 1) * job.needs.nodes
        if self.local:
            cores = available(self.resources, 1).threads * max(job.needs.gpus, 1)
        return max(1, cores // job.needs.processes)

    def _room(self, job: Job) -> dict[str, float]:
        """What a run takes of every node, by Ray's names."""
        needs = job.needs
        gpus = needs.gpus // needs.nodes
        if self.local and needs.gpus == 1 and not visible_gpus():
            gpus = 0  # as in `processes`: without GPUs, a run of one process uses the cores
        cores = needs.cpus or self._threads(job) * (needs.processes // needs.nodes)
        room = {"CPU": float(cores), "GPU": float(gpus)}
        if needs.memory is not None:
            unit = needs.memory[-1] if needs.memory[-1] in UNITS else "M"
            room["memory"] = float(int(needs.memory.removesuffix(unit)) * UNITS[unit])
        return room

    def _check_room(self, room: dict[str, float], count: int) -> None:
        """Report a run that no node can hold; Ray would wait for one silently."""
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        if sum(_holds(node, room) for node in nodes) >= count:
            return
        largest = dict.fromkeys(room, 0.0)
        for node in nodes:
            largest = {kind: max(most, node.get(kind, 0.0)) for kind, most in largest.items()}
        shortage = (
            f"a run needs {_in_words(room)} on {count} node(s) of Ray; found {len(nodes)} nodes of"
            f" at most {_in_words(largest)}"
        )
        if self.local:
            raise CotbalError(
                f"{shortage}: lower `resources` in the recipe, or give the --address of a larger"
                " cluster",
                "too-few-resources",
            )
        warnings.warn(f"{shortage}: the run waits for nodes that can hold it", stacklevel=2)


def _holds(node: dict[str, float], room: dict[str, float]) -> bool:
    return all(node.get(kind, 0.0) >= amount for kind, amount in room.items())


def _in_words(room: dict[str, float]) -> str:
    gib = room.get("memory", 0.0) / UNITS["G"]
    counts = {"CPU": room["CPU"], "GPU": room["GPU"], "GiB of memory": gib}
    return ", ".join(f"{count:.4g} {kind}" for kind, count in counts.items() if count)


def _lines(error: Exception) -> list[str]:
    return str(error).strip().splitlines() or [type(error).__name__]
