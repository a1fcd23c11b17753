"""What Ray adds to the contract of executors: retries, room, several nodes, and how it leaves this
process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cotbal.jobs.executors import Job, Outcome, Resources, ray
from cotbal.recipe.schema import ResourcesSection
from helpers.ray_nodes import ATTEMPTS, RayNodes

pytestmark = [pytest.mark.needs("ray"), pytest.mark.extended]
ONE = ResourcesSection(gpus=0, retries=1)


def job(
    directory: Path, name: str, code: str, cost: float = 1.0, needs: ResourcesSection = ONE
) -> Job:
    return Job(name, directory / name, (sys.executable, "-I", "-S", "-c", code), cost, needs)


def outcome(one: Job) -> Outcome:
    (result,) = ray.run([one], Resources(threads=1))
    return result


@pytest.mark.parametrize(
    ("whom", "how"),
    [("getpid", "was killed by signal SIGKILL"), ("getppid", "was lost: ")],
    ids=["command", "task"],
)
def test_a_killed_job_is_retried_a_limited_number_of_times(
    connected_to_ray: RayNodes, tmp_path: Path, whom: str, how: str
) -> None:
    """The parent of a command is the process of its task, whose end Ray reports."""
    code = f"import os, signal; print('tried', flush=True); os.kill(os.{whom}(), signal.SIGKILL)"
    result = outcome(job(tmp_path, "a", code))
    assert not result.ok
    assert result.message.startswith(f"a {how}")
    assert result.message.splitlines()[-1] == "tried"
    assert (tmp_path / "a" / "log.txt").read_text().split() == ["tried"] * 2


def test_a_job_that_was_killed_once_ends_well(connected_to_ray: RayNodes, tmp_path: Path) -> None:
    code = (
        f"import os, signal; from pathlib import Path; mark = Path({str(tmp_path / 'mark')!r});"
        " again = mark.exists()\nmark.touch(); again or os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert outcome(job(tmp_path, "a", code)).ok


def test_a_program_that_fails_is_not_retried(connected_to_ray: RayNodes, tmp_path: Path) -> None:
    result = outcome(job(tmp_path, "a", "print('tried'); raise SystemExit(3)"))
    assert result.message.splitlines() == ["a ended with exit code 3", "tried"]


def test_a_command_that_a_node_does_not_have(connected_to_ray: RayNodes, tmp_path: Path) -> None:
    result = outcome(Job("a", tmp_path, (str(tmp_path / "no-such-program"),), 1.0, ONE))
    assert result.message.startswith("a could not start on ")
    assert "no-such-program" in result.message


def test_the_longest_first(connected_to_ray: RayNodes, tmp_path: Path) -> None:
    jobs = [
        job(tmp_path, name, "", cost)
        for name, cost in (("short", 1.0), ("long", 50.0), ("middle", 7.0))
    ]
    names = [one.job.name for one in ray.run(jobs, Resources(workers=1))]
    assert names == ["long", "middle", "short"]


def test_a_node_gets_variables_of_the_program_and_no_others(
    connected_to_ray: RayNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HOME", "COTBAL_MARK", "SOME_SECRET"):
        monkeypatch.setenv(name, "frog")
    names = ("HF_HOME", "COTBAL_MARK", "SOME_SECRET", "OMP_NUM_THREADS")
    code = f"import json, os; print(json.dumps([os.environ.get(name) for name in {names}]))"
    assert outcome(job(tmp_path, "a", code, needs=ONE.model_copy(update={"cpus": 3}))).ok
    assert json.loads((tmp_path / "a" / "log.txt").read_text()) == ["frog", "frog", None, "1"]


def test_a_job_that_no_node_can_hold_is_reported_and_waits(
    connected_to_ray: RayNodes, tmp_path: Path
) -> None:
    needs = ResourcesSection(gpus=0, cpus=9, memory="2G")
    outcomes: Any = ray.run(
        [job(tmp_path, "a", "", 2.0, needs), job(tmp_path, "b", "")], Resources()
    )
    with pytest.warns(UserWarning, match=r"9 CPU, 2 GiB .* 1 node.* 2 nodes .* 4 CPU, 1 GPU"):
        assert next(outcomes).job.name == "b"
    outcomes.close()


@pytest.mark.parametrize("memory", ["3072", "3072M", "3G"])
def test_memory_is_counted_as_slurm_does(
    connected_to_ray: RayNodes, tmp_path: Path, memory: str
) -> None:
    needs = ResourcesSection(gpus=0, cpus=99, memory=memory)
    outcomes: Any = ray.run(
        [job(tmp_path, "a", "", 2.0, needs), job(tmp_path, "b", "")], Resources()
    )
    with pytest.warns(UserWarning, match="99 CPU, 3 GiB"):
        next(outcomes)
    outcomes.close()


IMPORTED = """
import os
with open(os.environ["IMPORTS"], "a") as file:
    file.write(f"{os.getpid()}\\n")
