"""What Slurm is given for one job: the options of sbatch and the batch script, as pure functions of
the job; and the note that the script leaves.
"""

from __future__ import annotations

import hashlib
import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cotbal.errors import CotbalError
from cotbal.jobs.executors import Job, passed_on
from cotbal.jobs.launching import Node, launched
from cotbal.training.environment import PREEMPTIBLE

SCRIPT = "slurm.sh"
LOG = "slurm.txt"  # output of Slurm itself and of the setup commands; the run writes into log.txt
END = "slurm.end"  # id of the job, the stage that ended, its exit code
RUN, SETUP = "run", "setup"
# Variables that are written into the script, which others may read. A token or another secret comes
# with the environment, or by `setup`.
WRITTEN = frozenset(
    {"COTBAL_CACHE", "COTBAL_JUDGE_MODEL", "COTBAL_MAX_PIXELS", "PYTHONPATH"}
    | {"HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_ASSETS_CACHE", "HF_MODULES_CACHE"}
    | {"HF_XET_CACHE", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_ENDPOINT", "HF_DEBUG"}
    | {"HF_HUB_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_SYMLINKS", "HF_HUB_DISABLE_TELEMETRY"}
    | {"HF_HUB_DISABLE_SYMLINKS_WARNING", "HF_HUB_DISABLE_EXPERIMENTAL_WARNING"}
    | {"HF_HUB_DISABLE_IMPLICIT_TOKEN", "HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_UPDATE_CHECK"}
    | {"HF_HUB_ENABLE_HF_TRANSFER", "HF_XET_HIGH_PERFORMANCE", "HF_HUB_ETAG_TIMEOUT"}
    | {"HF_HUB_DOWNLOAD_TIMEOUT", "TOKENIZERS_PARALLELISM"}
)
SAVE_SECONDS = 120  # before its time is over a run is asked to save
MAIN = Node("$SLURM_NODEID", "$COTBAL_MAIN", "$COTBAL_PORT")


@dataclass(frozen=True)
class End:
    """How a batch script ended."""

    stage: str
    code: int


def end_of(directory: Path, id: str) -> End | None:
    """The note of the script of this job, if it came to its end."""
    try:
        job, stage, code = (directory / END).read_text(encoding="utf-8").split()
        return End(stage, int(code)) if job == id else None
    except (OSError, ValueError):
        return None


def name_of(job: Job) -> str:
    """The name of a run in the queue, by which a later command finds its job without the id."""
    digest = hashlib.sha256(str(job.directory.resolve()).encode()).hexdigest()[:12]
    return f"cotbal-{re.sub(r'[^A-Za-z0-9.]+', '-', job.name)[:40]}-{digest}"


def options(job: Job) -> tuple[str, ...]:
    """Options of sbatch; those of the recipe come last, so that they win.

    A job waits for others of its name (`singleton`): one may have been submitted whose id was lost.

    Raises:
        CotbalError: Slurm cannot write into the directory of the job.
    """
    needs, directory = job.needs, job.directory.resolve()
    save = min(SAVE_SECONDS, int(needs.hours * 900)) if needs.hours else SAVE_SECONDS
    asked = {
        "gres": needs.gpus and f"gpu:{needs.gpus // needs.nodes}",
        "cpus-per-task": needs.cpus,
        "mem": needs.memory,
        "time": needs.hours and math.ceil(needs.hours * 60),
        "partition": needs.partition,
    }
    return (
        f"--job-name={name_of(job)}",
        f"--chdir={directory}",
        f"--output={_pattern(directory / LOG)}",
        "--open-mode=append",
        "--requeue",
        "--dependency=singleton",
        f"--nodes={needs.nodes}",
        "--ntasks-per-node=1",
        f"--signal=TERM@{save}",
        *(f"--{option}={value}" for option, value in asked.items() if value),
        *needs.directives,
    )


def _pattern(path: Path) -> str:
    """A path for `--output`, in which Slurm replaces nothing."""
    if "\\" in str(path):
        raise CotbalError(
            f"{path}: expected a path without a backslash, which Slurm removes from file names",
            "unsupported-path",
        )
    return str(path).replace("%", "%%")


def script(job: Job, environment: Mapping[str, str]) -> str:
    """The batch script: set up, execute the run on every node, and leave a note of how it ended.

    It holds the variables in `WRITTEN`, since a cluster may pass none. The run is a
    step of its own (`srun`), because Slurm signals steps before it takes the node away.
    """
    directory = job.directory.resolve()
    passed = {name: value for name, value in passed_on().items() if name in WRITTEN}
    lines = [
        "#!/bin/bash",
        f"end={shlex.quote(str(directory / END))}",
        'rm -f "$end"',
        f"stage={SETUP}",
        """trap 'echo "$SLURM_JOB_ID $stage $?" >"$end.new" && mv "$end.new" "$end"' EXIT""",
        "trap 'exit 143' TERM",  # otherwise the note would say 0
        "set -e",
        *_exports(passed),
        *job.needs.setup,
        *_exports({**environment, PREEMPTIBLE: "1"}),
        f"stage={RUN}",
        *_steps(job, directory / "log.txt"),
    ]
    return "\n".join(lines) + "\n"


def _exports(variables: Mapping[str, str]) -> list[str]:
    return [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]


def _steps(job: Job, log: Path) -> list[str]:
    needs = job.needs
    words = [
        "srun",
        "--export=ALL",
        "--mpi=none",
        "--kill-on-bad-exit=1",
        "--input=none",
        f"--nodes={needs.nodes}",
        f"--ntasks={needs.nodes}",
        # srun does not take it from sbatch any more
        *([f"--cpus-per-task={needs.cpus}"] if needs.cpus else []),
        f"--output={_pattern(log)}",
        "--open-mode=append",
    ]
    step = shlex.join(words)
    if needs.nodes == 1:
        return [f"{step} {shlex.join(launched(job.command, needs))}"]
    return [
        'export COTBAL_MAIN=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
        "export COTBAL_PORT=$((20000 + SLURM_JOB_ID % 20000))",
        f"{step} bash -c {shlex.quote(f'exec {_filled_in(launched(job.command, needs, MAIN))}')}",
    ]


def _filled_in(words: tuple[str, ...]) -> str:
    """A command line in which the shell expands the variables of the node alone."""
    of_the_node = {MAIN.rank, MAIN.address, MAIN.port}
    return " ".join(
        f'"{word}"' if word.partition("=")[2] in of_the_node else shlex.quote(word)
        for word in words
    )
