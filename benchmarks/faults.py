"""Fault campaign: damaged files and failing disks end in identical results, or in one clear error.

    python benchmarks/faults.py --cases 400 --work faults --out faults.jsonl

Every file of a finished job is cut, zeroed, flipped in one bit and deleted, one at a time, and the
command of the job is rerun. Then its results must be the bytes of the undisturbed job, or the
command must end with an error and `cotbal verify --repair` and another rerun must lead to these
bytes. Then come what a machine may do: a disk that fills up (tmpfs, of several sizes and numbers of
files), a directory that cannot be written (mounts; both need root), that was renamed, in which two
drivers work, files with times of the future, a clock that jumps, and little memory. Last, single
writes fail, as on a disk that is full for a moment: every file that a process of the job opens for
writing or renames, and every directory that it makes, can be the one. Rerunning the campaign
continues it.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import failing_writes
import kills
import warm_drivers

Damage = Callable[[Path, random.Random], None]
JOB = "full"
FUTURE = 2_208_988_800  # 2040
MEBIBYTE = 2**20
MEMORY = (4, 16, 32)  # MiB beyond what a process has when it starts
DISK = (200, 400, 800, 1200, 1600, 2400, 3200)  # KiB
FILES = (10, 30, 60, 90, 120)  # files and directories that a disk has room for
HOURS = (6, -6, 30, 0)  # what a clock is wrong by, one after the other
WRITE = "write "  # and its number


def cut(path: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: chance.randrange(max(len(content), 1))])


def zero(path: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    start = chance.randrange(max(len(content), 1))
    count = min(len(content) - start, chance.choice((1, 16, 4096)))
    path.write_bytes(content[:start] + bytes(count) + content[start + count :])


def flip(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(bytes(content))


def delete(path: Path, _: random.Random) -> None:
    path.unlink()


DAMAGES: dict[str, Damage] = {"cut": cut, "zero": zero, "flip": flip, "delete": delete}


def pattern(name: str) -> str:
    """What files of several runs, tasks and splits have in common."""
    name = re.sub(r"^(seed-\d+/)?(probes|final)/[^/]+", r"\2/*", name)
    return re.sub(r"(color|paint)\.?(train|validation|test)?", "*", name)


def cases(reference: Path, seed: int) -> list[tuple[str, str]]:
    """Every file with every damage; first one file of every kind."""
    chance = random.Random(seed)
    files = [str(p.relative_to(reference)) for p in sorted(reference.rglob("*")) if p.is_file()]
    chance.shuffle(files)
    first = {pattern(name): name for name in files}
    rest = [name for name in files if name not in first.values()]
    firsts = [(name, damage) for name in first.values() for damage in DAMAGES]
    chance.shuffle(firsts)
    return [*firsts, *((name, damage) for name in rest for damage in DAMAGES)]


def spread(planned: list[tuple[str, str]], finished: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """The cases that are left; those of files that have met the fewest damages come first."""
    met = Counter(name for name, _ in finished)
    turns = []
    for name, damage in planned:
        if (name, damage) not in finished:
            turns.append((met[name], name, damage))
            met[name] += 1
    return [(name, damage) for _, name, damage in sorted(turns, key=lambda turn: turn[0])]


class Job:
    """A copy of the finished job."""

    def __init__(self, work: Path, root: Path, reference: Path) -> None:
        self.work, self.root, self.reference = work, root, reference
        self.printed = work / "printed.txt"

    def run(self, *verb: str | Path) -> tuple[int, str]:
        """Exit code and last output of a command, by default that of the job."""
        self.printed.unlink(missing_ok=True)
        recipe = kills.source(self.work)
        command = verb or tuple(kills.arguments(JOB, recipe, self.root))
        process = warm_drivers.driver(command, self.printed, kills.variables(self.work))
        code = process.wait(kills.LIMIT)
        return code, self.printed.read_text(errors="replace")

    def difference(self) -> str:
        return kills.difference(self.root, self.reference)

    def settled(self, named: bool = False) -> dict[str, Any]:
        """Rerun the command, after an error also repair; how that ended.

        Args:
            named: whether `cotbal verify` has found something.
        """
        code, text = self.run()
        wrong = self.difference() if code == 0 else ""
        if code == 0 and not (wrong and named):
            return {"result": f"WRONG: {wrong}" if wrong else "identical"}
        row: dict[str, Any] = {"result": "left to verify" if wrong else "error"}
        row["message"] = wrong or _message(text)
        if code not in (0, 2) or "Traceback" in _of_the_command(text):
            return {**row, "result": f"CRASH {code}", "message": text[-1500:]}
        row["repaired"] = self.run("verify", "--repair", self.root)[0]
        code, text = self.run()
        wrong = self.difference() if code == 0 else f"exit code {code}: {_message(text)}"
        return {**row, "result": f"NOT REPAIRED: {wrong}"} if wrong else row


def _message(text: str) -> str:
    start = text.rfind("cotbal: ")
    return text[start : start + 400]


def _of_the_command(text: str) -> str:
    """Without the logs of runs, which may hold a traceback."""
    return text[: text.find("cotbal: ")] if "cotbal: " in text else text


def damaged(job: Job, name: str, damage: str, seed: int) -> dict[str, Any]:
    path = job.root / name
    before = path.read_bytes()
    DAMAGES[damage](path, random.Random(f"{seed} {name} {damage}"))
    if path.exists() and path.read_bytes() == before:
        return {"result": "not changed"}
    code, text = job.run("verify", "--json", job.root)
    named = code == 1
    if code not in (0, 1, 2) or "Traceback" in text:
        return {"result": f"CRASH of verify {code}", "message": text[-1500:]}
    return {**job.settled(named), "named": named}


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", *options, str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def disk_full(job: Job, kibibytes: int, files: int = 10_000) -> dict[str, Any]:
    """A job on a disk that is too small; it resumes when there is room."""
    shutil.rmtree(job.root)
    room = f"size={kibibytes}k,nr_inodes={files}"
    with mounted(job.root, "-t", "tmpfs", "-o", room, "tmpfs"):
        code, text = job.run()
        if code == 0:
            return {"result": "identical" if not job.difference() else "WRONG"}
        row = {"result": "error", "message": _message(text)}
        if code != 2:
            row = {"result": f"CRASH {code}", "message": text[-1500:]}
        room = "remount,size=64m,nr_inodes=10000"
        remount = ["mount", "-o", room, str(job.root)]
        subprocess.run(remount, check=True)
        code, text = job.run()
        wrong = job.difference() if code == 0 else f"exit code {code}: {_message(text)}"
        return {**row, "result": f"NOT RESUMED: {wrong}"} if wrong else row


def read_only(job: Job) -> dict[str, Any]:
    """Commands that only read work, the others end with an error."""
    with mounted(job.root, "--bind", str(job.root)):
        remount = ["mount", "-o", "remount,bind,ro", str(job.root)]
        subprocess.run(remount, check=True)
        codes = {verb: job.run(verb, job.root)[0] for verb in ("status", "verify")}
        code, text = job.run()
    if codes != {"status": 0, "verify": 0} or code != 2:
        return {"result": f"CRASH {codes} {code}", "message": text[-1500:]}
    return {**job.settled(), "message": _message(text)}


def renamed(job: Job) -> dict[str, Any]:
    other = job.root.with_name("renamed")
    shutil.rmtree(other, ignore_errors=True)
    job.root.rename(other)
    job.root = other
    row = job.settled()
    shutil.rmtree(other)
    return row


def two_drivers(job: Job) -> dict[str, Any]:
    shutil.rmtree(job.root)
    command = kills.arguments(JOB, kills.source(job.work), job.root)
    variables = kills.variables(job.work)
    outputs = [job.work / f"printed-{number}.txt" for number in range(2)]
    both = [warm_drivers.driver(command, output, variables) for output in outputs]
    codes = sorted(process.wait(kills.LIMIT) for process in both)
    texts = "\n".join(output.read_text() for output in outputs)
    if codes != [0, 2] or "Traceback" in texts:
        return {"result": f"CRASH {codes}", "message": texts[-1500:]}
    wrong = job.difference()
    return {"result": f"WRONG: {wrong}" if wrong else "identical", "message": _message(texts)}


def times_of_the_future(job: Job) -> dict[str, Any]:
    for path in job.root.rglob("*"):
        os.utime(path, (FUTURE, FUTURE))
    (job.root / "probes/mini/outcome.json").unlink()
    return job.settled()


def little_memory(job: Job, mebibytes: int) -> dict[str, Any]:
    shutil.rmtree(job.root)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + mebibytes * MEBIBYTE, before[1]))
    try:
        code, text = job.run()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    row = {**job.settled(), "first": code}
    return row if code in (0, 2) else {**row, "result": f"CRASH {code}", "message": text[-1500:]}


def clock_that_jumps(job: Job) -> dict[str, Any]:
    """By hours, forward and back, in all processes of a job, while it works."""
    shutil.rmtree(job.root)
    shift, clock = mmap.mmap(-1, 1), time.time

    def prepare() -> None:
        time.time = lambda: clock() + 3600 * HOURS[shift[0]]

    command = kills.arguments(JOB, kills.source(job.work), job.root)
    variables = kills.variables(job.work)
    process = warm_drivers.driver(command, job.printed, variables, prepare)
    while process.poll() is None:
        time.sleep(1.0)
        shift[0] = (shift[0] + 1) % len(HOURS)
    row = {**job.settled(), "first": process.returncode}
    return row if process.returncode == 0 else {**row, "result": f"CRASH {process.returncode}"}


def write_fails(job: Job, number: int) -> dict[str, Any]:
    """A job whose write of this number fails, and the same command again."""
    first, text, _ = _with_writes(job, number)
    row = {**job.settled(), "first": first, "said": _message(text)}
    if first not in (0, 2) or "Traceback" in _of_the_command(text):
        return {**row, "result": f"CRASH {first}", "message": text[-1500:]}
    return row


def _with_writes(job: Job, fails: int) -> tuple[int, str, int]:
    """A new job: exit code, output, number of writes."""
    shutil.rmtree(job.root)
    job.printed.unlink(missing_ok=True)
    writes = failing_writes.Writes(job.root, fails)
    command = kills.arguments(JOB, kills.source(job.work), job.root)
    variables = kills.variables(job.work)
    process = warm_drivers.driver(command, job.printed, variables, writes.watch)
    code = process.wait(kills.LIMIT)
    return code, job.printed.read_text(errors="replace"), writes.count


def write_numbers(job: Job, cases: int) -> list[int]:
    """Evenly spread over those of a job."""
    note = job.work / "writes.json"
    if cases and not note.exists():
        code, text, count = _with_writes(job, 0)
        assert code == 0, text
        note.write_text(json.dumps(count))
    total = json.loads(note.read_text()) if cases else 0
    return sorted({1 + total * case // cases for case in range(cases)})


MACHINE: dict[str, Callable[[Job], dict[str, Any]]] = {
    "read-only directory": read_only,
    "renamed directory": renamed,
    "two drivers": two_drivers,
    "times of the future": times_of_the_future,
    "clock that jumps": clock_that_jumps,
    **{f"disk of {size} KiB": lambda job, size=size: disk_full(job, size) for size in DISK},
    **{f"disk of {count} files": lambda job, n=count: disk_full(job, 65536, n) for count in FILES},
    **{f"{size} MiB of memory": lambda job, size=size: little_memory(job, size) for size in MEMORY},
}


def _end(row: Mapping[str, Any]) -> str:
    """How a job with a failing write ended, and the same command again."""
    return f"{'error' if row['first'] else 'no error'}, then {row['result']}"


def summary(rows: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of a campaign."""
    files = [row for row in rows if row["damage"] in DAMAGES and row["result"] != "not changed"]
    kinds = Counter((row["damage"], row["result"].partition(":")[0]) for row in files)
    return {
        "damaged": len(files),
        "files": len({row["file"] for row in files}),
        "kinds": {f"{damage}, {result}": count for (damage, result), count in kinds.items()},
        "machine": {row["damage"]: row["result"] for row in rows if row["damage"] in MACHINE},
        "writes": dict(Counter(_end(row) for row in rows if row["damage"].startswith(WRITE))),
        "problems": [row for row in rows if row["result"][:1].isupper()],
    }


