"""A Ray cluster: one task per run, on the node that Ray finds for it; without an address, a cluster
for this job alone.

Nothing is left behind: tasks end with the driver, and commands with their tasks. Whoever starts the
job again resumes from the checkpoints in the run directory, which all nodes must see under the same
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
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from cotbal.errors import CotbalError, MissingDependency, RunsFailed
from cotbal.jobs.executors import (
    Job,
    Outcome,
    Resources,
    _ray_node,
    log_tail,
    passed_on,
    thread_environment,
)
from cotbal.jobs.executors._attempts import Attempts
from cotbal.jobs.executors._command import SAVE_SECONDS, failure
from cotbal.jobs.executors._ray_node import ADDRESS, NOT_STARTED, PORT
from cotbal.jobs.executors.processes import slots, visible_gpus
from cotbal.jobs.launching import Node, launched

OBJECTS = (
    80 * 2**20
)  # bytes for Ray's objects, of which there are none; about the least that it takes
QUIET = {"log_to_driver": False, "logging_level": logging.ERROR}
PATIENCE = {
    "RAY_raylet_start_wait_time_s": "120",
    "RAY_agent_register_timeout_ms": "120000",
}  # on a busy machine
ANSWER_SECONDS = 10.0
LOOK_SECONDS = 5.0
RECONNECT = "RAY_gcs_rpc_server_reconnect_timeout_s"  # Ray's own variable
FAREWELL_SECONDS = 5.0  # for tasks, where the head is lost and their nodes may be
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass
class _Sent:
    """A job in Ray's hands.

    Attributes:
        tasks: one per node, those that have not ended.
        group: the nodes of a run that spans several.
    """

    attempts: Attempts
    tasks: list[Any]
    group: Any
    since: float = field(default_factory=time.monotonic)


def run(jobs: Sequence[Job], resources: Resources) -> Iterator[Outcome]:
    """Send every job to the cluster, the longest first, and yield outcomes as they end.

    A job that was killed, or whose node was lost, is sent again and resumes from its own
    checkpoint.

    Raises:
        MissingDependency: Ray is not installed.
        CotbalError: the cluster does not answer, or the one made for this job can never hold a run.
        RunsFailed: the head of the cluster is lost.
    """
    if not jobs:
        return
    with _cluster(jobs, resources) as cluster:
        waiting = deque(Attempts(job) for job in sorted(jobs, key=lambda job: -job.cost))
        sent: list[_Sent] = []
        try:
            while waiting or sent:
                while waiting and len(sent) < (resources.workers or len(jobs)):
                    sent.append(cluster.send(waiting.popleft()))
                one, code, seconds, why = cluster.next_end(sent)
                if code == 0 and one.tasks:
                    continue  # the other nodes of the run still work
                cluster.call_back([one])
                sent.remove(one)
                verdict = one.attempts.verdict(code)
                if verdict == "again":
                    waiting.appendleft(one.attempts)
                else:
                    yield Outcome(
                        one.attempts.job,
                        verdict == "done",
                        seconds,
                        why if verdict == "failed" else "",
                    )
        finally:
            cluster.call_back(sent)


@contextmanager
def _cluster(jobs: Sequence[Job], resources: Resources) -> Iterator[_Cluster]:
    """The cluster, for as long as the block runs; this process is left as it was."""
    before, handler = set(os.environ), signal.getsignal(signal.SIGTERM)
    address = resources.address or os.environ.get("RAY_ADDRESS")
    try:
        ray = _imported(own=address is None)
        if ray.is_initialized():
            yield _Cluster(ray, resources, False, ray.get_runtime_context().gcs_address)
            return
        _make(ray, jobs, resources) if address is None else _connect(ray, address)
        try:
            yield _Cluster(ray, resources, address is None, ray.get_runtime_context().gcs_address)
        finally:
            ray.shutdown()
    finally:
        for name in set(os.environ) - before:
            del os.environ[name]
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray puts its own there


def _imported(own: bool) -> Any:
    """Ray, which reads its settings when it is imported."""
    if own:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if "ray" not in sys.modules:
            os.environ.setdefault(
                "RAY_AUTH_MODE", "token"
            )  # nobody else on the network runs anything here
            for name, value in PATIENCE.items():
                os.environ.setdefault(name, value)
    try:
        import ray
    except ModuleNotFoundError:
        raise MissingDependency("--on ray", "ray") from None
    return ray


def _make(ray: Any, jobs: Sequence[Job], resources: Resources) -> None:
    """A cluster of this machine, with as many cores as the jobs may use."""
    cores = sum(slot.threads for slot in slots(resources, len(jobs)))
    cores = max(cores, os.cpu_count() or 1, *(job.needs.cpus or 1 for job in jobs))
    try:
        ray.init(
            "local", num_cpus=cores, include_dashboard=False, object_store_memory=OBJECTS, **QUIET
        )
    except Exception as error:  # Ray has no class for it
        raise CotbalError(
            "--on ray: Ray did not start on this machine; try again when it is less busy, or take"
            f" --on processes ({_lines(error)[0]})"
        ) from error


def _connect(ray: Any, address: str) -> None:
    """Raise before Ray does, which takes a minute for it."""
    try:
        _call(address)
        ray.init(address, **QUIET)
    except (OSError, RuntimeError, ValueError) as error:
        raise CotbalError(
            "--address: expected host:port of the head of a Ray cluster, such as 10.0.0.1:6379,"
            f" that answers; found {address} ({_lines(error)[0]})"
        ) from None


def _call(address: str) -> None:
    """Raise OSError or ValueError unless somebody answers at `host:port`."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()