"""
FORKED_WORK = """
import os, signal, sys
from pathlib import Path
import imported_once

print(os.getppid(), flush=True)
killed = Path(sys.argv[1])
if killed.name == "f" and not killed.exists():
    killed.touch()
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()
"""


def test_runs_of_a_process_share_the_imports(
    connected_to_ray: RayNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last run kills its server: it starts again in a fresh process, which is no retry."""
    (tmp_path / "imported_once.py").write_text(IMPORTED)
    (tmp_path / "forked_work.py").write_text(FORKED_WORK)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    command = (sys.executable, "-m", "forked_work")
    needs = ResourcesSection(gpus=0, retries=0, cpus=4)  # one at a time on each of the nodes
    jobs = [
        Job(
            n,
            tmp_path / n,
            (*command, str(tmp_path / "killed" / n)),
            1.0,
            needs,
            ("imported_once",),
        )
        for n in "abcdef"
    ]
    (tmp_path / "killed").mkdir()
    marks = {"IMPORTS": str(tmp_path / "imports.txt")}
    outcomes = list(ray.run(jobs, Resources(workers=1, environment=marks)))
    assert [one.message for one in outcomes] == [""] * len(jobs)
    parents = {n: (tmp_path / n / "log.txt").read_text().split() for n in "abcdef"}
    imported = (tmp_path / "imports.txt").read_text().split()
    killed, fresh = parents.pop("f")
    servers = {parent for lines in parents.values() for parent in lines} | {killed}
    assert sorted(servers) == sorted(imported[:-1])  # the last import is that of the fresh process
    assert len(servers) <= 2  # one on each node
    assert fresh not in servers


RANK_WORK = """
import os, sys, time
from pathlib import Path

again = Path(sys.argv[1])
print("rank", *(os.environ[name] for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")), flush=True)
if not again.exists():
    if os.environ["RANK"] == "0":
        time.sleep(600)
    again.write_text("")
    sys.exit("no frog")
"""


def test_one_run_on_two_nodes(
    connected_to_ray: RayNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One rank per node; when one fails the other is stopped, and both are retried."""
    (tmp_path / "rank_work.py").write_text(RANK_WORK)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    needs = ResourcesSection(
        gpus=0, nodes=2, ranks=2, cpus=3, retries=1
    )  # two do not fit on one node
    command = (sys.executable, "-m", "rank_work", str(tmp_path / "again"))
    result = outcome(Job("a", tmp_path / "a", command, 1.0, needs))
    assert result.ok, result.message
    lines = (tmp_path / "a" / "log.txt").read_text().splitlines()
    assert "no frog" in lines
    ranks = [line.split()[1:] for line in lines if line.startswith("rank ")]
    assert sorted(rank[:2] for rank in ranks[-2:]) == [["0", "2"], ["1", "2"]]
    assert ranks[-2][2:] == ranks[-1][2:]


OWN_CLUSTER = """
import os, signal, sys
from pathlib import Path
from cotbal.errors import CotbalError
from cotbal.jobs.executors import Job, Resources, ray
from cotbal.recipe.schema import ResourcesSection

code = "import os; print(os.environ['OMP_NUM_THREADS'])"
needs = ResourcesSection(), ResourcesSection(gpus=2)
module = Path(sys.argv[1]) / "own_work.py"
module.write_text(code)
jobs = [Job(n, Path(sys.argv[1]) / n, (sys.executable, "-m", "own_work"), 1.0, need) for n, need in zip("ab", needs)]

before = dict(os.environ), signal.getsignal(signal.SIGTERM)
try:
    for outcome in ray.run(jobs, Resources(workers=1, threads=3, environment={"PYTHONPATH": sys.argv[1]})):
        print(outcome.job.name, outcome.ok)
except CotbalError as error:
    print(error.code, error)
print((dict(os.environ), signal.getsignal(signal.SIGTERM)) == before)
"""


def test_without_an_address_it_makes_a_cluster_and_leaves_no_trace(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    for _ in range(ATTEMPTS):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", OWN_CLUSTER, tmp_path],
            env={**environment, "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
            check=True,
        )
        if "did not start" not in done.stdout:
            break
    lines = done.stdout.splitlines()
    assert lines[0] == "a True"
    assert lines[1].startswith("too-few-resources a run needs 6 CPU, 2 GPU on 1 node(s)")
    assert lines[2:] == ["True"]
    assert done.stderr == ""
    assert (tmp_path / "a" / "log.txt").read_text() == "3\n"