def new_job(work: Path, reference: Path) -> Job:
    root = work / "run"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(reference, root)
    return Job(work, root, reference)


def tried(job: Job, name: str, damage: str, seed: int) -> dict[str, Any]:
    """The outcome of one case."""
    if name:
        return damaged(job, name, damage, seed)
    if damage.startswith(WRITE):
        return write_fails(job, int(damage.removeprefix(WRITE)))
    return MACHINE[damage](job)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=int, default=400, help="end after so many damages")
    parser.add_argument("--machine", nargs="*", choices=MACHINE, default=[*MACHINE])
    parser.add_argument("--writes", type=int, default=40, help="of a job, that fail one by one")
    parser.add_argument(
        "--spread", action="store_true", help="begin with files that have met the fewest damages"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("faults"))
    parser.add_argument("--out", type=Path, default=Path("faults.jsonl"))
    options = parser.parse_args()
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    os.environ.update(kills.variables(work))
    warm_drivers.preload()
    reference, _ = kills.reference(JOB, work)
    planned = [*(("", name) for name in options.machine)]
    numbers = write_numbers(new_job(work, reference), options.writes)
    planned += [("", f"{WRITE}{number}") for number in numbers]
    planned += cases(reference, options.seed)[: options.cases]
    finished = {(row["file"], row["damage"]) for row in kills.done(options.out)}
    left = [case for case in planned if case not in finished]
    for name, damage in spread(planned, finished) if options.spread else left:
        row = tried(new_job(work, reference), name, damage, options.seed)
        with options.out.open("a") as file:
            file.write(json.dumps({"file": name, "damage": damage, **row}) + "\n")
        print(f"{damage} {name}: {row['result']}", flush=True)
    figures = summary(kills.done(options.out))
    print(json.dumps(figures, indent=1))
    sys.exit(1 if figures["problems"] else 0)


if __name__ == "__main__":
    main()
