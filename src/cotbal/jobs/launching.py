"""The command of a run that has several processes: one command per node, which starts the ranks on
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cotbal.jobs.begin import BEGIN

if TYPE_CHECKING:
    from cotbal.recipe.schema import ResourcesSection


@dataclass(frozen=True)
class Node:
    """One node of a run that spans several; texts, so that a shell may fill them in.

    Attributes:
        rank: its number, from 0.
        address: host name or address of node 0.
        port: a free port there.
    """

    rank: str
    address: str
    port: str


def is_launched(needs: ResourcesSection) -> bool:
    """Whether a launcher starts the ranks of a run."""
    return needs.processes > 1 or needs.accelerate_config is not None


def launched(
    command: Sequence[str], needs: ResourcesSection, node: Node | None = None
) -> tuple[str, ...]:
    """The command that starts all ranks of `command` on one node.

    With a configuration of the user's the launcher is `accelerate launch`, otherwise torchrun; both
    run in the Python of `command`. The command of a run of one process is unchanged.

    Args:
        command: `python -m module arguments`.
        node: which node it is for; None where the run has one.
    """
    if not is_launched(needs):
        return tuple(command)
    python, flag, *module = command
    assert flag == "-m", "a job's command is `python -m module arguments`"
    assert (node is None) == (needs.nodes == 1), "a node has a number where there are several"
    launcher, options = "torch.distributed.run", _torchrun(needs, node)
    if needs.accelerate_config is not None:
        launcher, options = "accelerate.commands.launch", _accelerate(needs, node)
    return (python, "-m", launcher, *options, "--module", BEGIN, *module)


def _torchrun(needs: ResourcesSection, node: Node | None) -> list[str]:
    ranks = f"--nproc-per-node={needs.processes // needs.nodes}"
    if node is None:
        return ["--standalone", ranks]  # chooses a free port
    return [
        f"--nnodes={needs.nodes}",
        ranks,
        f"--node-rank={node.rank}",
        f"--master-addr={node.address}",
        f"--master-port={node.port}",
    ]


def _accelerate(needs: ResourcesSection, node: Node | None) -> list[str]:
    """Options that precede those of the file."""
    options = [f"--config_file={needs.accelerate_config}", f"--num_processes={needs.processes}"]
    if node is None:
        return [*options, "--num_machines=1", "--main_process_port=0"]  # 0: chooses a free port
    return [
        *options,
        f"--num_machines={needs.nodes}",
        f"--machine_rank={node.rank}",
        f"--main_process_ip={node.address}",
        f"--main_process_port={node.port}",
        # With DeepSpeed in the file, accelerate would log in to the other nodes by itself.
        "--deepspeed_multinode_launcher=standard",
    ]
