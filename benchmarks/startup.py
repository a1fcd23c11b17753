"""Start-up of commands, two versions of cotbal side by side: processor time before work begins, and
of the whole command on a small job.

    python benchmarks/startup.py RUN TRIALS BEFORE AFTER [rounds]

RUN is the directory of a finished job (its report is rewritten), TRIALS a table for `cotbal steer`,
BEFORE and AFTER are `src` folders of two checkouts. Start-up is the time of a process that
builds the command line and imports every module that the command has imported when it ends. In
every round each version does both, in turns first the one or the other, so whatever else the
machine does hits both alike. What the commands print must be the same.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from statistics import median

COMMAND = "from cotbal.cli.app import main; main()"
MODULES = f"""
import atexit, json, sys
atexit.register(lambda: print(json.dumps([*sys.modules]), file=sys.stderr))
{COMMAND}
"""
START = """
import importlib, json, sys
from contextlib import suppress
import typer.main
from cotbal.cli.app import app

typer.main.get_command(app)
for name in json.loads(sys.stdin.read()):
    with suppress(ImportError):  # some modules are made by others, without a file
        importlib.import_module(name)
"""
Costs = tuple[float, float]  # seconds of processor time: of start-up, of the command


def main(run: Path, trials: Path, sources: tuple[Path, Path], rounds: int) -> None:
    recipe = str(run / "recipe.yaml")
    commands = {
        "--help": ["--help"],
        "weights": ["weights", "--scores", str(run / "scores.csv")],
        "status": ["status", str(run)],
        "steer": ["steer", "--trials", str(trials)],
        "plan": ["plan", recipe],
        "report": ["report", str(run)],
        "check": ["check", recipe, "--no-decode"],
        "verify": ["verify", str(run)],
    }
    print("| command | start-up | before | quotient | command | before | quotient |")
    print("|---|---|---|---|---|---|---|")
    for name, line in commands.items():
        modules = {source: modules_of(line, source) for source in sources}
        pairs = [pair(line, modules, turn % 2 == 0) for turn in range(rounds)]
        cells = []
        for kind in range(2):
            old, new = ([costs[source][kind] for costs in pairs] for source in sources)
            quotient = median(after / before for before, after in zip(old, new, strict=True))
            cells += [f"{median(new):.2f} s", f"{median(old):.2f} s", f"{quotient:.2f}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def modules_of(line: list[str], source: Path) -> str:
    """The modules that a command has imported when it ends, as JSON; it also warms the disk."""
    _, done = executed([MODULES, *line], source)
    names = json.loads(done.stderr.splitlines()[-1])
    return json.dumps([name for name in names if name != "__main__"])


def pair(line: list[str], modules: dict[Path, str], swapped: bool) -> dict[Path, Costs]:
    """What start-up and command take in both versions."""
    costs, printed = {}, set()
    for source in [*modules][:: -1 if swapped else 1]:
        start, _ = executed([START], source, modules[source])
        whole, done = executed([COMMAND, *line], source)
        costs[source] = start, whole
        printed.add(done.stdout)
    assert len(printed) == 1, f"{line}: the two versions print different texts"
    return costs


def executed(
    arguments: list[str], source: Path, text: str = ""
) -> tuple[float, subprocess.CompletedProcess[str]]:
    """Processor time of `python -c` in a process of its own, and what it printed.

    Byte code is kept, as in an installation.
    """
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    begun = children()
    done = subprocess.run(
        [sys.executable, "-c", *arguments],
        env={**kept, "PYTHONPATH": str(source)},
        input=text,
        capture_output=True,
        text=True,
        check=True,
    )
    return children() - begun, done


def children() -> float:
    """Processor time of all processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    given = [Path(word).resolve() for word in sys.argv[1:5]]
    rounds = int(sys.argv[5]) if len(sys.argv) > 5 else 7
    main(given[0], given[1], (given[2], given[3]), rounds)
