"""The command as a process: no torch where none is needed, a quick start, and Ctrl-C."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from helpers.pipeline_fakes import EXECUTOR

SCORES = "run,a,b\nmini,0.2,0.3\nfull:a,0.7,0.4\nfull:b,0.3,0.8\n"
TESTS = str(Path(__file__).parents[2])
COMMAND = "from cotbal.cli.app import main; main()"
# Every import of a heavy package fails; then one verb after the other, as main() does them.
WITHOUT_TORCH = """
import contextlib, io, json, sys, traceback

HEAVY = {"torch", "transformers", "peft", "accelerate", "torchvision"}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HEAVY:
            raise ImportError(f"{name} must not be imported here")

sys.meta_path.insert(0, Refuse())
from cotbal.cli.app import main

found = {}
for name, line in json.loads(sys.argv[1]).items():
    sys.argv = ["cotbal", *line]
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            code = traceback.format_exc()
    found[name] = [code, text.getvalue(), sorted(HEAVY & set(sys.modules))]
print(json.dumps(found))
"""
VERBS = (
    "init",
    "check",
    "plan",
    "balance",
    "train",
    "run",
    "weights",
    "status",
    "report",
    "export",
    "export olmix",
    "import lmms-eval",
    "weights of lmms-eval",
    "import vlmevalkit",
    "weights of vlmevalkit",
)
RECORDED = Path(__file__).parents[1] / "harnesses" / "recorded"
LMMS = [
    *(
        f"{run}={RECORDED}/lmms_eval/{model}"
        for run, model in (("mini", "EW"), ("full:ocr", "CoTBal"))
    ),
    f"full:science={RECORDED}/lmms_eval/CoTBal",
    "--task",
    "ocr=cotbal_textvqa:exact_match",
    "--task",
    "science=cotbal_scienceqa",
]
KIT = [
    *(
        f"{run}={RECORDED}/vlmevalkit/{model}"
        for run, model in (("mini", "LLaVA-mini"), ("full:ocr", "LLaVA-EW"))
    ),
    f"full:vet={RECORDED}/vlmevalkit/LLaVA-EW",
    "--task",
    "ocr=TextVQA_VAL",
    "--task",
    "vet=MMVet_gpt-4-turbo:Overall:acc",
]


@pytest.fixture(scope="module")
def without_torch(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Verb -> exit code, output, and the heavy packages that were imported."""
    from helpers.pipeline_fakes import write_mixture

    directory = tmp_path_factory.mktemp("without-torch")
    recipe = str(write_mixture(directory / "mixture"))
    (directory / "scores.csv").write_text(SCORES)
    lines = {
        "init": ["init", "starter.yaml"],
        "check": ["check", recipe],
        "plan": ["plan", recipe],
        "balance": ["balance", recipe, "--on", EXECUTOR],
        "train": ["train", recipe, "--on", EXECUTOR],
        "run": ["run", recipe, "--on", EXECUTOR],
        "weights": ["weights", "--scores", "scores.csv", "--json"],
        "status": ["status", "runs/small"],
        "report": ["report", "runs/small"],
        "export": ["export", recipe, "--to", "ms-swift", "--out", "swift"],
        "export olmix": ["export", recipe, "--to", "olmix", "--out", "swarm"],
        "import lmms-eval": ["import", "lmms-eval", *LMMS, "--out", "lmms.json"],
        "weights of lmms-eval": ["weights", "--scores", "lmms.json"],
        "import vlmevalkit": ["import", "vlmevalkit", *KIT, "--out", "kit.csv"],
        "weights of vlmevalkit": ["weights", "--scores", "kit.csv"],
    }
    argv = [sys.executable, "-c", WITHOUT_TORCH, json.dumps(lines)]
    done = subprocess.run(
        argv, cwd=directory, env=environment(), capture_output=True, text=True, check=True
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def environment() -> dict[str, str]:
    paths = [TESTS, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_does_without_torch(without_torch: dict[str, Any], verb: str) -> None:
    code, text, imported = without_torch[verb]
    assert code == 0, f"{code}\n{text}"
    assert imported == []


def test_weights_of_a_table_need_no_more_than_the_table(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text(SCORES)
    argv = [sys.executable, "-c", COMMAND, "weights", "--scores", "scores.csv", "--json"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=True)
    content = json.loads(done.stdout)
    assert set(content["weights"]) == {"a", "b"}
    assert sum(content["weights"].values()) == pytest.approx(2)
    assert done.stderr == ""


def test_help_starts_quickly(tmp_path: Path) -> None:
    """Against what any command line of these libraries costs, in CPU time: a slow or busy machine
    is no error. 0.18 s where it was first measured, a factor of two; one heavy import more would be
    a factor of three.
    """
    bare, ours = (
        [cpu_seconds([sys.executable, "-c", *code], tmp_path) for _ in range(3)]
        for code in (("import typer, rich.table, rich.markdown",), (COMMAND, "--help"))
    )
    assert min(ours) < 3 * min(bare)


def cpu_seconds(argv: list[str], directory: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, cwd=directory, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_stops_cleanly_and_says_how_to_resume(
    recipe_path: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "__init__.py").write_text("")
    (slow / "executor.py").write_text(
        "import pathlib, time\n"
        "def run(jobs, resources):\n"
        "    try:\n"
        "        pathlib.Path('begun').touch()\n"
        "        time.sleep(60)\n"
        "        yield\n"
        "    finally:\n"
        "        pathlib.Path('closed').touch()\n"
    )
    argv = [sys.executable, "-c", COMMAND, "balance", str(recipe_path), "--on", "slow.executor"]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
    }
    with subprocess.Popen(
        argv, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 30
        while not (tmp_path / "begun").exists():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == code
    assert (tmp_path / "closed").exists()
    assert f": cotbal balance {recipe_path} --on slow.executor\n" in errors
    assert "Traceback" not in errors


def test_a_full_disk_is_a_message_that_says_how_to_resume(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text(SCORES)
    argv = [sys.executable, "-c", COMMAND, "weights", "--scores", "scores.csv"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            argv, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr.startswith("cotbal: No space left on device")
    assert done.stderr.endswith(": cotbal weights --scores scores.csv\n")
    assert len(done.stderr.splitlines()) == 1


def test_a_command_that_is_not_on_the_path_is_named_by_the_way_to_it(tmp_path: Path) -> None:
    """As `make demo` calls it: the command that resumes must work as printed."""
    program = tmp_path / "bin" / "cotbal"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{COMMAND}\n")
    program.chmod(0o755)
    (tmp_path / "scores.csv").write_text(SCORES)
    argv = ["bin/cotbal", "weights", "--scores", "scores.csv"]
    with Path("/dev/full").open("w") as full:
        env = {**os.environ, "PATH": "/usr/bin:/bin"}
        done = subprocess.run(
            argv, cwd=tmp_path, env=env, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.stderr.endswith(": bin/cotbal weights --scores scores.csv\n")