def _answers(address: str) -> bool:
    with suppress(OSError):
        _call(address)
        return True
    return False


@dataclass(frozen=True)
class _Cluster:
    """Sends jobs and takes their ends.

    Attributes:
        ray: the module.
        own: whether it was made for this job, on this machine.
        head: `host:port` of its head.
    """

    ray: Any
    resources: Resources
    own: bool
    head: str

    def send(self, attempts: Attempts) -> _Sent:
        """One task per node of the job; where Ray has no room, they wait in its queue."""
        job, room = attempts.job, self._room(attempts.job)
        self._need_head()
        self._look_for_room(room, job.needs.nodes)
        environment = passed_on() | {
            **thread_environment(self._threads(job)),
            **self.resources.environment,
        }
        if job.needs.nodes == 1:
            return _Sent(
                attempts,
                [self._task(room, launched(job.command, job.needs), job, environment)],
                None,
            )
        group = self.ray.util.placement_group([room] * job.needs.nodes, strategy="STRICT_SPREAD")
        place = self.ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy
        met = (
            self.ray.remote(num_cpus=0)(_ray_node.meeting)
            .options(scheduling_strategy=place(group, 0))
            .remote()
        )
        tasks = []
        for rank in range(job.needs.nodes):
            argv = launched(job.command, job.needs, Node(str(rank), ADDRESS, PORT))
            tasks.append(
                self._task(
                    room, argv, job, environment, met, scheduling_strategy=place(group, rank)
                )
            )
        return _Sent(attempts, tasks, group)

    def _task(
        self,
        room: dict[str, float],
        argv: Sequence[str],
        job: Job,
        environment: dict[str, str],
        met: Any = None,
        **place: Any,
    ) -> Any:
        task = self.ray.remote(_ray_node.do).options(
            name=job.name,
            num_cpus=room["CPU"],
            num_gpus=room["GPU"],
            memory=room.get("memory"),
            max_retries=0,
            **place,
        )
        return task.remote(list(argv), str(job.directory.resolve()), environment, met)

    def next_end(self, sent: Sequence[_Sent]) -> tuple[_Sent, int | None, float, str]:
        """Wait for a task to end: its job, its exit code (None if it was lost), its seconds, and
        why it failed.
        """
        (task,) = self._wait([task for one in sent for task in one.tasks])
        one = next(one for one in sent if task in one.tasks)
        one.tasks.remove(task)
        return one, *self._end(task, one)

    def _wait(self, tasks: list[Any]) -> list[Any]:
        """The first of these tasks to end."""
        while True:
            ended, _ = self.ray.wait(tasks, num_returns=1, timeout=LOOK_SECONDS)
            if ended:
                return list(ended)
            self._need_head()

    def _need_head(self) -> None:
        """Return when the head answers. Ray waits for it too, and after twice as long ends this
        process by itself.
        """
        patience = float(os.environ.get(RECONNECT, "60")) / 2
        deadline = time.monotonic() + patience
        while not _answers(self.head):
            if time.monotonic() > deadline:
                raise RunsFailed(
                    f"--on ray: the head of the cluster, {self.head}, has not answered for"
                    f" {patience:.0f} seconds. Nothing is lost: as soon as there is a head, the"
                    " same command with its --address resumes"
                )
            time.sleep(1)

    def _end(self, task: Any, one: _Sent) -> tuple[int | None, float, str]:
        job = one.attempts.job
        try:
            code, seconds, why = self.ray.get(task)
        except self.ray.exceptions.RayTaskError as error:  # the node has no cotbal, or another one
            return NOT_STARTED, 0.0, f"{job.name} failed in Ray's hands: {_lines(error)[-1]}"
        except self.ray.exceptions.RayError as error:
            message = (
                f"{job.name} was lost: {_lines(error)[0]}\n{log_tail(job.directory / 'log.txt')}"
            )
            return None, time.monotonic() - one.since, message
        if code == 0:
            return 0, seconds, ""
        return code, seconds, f"{job.name} {why}" if why else failure(job.name, code, job.directory)

    def call_back(self, sent: Sequence[_Sent]) -> None:
        """Stop what is left of these jobs, and wait until it has stopped."""
        tasks = [task for one in sent for task in one.tasks]
        for task in tasks:
            self.ray.cancel(task)
        if tasks and not _answers(self.head):
            self.ray.wait(tasks, num_returns=len(tasks), timeout=FAREWELL_SECONDS)
            return  # all else would wait for the head
        if tasks:
            _, deaf = self.ray.wait(tasks, num_returns=len(tasks), timeout=SAVE_SECONDS + 10)
            for task in deaf:
                self.ray.cancel(task, force=True)
        for one in sent:
            if one.group is not None:
                self.ray.util.remove_placement_group(one.group)

    def _threads(self, job: Job) -> int:
        """CPU threads per rank: as in `processes` on this machine; elsewhere the share of the cores
        asked for, or 1.
        """
        if self.resources.threads or not self.own:
            return self.resources.threads or max(
                1, (job.needs.cpus or 1) * job.needs.nodes // job.needs.processes
            )
        return max(
            1, slots(self.resources, 1)[0].threads * max(job.needs.gpus, 1) // job.needs.processes
        )

    def _room(self, job: Job) -> dict[str, float]:
        """What a run takes of every node, in Ray's words."""
        needs = job.needs
        gpus = needs.gpus // needs.nodes
        if self.own and needs.gpus == 1 and not visible_gpus():
            gpus = 0  # as in `processes`: without GPUs, a run of one process works on the cores
        room = {
            "CPU": float(needs.cpus or self._threads(job) * (needs.processes // needs.nodes)),
            "GPU": float(gpus),
        }
        if needs.memory is not None:
            unit = needs.memory[-1] if needs.memory[-1] in UNITS else "M"
            room["memory"] = float(int(needs.memory.removesuffix(unit)) * UNITS[unit])
        return room

    def _look_for_room(self, room: dict[str, float], count: int) -> None:
        """Say what no node can hold, of which Ray itself would say nothing."""
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        if sum(_holds(node, room) for node in nodes) >= count:
            return
        shortage = (
            f"a run needs {_in_words(room)} on {count} node(s) of Ray; found {len(nodes)} nodes of"
            f" at most {_in_words(_largest(nodes, room))}"
        )
        if self.own:
            raise CotbalError(
                f"{shortage}: lower `resources` in the recipe, or give the --address of a larger"
                " cluster"
            )
        warnings.warn(f"{shortage}: the run waits for nodes that can hold it", stacklevel=2)


def _holds(node: dict[str, float], room: dict[str, float]) -> bool:
    return all(node.get(kind, 0.0) >= amount for kind, amount in room.items())


def _largest(nodes: list[dict[str, float]], kinds: Iterable[str]) -> dict[str, float]:
    largest = dict.fromkeys(kinds, 0.0)
    for node in nodes:
        for kind in largest:
            largest[kind] = max(largest[kind], node.get(kind, 0.0))
    return largest


def _in_words(room: dict[str, float]) -> str:
    amounts = {
        "CPU": room["CPU"],
        "GPU": room["GPU"],
        "GiB of memory": room.get("memory", 0.0) / UNITS["G"],
    }
    return ", ".join(f"{amount:.4g} {kind}" for kind, amount in amounts.items() if amount)


def _lines(error: Exception) -> list[str]:
    return str(error).strip().splitlines() or [type(error).__name__]
