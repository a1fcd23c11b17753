"""What Slurm is given for a job: options and script, as text."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cotbal.errors import CotbalError
from cotbal.jobs.executors import Job
from cotbal.jobs.executors._slurm_queue import parse
from cotbal.jobs.executors._slurm_script import END, name_of, options, script
from cotbal.recipe.schema import ResourcesSection
from cotbal.training.environment import PREEMPTIBLE
from helpers.errors import raises


def job(directory: Path, name: str = "full:ocr", **needs: object) -> Job:
    command = (sys.executable, "-m", "cotbal.jobs.worker", str(directory / "job.json"))
    return Job(name, directory, command, needs=ResourcesSection.model_validate(needs))


def test_options_of_sbatch(tmp_path: Path) -> None:
    words = options(
        job(
            tmp_path,
            gpus=8,
            nodes=2,
            cpus=16,
            memory="200G",
            hours=1.5,
            partition="a100",
            directives=["--account=lab", "--gres=gpu:a100:4"],
        )
    )
    wanted = {
        "--nodes=2",
        "--ntasks-per-node=1",
        "--gres=gpu:4",
        "--cpus-per-task=16",
        "--mem=200G",
        "--time=90",
    }
    assert wanted | {
        "--partition=a100",
        "--requeue",
        "--signal=TERM@120",
        "--dependency=singleton",
    } < set(words)
    assert words[-2:] == ("--account=lab", "--gres=gpu:a100:4"), "what the recipe adds wins"


def test_what_is_not_requested_is_left_to_the_cluster(tmp_path: Path) -> None:
    words = " ".join(options(job(tmp_path, gpus=0)))
    for option in ("--gres", "--cpus-per-task", "--mem", "--time", "--partition"):
        assert option not in words


def test_a_short_run_is_signalled_early_enough(tmp_path: Path) -> None:
    assert {"--time=3", "--signal=TERM@45"} < set(options(job(tmp_path, hours=0.05)))


def test_a_run_always_has_the_same_name_and_no_other_run_has_it(tmp_path: Path) -> None:
    one = name_of(job(tmp_path / "a"))
    assert one == name_of(job(tmp_path / "x" / ".." / "a"))
    assert one.startswith("cotbal-full-ocr-")
    assert one != name_of(job(tmp_path / "b"))


def test_a_percent_sign_in_a_path_means_itself(tmp_path: Path) -> None:
    words = options(job(tmp_path / "50%j"))
    assert f"--output={tmp_path}/50%%j/slurm.txt" in words
    assert f"--chdir={tmp_path}/50%j" in words


def test_a_backslash_in_a_path_is_rejected(tmp_path: Path) -> None:
    """Slurm removes it from file names."""
    with raises(CotbalError, "unsupported-path", tmp_path / "a\\b"):
        options(job(tmp_path / "a\\b"))


def test_variables_of_the_driver_are_in_the_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster may pass none (SBATCH_EXPORT=NONE); secrets are not written, and setup wins."""
    secrets = ("HF_TOKEN", "HF_API_KEY", "HF_HUB_PASSWORD", "COTBAL_KEY", "TOKENIZERS_KEY")
    known = {"HF_HOME": "/a b", "COTBAL_CACHE": "/c"}
    for name, value in {**known, **dict.fromkeys(secrets, "frog")}.items():
        monkeypatch.setenv(name, value)
    text = script(job(tmp_path, gpus=0, setup=["export COTBAL_CACHE=/fast"]), {})
    assert "frog" not in text
    srun = 'srun: echo "$HF_HOME $COTBAL_CACHE $COTBAL_PREEMPTIBLE $1" >seen'
    assert run(text, tmp_path, srun) == 0
    assert (tmp_path / "seen").read_text() == "/a b /fast 1 --export=ALL\n"


