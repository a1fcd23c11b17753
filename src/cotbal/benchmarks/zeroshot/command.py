"""lmms-eval as a command: what the environment that it runs in must hold, what it is given, and its
argv.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from cotbal.benchmarks.zeroshot.columns import ZeroShot
from cotbal.data.files import write_text
from cotbal.errors import CotbalError

VERSION = "0.7.3"
INSTALL = f'pip install "lmms-eval[video-legacy]=={VERSION}"'
MODEL = "cotbal_llava"
# Only looks for the packages: importing lmms-eval takes half a minute.
PROBE = """
import importlib.metadata as m, importlib.util as u, json, os
there = lambda name: (u.find_spec(name) or 0) and m.version(name)
found = u.find_spec("lmms_eval")
tasks = found and os.path.join(os.path.dirname(found.origin), "tasks")
version, decord = found and m.version("lmms_eval"), bool(u.find_spec("decord"))
print(json.dumps({"tasks": tasks, "version": version, "decord": decord,
                  "transformers": there("transformers"), "torch": there("torch")}))
"""
# what the parser of --model_args may read as something else than a path
SPECIAL = set(",\"'{}[]= \t")


@dataclass(frozen=True)
class Environment:
    """A Python environment that has lmms-eval.

    Attributes:
        python: its interpreter.
        tasks: folder of its task files.
        versions: package -> version, of those that can change a score.
    """

    python: str
    tasks: Path
    versions: Mapping[str, str | None]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Another version of lmms-eval than the one that the task files were written for."""
        version = self.versions["lmms_eval"]
        if version == VERSION:
            return ()
        message = (
            f"{self.python} has lmms-eval {version}; tasks, prompts and numbers of questions are"
            f" those of {VERSION}"
        )
        return (message,)


@dataclass(frozen=True)
class How:
    """How models are evaluated; all of it can change a score, save the device.

    Attributes:
        limit: questions per task; None asks all of them.
        model: of lmms-eval.
        model_args: further arguments of the model.
        as_trained: whether a checkpoint keeps its processor and chat template.
    """

    dtype: str = "bfloat16"
    device: str = "cuda:0"
    limit: int | None = None
    model: str = MODEL
    model_args: str = ""
    as_trained: bool = False


def find_environment(python: str) -> Environment:
    """What the interpreter has.

    Raises:
        CotbalError: it cannot be run, or lacks lmms-eval or decord.
    """
    try:
        done = subprocess.run(
            [python, "-c", PROBE], capture_output=True, text=True, check=True, timeout=120
        )
        packages = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        message = getattr(error, "stderr", None) or str(error)
        raise CotbalError(
            f"--python {python}: expected an interpreter; {message.strip().splitlines()[-1]}",
            "missing-program",
        ) from None
    if not packages["tasks"]:
        raise CotbalError(
            f"--python {python}: expected lmms-eval; found none; install it into a separate"
            f" environment: {INSTALL}",
            "missing-program",
        )
    if not packages["decord"]:
        raise CotbalError(
            f"--python {python}: expected decord, which lmms-eval's model llava_hf imports; found"
            f" none; {INSTALL}",
            "missing-program",
        )
    versions = {
        "lmms_eval": packages["version"],
        "transformers": packages["transformers"],
        "torch": packages["torch"],
    }
    return Environment(python, Path(packages["tasks"]), versions)


def write_files(environment: Environment, target: Path) -> None:
    """Write the task files and the model that lmms-eval is given, with the paths of its
    environment.
    """
    _write(files("cotbal.benchmarks.zeroshot").joinpath("lmms"), target, str(environment.tasks))
    package = target / "plugin" / f"cotbal_lmms-{VERSION}.dist-info"
    write_text(
        package / "METADATA", f"Metadata-Version: 2.1\nName: cotbal-lmms\nVersion: {VERSION}\n"
    )
    write_text(package / "entry_points.txt", "[lmms_eval.models]\ncotbal = cotbal_llava:manifest\n")


def _write(source: Traversable, target: Path, tasks: str) -> None:
    for entry in source.iterdir():
        if entry.is_dir() and entry.name != "__pycache__":
            _write(entry, target / entry.name, tasks)
        elif entry.name.endswith((".yaml", ".py")):
            write_text(
                target / entry.name, entry.read_text(encoding="utf-8").replace("@TASKS@", tasks)
            )


def argv(
    environment: Environment, how: How, checkpoint: Path, column: ZeroShot, lmms: Path, out: Path
) -> tuple[str, ...]:
    """The command that evaluates one checkpoint on one column, results below `out`.

    Raises:
        CotbalError: a path that lmms-eval would not read as one.
    """
    for path in (checkpoint.resolve(), out.resolve()):
        if SPECIAL & set(str(path)):
            raise CotbalError(
                f"{path}: expected no spaces, commas, quotes or brackets, for lmms-eval",
                "invalid-name",
            )
    arguments = f"pretrained={checkpoint.resolve()}"
    if how.model == MODEL:
        # Without a device map, LLaVA of lmms-eval 0.7.3 does not load under transformers 5.
        arguments += f",dtype={how.dtype},device_map={how.device}"
    arguments += f",{how.model_args}" if how.model_args else ""
    limit = () if how.limit is None else ("--limit", str(how.limit))
    return (
        environment.python,
        "-m",
        "lmms_eval",
        "--model",
        how.model,
        "--model_args",
        arguments,
        "--tasks",
        ",".join(column.tasks),
        "--include_path",
        str((lmms / "tasks").resolve()),
        "--batch_size",
        "1",
        "--device",
        how.device,
        "--log_samples",
        "--output_path",
        str(out.resolve()),
        *limit,
        "--verbosity",
        "DEBUG",  # otherwise an evaluation that failed ends like one that did not
    )


def variables(lmms: Path) -> dict[str, str]:
    """Environment variables of the command: our model is found as a plugin."""
    others = os.environ.get("PYTHONPATH")
    plugin = str((lmms / "plugin").resolve())
    return {"PYTHONPATH": f"{plugin}{os.pathsep}{others}" if others else plugin}


def shown(command: tuple[str, ...], environment: Mapping[str, str]) -> str:
    """The command as a shell would take it."""
    assignments = [f"{name}={shlex.quote(value)}" for name, value in environment.items()]
    return " ".join([*assignments, shlex.join(command)])
