"""A real Slurm of one node on this machine's loopback: munged, slurmctld and slurmd, in a directory
of its own.

    python tests/helpers/slurm_cluster.py            # exit code 0 if it comes up and does a job
    python tests/helpers/slurm_cluster.py COMMAND    # run a command that finds it
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

ANSWER_SECONDS = 60  # for a command of Slurm
PARTITION = "main"
STEP = "slurmstepd"  # the process that Slurm has beside every step of a job


class Cluster:
    """Call `start` and `stop`; commands find it by `SLURM_CONF`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.configuration = directory / "slurm.conf"
        self.daemons: dict[str, subprocess.Popen] = {}

    def start(self) -> None:
        for folder in ("controller", "node", "munge"):
            (self.directory / folder).mkdir(parents=True, exist_ok=True)
        key = self.directory / "munge" / "key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        self.configuration.write_text(_configuration(self.directory))
        munge = self.directory / "munge"
        files = [
            f"--{name}={munge / name}" for name in ("socket", "pid-file", "log-file", "seed-file")
        ]
        self._daemon("munged", "--foreground", "--force", f"--key-file={key}", *files)
        wait_for((munge / "socket").exists, "munged")
        self.start_controller()
        self.start_node()

    def start_controller(self) -> None:
        self._daemon("slurmctld", "-D", "-f", self.configuration)
        wait_for(lambda: self._ask("scontrol", "ping").count(" UP") == 1, "slurmctld")

    def start_node(self) -> None:
        self._daemon("slurmd", "-D", "-f", self.configuration)
        wait_for(self._node_is_up, "slurmd")

    def _node_is_up(self) -> bool:
        self.tend()
        state = self._ask("sinfo", "--noheader", "--format=%T").strip()
        return state in ("idle", "mixed", "allocated", "completing")

    def tend(self) -> None:
        """What an administrator does after an accident, and what Slurm does by itself within
        minutes.

        A controller that was killed may forget that it started a job, start it twice, and then
        takes the node out of service ("Duplicate jobid"). Jobs that were lost with a node may start
        again two minutes later (BeginTime).
        """
        if "drain" in self._ask("sinfo", "--noheader", "--format=%T"):
            self._ask("scontrol", "update", f"NodeName={_host()}", "State=RESUME")
        for line in self._ask(
            "squeue", "--noheader", "--states=PENDING", "--format=%i %r"
        ).splitlines():
            id, reason = line.split(maxsplit=1)
            if reason == "BeginTime":
                self._ask("scontrol", "update", f"JobId={id}", "StartTime=now")

    def stop_controller(self) -> None:
        self._end("slurmctld", kill=True)

    def lose_node(self) -> None:
        """As if it lost its power: the daemon and everything that it started."""
        self._end("slurmd", kill=True)
        for process in self.steps():
            for child in process.children(recursive=True):
                _kill(child)
            _kill(process)

    def steps(self) -> list[psutil.Process]:
        """The processes of this cluster that watch over the steps of jobs."""
        return [
            p
            for p in psutil.process_iter(["name"])
            if STEP in (p.info["name"] or "") and self._is_ours(p)
        ]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return str(self.configuration) in (
                process.environ().get("SLURM_CONF"),
                *process.cmdline(),
            ) or (process.cwd().startswith(str(self.directory)))
        except psutil.Error:
            return False

    def stop(self) -> None:
        self._ask("scancel", "--me")
        for name in ("slurmd", "slurmctld", "munged"):
            if name in self.daemons:
                self._end(name, kill=False)

    def does_a_job(self) -> bool:
        """Whether a job that is sent comes back."""
        return self._ask("srun", "--immediate=30", "echo", "done").strip() == "done"

    def runs(self, command: list[str]) -> bool:
        """Whether a command that finds this cluster succeeds; an empty one does."""
        environment = {**os.environ, "SLURM_CONF": str(self.configuration)}
        return not command or not subprocess.run(command, check=False, env=environment).returncode

    def _daemon(self, name: str, *arguments: object) -> None:
        program = shutil.which(name)
        assert program is not None
        environment = {**os.environ, "SLURM_CONF": str(self.configuration)}
        with (self.directory / f"{name}.out").open("ab") as out:
            self.daemons[name] = subprocess.Popen(
                [program, *map(str, arguments)],
                stdout=out,
                stderr=out,
                env=environment,
                start_new_session=True,
            )

    def _end(self, name: str, kill: bool) -> None:
        daemon = self.daemons.pop(name)
        daemon.kill() if kill else daemon.terminate()
        try:
            daemon.wait(10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def _ask(self, *argv: str) -> str:
        environment = {**os.environ, "SLURM_CONF": str(self.configuration)}
        with contextlib.suppress(subprocess.TimeoutExpired):
            return subprocess.run(
                argv,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=ANSWER_SECONDS,
            ).stdout
        return ""


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def wait_for(happened: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)


def _configuration(directory: Path) -> str:
    host, user = _host(), getpass.getuser()
    controller, node = _free_ports(2)
    memory = int(psutil.virtual_memory().total / 2**20 * 0.8)
    return f"""\
ClusterName=cotbal
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={directory}/munge/socket
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout=5
KillWait=5
MinJobAge=30
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.pid
SlurmdSpoolDir={directory}/node
StateSaveLocation={directory}/controller
NodeName={host} NodeAddr=127.0.0.1 Port={node} CPUs={os.cpu_count()} RealMemory={memory} State=UNKNOWN
PartitionName={PARTITION} Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def _host() -> str:
    return socket.gethostname().partition(".")[0]


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the daemons end with it
    directory = Path(tempfile.mkdtemp(prefix="slurm-"))
    cluster = Cluster(directory)
    try:
        cluster.start()
        works = cluster.does_a_job() and cluster.runs(sys.argv[1:])
    except AssertionError as error:
        works = False
        print(
            error,
            *(file.read_text() for file in directory.glob("*.out")),
            sep="\n",
            file=sys.stderr,
        )
    finally:
        cluster.stop()
        shutil.rmtree(directory, ignore_errors=True)
    sys.exit(not works)


if __name__ == "__main__":
    main()
