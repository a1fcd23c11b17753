"""The container and the jobs of other schedulers name commands, extras and files that there are."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer
import yaml

from cotbal.cli.app import app

ROOT = Path(__file__).parents[2]
SKY = yaml.safe_load((ROOT / "examples/sky.yaml").read_text(encoding="utf-8"))
KUBERNETES = yaml.safe_load((ROOT / "examples/kubernetes-job.yaml").read_text(encoding="utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
CONTAINER = KUBERNETES["spec"]["template"]["spec"]["containers"][0]
(DOCKER_RUN,) = re.findall(r"docker run .*\\\n# +(cotbal .*)", DOCKERFILE)
COMMANDS = {
    "sky": shlex.split(SKY["run"]),
    "kubernetes": CONTAINER["command"],
    "docker": shlex.split(DOCKER_RUN),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_commands_are_those_of_the_command_line(name: str) -> None:
    """Parsed, not executed."""
    program, verb, *rest = COMMANDS[name]
    assert program == "cotbal"
    group = typer.main.get_command(app)
    parsed = group.commands[verb].make_context(verb, rest)  # type: ignore[attr-defined]
    assert str(parsed.params["recipe"]).startswith("/runs/")
    assert str(parsed.params["out"]).startswith("/runs/"), "the run directory outlives the machine"


@pytest.mark.parametrize("text", [SKY["setup"], DOCKERFILE], ids=["sky", "docker"])
def test_what_pip_installs_is_pinned_and_exists(text: str) -> None:
    lines = [line for line in text.splitlines() if "pip install" in line]
    assert lines
    assert [line for line in lines if "-c constraints.txt" not in line] == []
    extras = re.findall(r"\.\[([a-z,]+)\]", "\n".join(lines))
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras
    assert set(",".join(extras).split(",")) <= set(known)


def test_the_image_gets_what_it_copies_and_its_user_is_not_root() -> None:
    copied = [
        word
        for line in DOCKERFILE.splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    ]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    kept = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    assert set(copied) == kept
    (user,) = re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE)
    assert f"--uid {user} " in DOCKERFILE
    assert int(user) == KUBERNETES["spec"]["template"]["spec"]["securityContext"]["runAsUser"], (
        "by number"
    )


def test_what_lies_in_the_home_of_the_image_outlives_the_container() -> None:
    """Models from a hub, converted records and Ray's token; and a user without a name there has a
    home too.
    """
    (volume,) = re.findall(r"^VOLUME (.+)$", DOCKERFILE, re.MULTILINE)
    assert re.findall(r" HOME=(\S+)", DOCKERFILE) == [volume]
    assert f"--home-dir {volume} " in DOCKERFILE


def test_the_pod_writes_where_its_volume_is_and_no_failure_of_the_user_is_repeated() -> None:
    mounts = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    assert {volume["name"] for volume in KUBERNETES["spec"]["template"]["spec"]["volumes"]} == set(
        mounts
    )
    assert mounts["runs"] == "/runs" == next(iter(SKY["volumes"]))
    first, second = KUBERNETES["spec"]["podFailurePolicy"]["rules"]
    assert (first["action"], second["action"], second["onExitCodes"]["values"]) == (
        "Ignore",
        "FailJob",
        [2],
    )
    assert first["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}], (
        "both asked for before 1.35"
    )
    assert KUBERNETES["spec"]["template"]["spec"]["restartPolicy"] == "Never", (
        "a failure policy asks for it"
    )
