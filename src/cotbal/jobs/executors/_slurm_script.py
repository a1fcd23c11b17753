"""What Slurm is given for one job: the options of sbatch and the batch script, as pure functions of
the job.
"""

from __future__ import annotations

import hashlib
import math
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from cotbal.errors import CotbalError
from cotbal.jobs.executors import Job, passed_on
from cotbal.jobs.launching import Node, launched
from cotbal.recipe.schema import ResourcesSection
from cotbal.training.environment import PREEMPTIBLE

SCRIPT = "slurm.sh"
LOG = "slurm.txt"  # what Slurm itself and the setup commands say; the run writes into log.txt
END = "slurm.end"  # id of the job, the stage that ended, its exit code
RUN, SETUP = "run", "setup"
SECRET = ("HF_TOKEN",)  # not to be written into a file; comes with the environment, or by `setup`
SAVE_SECONDS = 120  # before its time is over a run is asked to save
MAIN = Node("$SLURM_NODEID", "$COTBAL_MAIN", "$COTBAL_PORT")


def name_of(job: Job) -> str:
    """A name in the queue that the same run always has: who lost its id finds it by that."""
    digest = hashlib.sha256(str(job.directory.resolve()).encode()).hexdigest()[:12]
    return f"cotbal-{re.sub(r'[^A-Za-z0-9.]+', '-', job.name)[:40]}-{digest}"


def options(job: Job) -> tuple[str, ...]:
    """Options of sbatch; those of the recipe come last, so that they win.

    A job waits for others of its name (`singleton`): one may have been sent whose id never arrived
    here.

    Raises:
        CotbalError: Slurm cannot write into the directory of the job.
    """
    needs, directory = job.needs, job.directory.resolve()
    found = [
        f"--job-name={name_of(job)}",
        f"--chdir={directory}",
        f"--output={_pattern(directory / LOG)}",
        "--open-mode=append",
        "--requeue",
        "--dependency=singleton",
        f"--nodes={needs.nodes}",
        "--ntasks-per-node=1",
        f"--signal=TERM@{_save_seconds(needs)}",
    ]
    if needs.gpus:
        found.append(f"--gres=gpu:{needs.gpus // needs.nodes}")
    if needs.cpus:
        found.append(f"--cpus-per-task={needs.cpus}")
    if needs.memory:
        found.append(f"--mem={needs.memory}")
    if needs.hours:
        found.append(f"--time={math.ceil(needs.hours * 60)}")
    if needs.partition:
        found.append(f"--partition={needs.partition}")
    return (*found, *needs.directives)


def _save_seconds(needs: ResourcesSection) -> int:
    return min(SAVE_SECONDS, int(needs.hours * 900)) if needs.hours else SAVE_SECONDS


def _pattern(path: Path) -> str:
    """A file name in which Slurm fills in nothing."""
    if "\\" in str(path):
        raise CotbalError(
            f"{path}: expected a path without a backslash, which Slurm removes from the names of"
            " files"
        )
    return str(path).replace("%", "%%")


def script(job: Job, environment: Mapping[str, str]) -> str:
    """The batch script: set up, do the run on every node, and leave a note of how it ended.

    What the driver passes on is in it too, since the cluster may let nothing of the environment
    through. The run is a step of its own (`srun`), because that is what Slurm signals before it
    takes the node away.
    """
    directory = job.directory.resolve()
    variables = {**environment, PREEMPTIBLE: "1"}
    lines = [
        "#!/bin/bash",
        f"end={shlex.quote(str(directory / END))}",
        'rm -f "$end"',
        f"stage={SETUP}",
        """trap 'echo "$SLURM_JOB_ID $stage $?" >"$end.new" && mv "$end.new" "$end"' EXIT""",
        "trap 'exit 143' TERM",  # otherwise the note would say 0
        "set -e",
        *_exports({name: value for name, value in passed_on().items() if name not in SECRET}),
        *job.needs.setup,
        *_exports(variables),
        f"stage={RUN}",
        *_steps(job, directory / "log.txt"),
    ]
    return "\n".join(lines) + "\n"


def _exports(variables: Mapping[str, str]) -> list[str]:
    return [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]


def _steps(job: Job, log: Path) -> list[str]:
    needs = job.needs
    cores = (
        (f"--cpus-per-task={needs.cpus}",) if needs.cpus else ()
    )  # srun does not take it from sbatch any more
    step = shlex.join(
        [
            "srun",
            "--export=ALL",
            "--mpi=none",
            "--kill-on-bad-exit=1",
            "--input=none",
            f"--nodes={needs.nodes}",
            f"--ntasks={needs.nodes}",
            *cores,
            f"--output={_pattern(log)}",
            "--open-mode=append",
        ]
    )
    if needs.nodes == 1:
        return [f"{step} {shlex.join(launched(job.command, needs))}"]
    return [
        'export COTBAL_MAIN=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
        "export COTBAL_PORT=$((20000 + SLURM_JOB_ID % 20000))",
        f"{step} bash -c {shlex.quote(f'exec {_filled_in(launched(job.command, needs, MAIN))}')}",
    ]


def _filled_in(words: tuple[str, ...]) -> str:
    """A command line in which only what stands for the node is filled in."""
    open_words = {MAIN.rank, MAIN.address, MAIN.port}
    return " ".join(
        f'"{word}"' if word.partition("=")[2] in open_words else shlex.quote(word) for word in words
    )
