"""Memory and processor time of `check` and `plan` on mixtures of up to 500 tasks and 10 million
records.

    python benchmarks/many_tasks.py WORK --out benchmarks/results/many_tasks_<machine>_<date>.md

Every step has ten times the records of the step before, with the same tasks. Records share a
thousand small images. The directory of a step (1.7 GB at 10 million records, and the converted
records beside it) is deleted when the step is measured. Figures are in WORK/figures.json; steps
that are in it are not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml
from PIL import Image

IMAGES = 1000
HELD_OUT = 100  # records of each validation set
COMMANDS = ("check", "check again", "plan", "plan again")
LIMIT = 1024  # MiB


def main() -> None:
    """Measure the steps that are not measured yet, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--tasks", type=int, default=500)
    parser.add_argument("--records", default="100000,1000000,10000000", help="of the steps")
    parser.add_argument("--out", type=Path, help="file of results; printed in any case")
    options = parser.parse_args()
    for records in map(int, options.records.split(",")):
        measure_step(options.work, options.tasks, records)
    text = results(read_figures(options.work), options.tasks)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    print(text)


def read_figures(work: Path) -> dict[str, dict[str, list[float]]]:
    """Step -> command -> seconds of processor time and MiB."""
    path = work / "figures.json"
    figures: dict[str, dict[str, list[float]]] = (
        json.loads(path.read_text()) if path.exists() else {}
    )
    return figures


def measure_step(work: Path, tasks: int, records: int) -> None:
    """One mixture; its figures are written after every command."""
    folder = work / f"{tasks}-{records}"
    figures = read_figures(work)
    known = figures.setdefault(folder.name, {})
    if set(known) == set(COMMANDS):
        return
    recipe = write_mixture(folder, tasks, records)
    for command in COMMANDS:
        if command not in known:
            known[command] = list(measured(folder, command.split()[0], recipe))
            (work / "figures.json").write_text(json.dumps(figures, indent=1))
            print(folder.name, command, known[command], flush=True)
    shutil.rmtree(folder)


def write_mixture(folder: Path, tasks: int, records: int) -> Path:
    """The files of a mixture, written by a process of its own, so that none inherits its memory."""
    recipe = folder / "recipe.yaml"
    if recipe.exists():
        return recipe
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number in range(IMAGES):
        Image.new("RGB", (8, 8), (number % 256, number // 256, 9)).save(
            folder / "images" / f"{number}.png"
        )
    entries = {}
    for number in range(tasks):
        name = f"task_{number:03d}"
        share = records // tasks
        write_records(folder / f"{name}_train.jsonl", number, range(share))
        write_records(folder / f"{name}_validation.jsonl", number, range(share, share + HELD_OUT))
        entries[name] = {
            "train": f"{name}_train.jsonl",
            "validation": f"{name}_validation.jsonl",
            "metric": "exact_match",
        }
    content = {
        "name": "many",
        "images": "images",
        "tasks": entries,
        "model": {"checkpoint": "checkpoint", "dtype": "float32"},
    }
    recipe.write_text(yaml.safe_dump(content, sort_keys=False))
    return recipe


def write_records(path: Path, task: int, numbers: range) -> None:
    """Records in the form of LLaVA."""
    with path.open("w") as file:
        file.writelines(lines(task, numbers))


def lines(task: int, numbers: range) -> Iterator[str]:
    for number in numbers:
        question = f"<image>\\nWhat is in field {number % 97} of image {number}?"
        yield (
            f'{{"id": "{task}-{number}", "image": "{(number * 7 + task) % IMAGES}.png",'
            f' "conversations": [{{"from": "human", "value": "{question}"}},'
            f' {{"from": "gpt", "value": "{number % 13} apples"}}]}}\n'
        )


def measured(folder: Path, command: str, recipe: Path) -> tuple[float, float]:
    """Seconds of processor time and the peak in MiB of one process of cotbal."""
    arguments = [command, str(recipe)]
    if command == "plan":
        arguments += ["--out", str(folder / "run")]
    environment = {**os.environ, "COTBAL_CACHE": str(folder / "cache")}
    log = folder / f"{command}.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "cotbal", *arguments], stdout=file, stderr=file, env=environment
        )
        _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{command} failed; see {log}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def results(figures: dict[str, dict[str, list[float]]], tasks: int) -> str:
    """The table."""
    highest = max(mebibytes for step in figures.values() for _, mebibytes in step.values())
    verdict = "holds" if highest <= LIMIT else "does NOT hold"
    rows = [
        "# Memory and time with many tasks and records",
        "",
        (
            f"Claim: mixtures of {tasks} tasks are checked and planned within {LIMIT:,} MiB, in a"
            f" time that grows no faster than the records. It {verdict} for memory: the highest"
            f" peak is {highest:,.0f} MiB."
        ),
        "",
        (
            f"- Hardware: {os.cpu_count()} cores, no GPU, {platform.machine()}; Python"
            f" {platform.python_version()}. Other work ran at the same time."
        ),
        (
            "- Synthetic records of one image and one turn in JSON lines;"
            f" {HELD_OUT} validation records per task."
        ),
        "- Command: `python benchmarks/many_tasks.py WORK`.",
        "",
        "| tasks-records | " + " | ".join(f"`{command}`" for command in COMMANDS) + " |",
        "|---|" + "---|" * len(COMMANDS),
    ]
    for name, step in sorted(figures.items(), key=lambda pair: int(pair[0].split("-")[1])):
        cells = [f"{seconds:,.0f} s, {mebibytes:,.0f} MiB" for seconds, mebibytes in step.values()]
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    rows += ["", "Seconds of processor time and peak memory; `again` finds its own cache."]
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
