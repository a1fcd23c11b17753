from __future__ import annotations

from pathlib import Path

import pytest

from cotbal.jobs.begin import BEGIN
from cotbal.jobs.launching import Node, is_launched, launched
from cotbal.recipe.schema import ResourcesSection

COMMAND = ("/venv/bin/python", "-m", "cotbal.jobs.worker", "/runs/a/job.json")
NODE = Node("$SLURM_NODEID", "$MAIN", "29400")


def test_one_process_needs_no_launcher() -> None:
    for needs in (ResourcesSection(), ResourcesSection(gpus=0)):
        assert not is_launched(needs)
        assert launched(COMMAND, needs) == COMMAND


def test_several_gpus_of_one_node() -> None:
    argv = launched(COMMAND, ResourcesSection(gpus=4))
    assert argv == (
        "/venv/bin/python",
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=4",
        "--module",
        "cotbal.jobs.begin",
        "cotbal.jobs.worker",
        "/runs/a/job.json",
    )


def test_several_nodes_meet_at_the_first() -> None:
    argv = launched(COMMAND, ResourcesSection(gpus=16, nodes=2), NODE)
    assert argv[3:8] == (
        "--nnodes=2",
        "--nproc-per-node=8",
        "--node-rank=$SLURM_NODEID",
        "--master-addr=$MAIN",
        "--master-port=29400",
    )
    assert argv[8:] == ("--module", BEGIN, *COMMAND[2:])


@pytest.mark.parametrize("gpus", [1, 8])
def test_a_configuration_of_accelerate_is_taken(gpus: int) -> None:
    needs = ResourcesSection(gpus=gpus, accelerate_config=Path("/etc/fsdp.yaml"))
    assert is_launched(needs)
    argv = launched(COMMAND, needs)
    assert argv[:4] == (
        "/venv/bin/python",
        "-m",
        "accelerate.commands.launch",
        "--config_file=/etc/fsdp.yaml",
    )
    assert f"--num_processes={gpus}" in argv
    assert argv[-4:] == ("--module", BEGIN, *COMMAND[2:])


def test_accelerate_on_several_nodes() -> None:
    needs = ResourcesSection(gpus=16, nodes=2, accelerate_config=Path("/etc/fsdp.yaml"))
    argv = launched(COMMAND, needs, NODE)
    assert {"--num_processes=16", "--num_machines=2", "--machine_rank=$SLURM_NODEID"} < set(argv)
    assert {"--main_process_ip=$MAIN", "--main_process_port=29400"} < set(argv)
    assert (
        "--deepspeed_multinode_launcher=standard" in argv
    )  # one command per node, and no logging in to the others