def run(text: str, directory: Path, *programs: str) -> int:
    """Execute a batch script with stand-ins for Slurm's programs, given as `name: code`."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "bin").mkdir(exist_ok=True)
    for program in programs:
        name, _, action = program.partition(": ")
        (directory / "bin" / name).write_text(f"#!/bin/bash\n{action}\n")
        (directory / "bin" / name).chmod(0o755)
    environment = {
        "PATH": f"{directory / 'bin'}:/usr/bin:/bin",
        "SLURM_JOB_ID": "41",
        "SLURM_JOB_NODELIST": "n[1-2]",
    }
    return subprocess.run(
        ["/bin/bash", "-c", text], env=environment, cwd=directory, check=False
    ).returncode


def test_the_script_sets_up_and_notes_how_it_ended(tmp_path: Path) -> None:
    directory = tmp_path / "a run's place"
    one = job(directory, gpus=0, setup=["mark='a frog'", "export mark"])
    text = script(one, {"OMP_NUM_THREADS": "4", "WORDS": "it's $HOME"})
    srun = (
        'srun: printf "%s\\n" "$mark" "$WORDS" "$OMP_NUM_THREADS" "$COTBAL_PREEMPTIBLE" "$@" >seen'
    )
    assert run(text, directory, srun) == 0
    assert (directory / END).read_text() == "41 run 0\n"
    seen = (directory / "seen").read_text().splitlines()
    assert seen[:4] == ["a frog", "it's $HOME", "4", "1"]
    assert seen[-4:] == list(one.command)
    assert f"--output={directory}/log.txt" in seen
    assert PREEMPTIBLE in text


@pytest.mark.parametrize("code", [1, 75, 137])
def test_the_exit_code_of_a_run_is_kept(tmp_path: Path, code: int) -> None:
    assert run(script(job(tmp_path, gpus=0), {}), tmp_path, f"srun: exit {code}") == code
    assert (tmp_path / END).read_text() == f"41 run {code}\n"


def test_the_note_names_the_stage_that_failed(tmp_path: Path) -> None:
    text = script(job(tmp_path, setup=["module load cuda"]), {})
    assert run(text, tmp_path, "srun: touch started") == 127
    assert (tmp_path / END).read_text() == "41 setup 127\n"
    assert not (tmp_path / "started").exists()


def test_a_stopped_script_notes_no_success(tmp_path: Path) -> None:
    assert (
        run(script(job(tmp_path, gpus=0), {}), tmp_path, "srun: kill -TERM $PPID; sleep 0.2") == 143
    )
    assert (tmp_path / END).read_text() == "41 run 143\n"


def test_several_gpus_of_a_node_are_one_step(tmp_path: Path) -> None:
    text = script(job(tmp_path, gpus=4, cpus=8), {})
    step = next(line for line in text.splitlines() if line.startswith("srun"))
    assert "--nodes=1 --ntasks=1 --cpus-per-task=8" in step
    assert (
        f"{sys.executable} -m torch.distributed.run --standalone --nproc-per-node=4 --module"
        " cotbal.jobs.begin cotbal.jobs.worker" in step
    )


def test_several_nodes_meet_at_the_first_one(tmp_path: Path) -> None:
    """Every node fills in its own number; nothing else is filled in."""
    directory = tmp_path / "$HOME"
    text = script(job(directory, gpus=4, nodes=2), {})
    # srun -> bash -c COMMAND on every node; here on the second alone. The command starts with `exec
    # PYTHON`.
    printed = "exec printf '%s\\\\n' ${last#* }"
    srun = (
        f'srun: for last; do :; done; export SLURM_NODEID=1; bash -c "${{last/exec */{printed}}}"'
        " >seen"
    )
    assert run(text, directory, "scontrol: printf 'n1\\nn2\\n'", srun) == 0
    seen = (directory / "seen").read_text().splitlines()
    assert seen[3:8] == [
        "--nnodes=2",
        "--nproc-per-node=2",
        "--node-rank=1",
        "--master-addr=n1",
        "--master-port=20041",
    ]
    assert seen[-1] == str(directory / "job.json")


def test_the_queue_is_read() -> None:
    listing = (
        "12|RUNNING|n[1-2]|None|cotbal-a|b\n\n13|PENDING||Resources|other\nsqueue: a"
        " remark\n14|NODE_FAIL|n1|None|x\n"
    )
    entries = parse(listing)
    assert [(e.id, e.nodes, e.reason, e.name, e.alive) for e in entries] == [
        ("12", "n[1-2]", "None", "cotbal-a|b", True),
        ("13", "", "Resources", "other", True),
        ("14", "n1", "None", "x", False),
    ]
