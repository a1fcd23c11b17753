"""Kill campaign: jobs that are killed at random moments end as undisturbed ones, bit for bit.

    python benchmarks/kills.py --kills 200 --work kills --out kills.jsonl

Every job is killed up to 12 times and resumed by the same command after each kill, then left to its
end. Its results (answers, scores, tables, weights, models) must be the bytes of an undisturbed job,
`cotbal verify` must find nothing, no process may outlive its driver by 10 seconds, and no temporary
file may be left. Rerunning the campaign continues it: every job is one line of the output.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

import warm_drivers

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS)]

RUN = ("run", "--weighting", "ew", "--weighting", "cotbal")
LORA = ("model.language=lora", "model.lora={rank: 2}")
SMALL = ("optimization.batch_size=4", "optimization.micro_batch_size=2")
SLOW = ("tasks.color.metric=helpers.slow_match", "tasks.paint.metric=helpers.slow_match")
LETTERS = ("tasks.color.metric=helpers.letters", "tasks.paint.metric=helpers.letters")
JOBS: dict[str, tuple[str, ...]] = {  # name -> verb with its options, and changes to the recipe
    "full": (*RUN, *SMALL),
    "lora": (*RUN, *SMALL, *LORA),
    "replicates": (*RUN, *SMALL, "balance.replicates=2"),
    "trials": ("response", *SMALL, "response.fraction=1/2", *LETTERS),
    "scoring": (*RUN, *SMALL, *SLOW),
    "ranks": (*RUN, *SMALL, "resources.gpus=0", "resources.ranks=2"),
}
KINDS = ("driver KILL", "driver TERM", "driver INT", "worker KILL", "worker TERM", "both KILL")
RESULTS = (
    *("scores.csv", "balance.json", "weights.json", "response/trials.csv", "response/design.json"),
    *("portions/*.csv", "**/generations/*.jsonl", "**/scores/*.json", "**/checkpoint/**/*"),
)
LIMIT = 900.0  # seconds of a command, on a busy machine
NOTICE = 10.0  # seconds within which workers notice that their driver has died


@dataclass
class Report:
    """What happened to one job."""

    job: str
    number: int
    kills: list[dict[str, str]] = field(default_factory=list)
    slowest: float = 0.0  # seconds from the death of a driver to that of its last process
    problems: list[str] = field(default_factory=list)


def source(work: Path) -> Path:
    """The recipe of the campaign, made once."""
    from helpers.tiny_vlm import mixture

    folder = work / "mixture"
    if not (folder / "recipe.yaml").exists():
        shutil.rmtree(folder, ignore_errors=True)
        mixture(folder, {"color": 1, "paint": 2}, train=16, answers=6)
    return folder / "recipe.yaml"


def arguments(job: str, recipe: Path, root: Path) -> list[str | Path]:
    verb, *rest = JOBS[job]
    options = [part for part in rest if "=" not in part]
    changes = [part for part in rest if "=" in part]
    where = ("--out", root, "--workers", "2", "--threads", "1")
    return [verb, recipe, *changes, *options, *where]


def results(root: Path) -> dict[str, bytes]:
    """Everything that must not depend on kills."""
    paths = [path for pattern in RESULTS for path in root.glob(pattern) if path.is_file()]
    return {str(p.relative_to(root)): p.read_bytes() for p in paths if ".old-" not in str(p)}


def difference(root: Path, reference: Path) -> str:
    """The first result that differs; empty if none does."""
    resumed, expected = results(root), results(reference)
    missing = sorted(expected.keys() ^ resumed.keys())
    if missing:
        return f"missing or too many: {missing[0]}"
    changed = [name for name in sorted(resumed) if resumed[name] != expected[name]]
    return f"differs: {changed[0]}" if changed else ""


def variables(work: Path, cache: str = "cache") -> dict[str, str]:
    return {
        "COTBAL_CACHE": str(work / cache),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]),
    }


def reference(job: str, work: Path) -> tuple[Path, float]:
    """An undisturbed job, made once, and how long it took."""
    root, note = work / "reference" / job, work / "reference" / f"{job}.json"
    if not note.exists():
        shutil.rmtree(root, ignore_errors=True)
        root.parent.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        printed = root.with_suffix(".txt")
        process = warm_drivers.driver(arguments(job, source(work), root), printed, variables(work))
        assert process.wait(LIMIT) == 0, printed.read_text()
        assert results(root)
        note.write_text(json.dumps(time.monotonic() - started))
    return root, float(json.loads(note.read_text()))


def phase(root: Path) -> str:
    """What the job is doing, from its files."""
    if not (root / "plan.json").exists():
        return "preparing"
    if _is_saving(root):
        return "saving"
    if phases := _phases(root):
        return "scoring" if "scoring" in phases else phases[0]
    return "weighing" if not _finals_are_done(root) else "reporting"


def paths_in(root: Path, pattern: str) -> list[Path]:
    """Paths of a job that works: a directory may go while it is searched."""
    while True:
        with suppress(FileNotFoundError):
            return [*root.glob(pattern)]


def _phases(root: Path) -> list[str]:
    """What the runs that have not ended report."""
    phases = []
    for path in paths_in(root, "**/progress.json"):
        if not (path.parent / "outcome.json").exists():
            with suppress(OSError, ValueError):
                phases.append(str(json.loads(path.read_text())["phase"]))
    return phases


def _is_saving(root: Path) -> bool:
    if any(not (path / "complete").exists() for path in paths_in(root, "**/partial/checkpoint-*")):
        return True
    models = paths_in(root, "**/checkpoint")
    return any(not (path.parent / "trained.json").exists() for path in models)


def _finals_are_done(root: Path) -> bool:
    finals = [*paths_in(root, "final/*/"), *paths_in(root, "trials/*/")]
    return bool(finals) and all((path / "outcome.json").exists() for path in finals)


def _probes_are_done(root: Path) -> bool:
    probes = [*paths_in(root, "probes/*/")]
    return len(probes) == 3 and all((path / "outcome.json").exists() for path in probes)


MOMENTS: dict[str, Callable[[Path], bool]] = {  # short ones, which random moments would miss
    "never": lambda _: False,
    "preparing": lambda root: root.exists(),
    "saving": _is_saving,
    "scoring": lambda root: "scoring" in _phases(root),
    "weighing": _probes_are_done,
    "reporting": _finals_are_done,
}


def await_moment(process: Any, root: Path, seconds: float, chance: random.Random, job: str) -> None:
    """Wait for the moment of a kill: a random one, or one in a short phase, which is a random one
    too unless the job is named after it.
    """
    deadline = time.monotonic() + chance.uniform(0.0, 0.25 * seconds)
    reached = MOMENTS["never"]
    if chance.random() < 0.5:
        reached = MOMENTS[job if job in MOMENTS else chance.choice([*MOMENTS][1:])]
        deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline and not reached(root):
        time.sleep(0.02)
    time.sleep(chance.uniform(0.0, 0.05))


def kill(process: Any, kind: str, chance: random.Random) -> bool:
    """Send the signals of this kind; whether there was anything to send them to."""
    who, name = kind.split()
    number = signal.Signals[f"SIG{name}"]
    workers = warm_drivers.below(process.pid)
    targets = {"driver": [process.pid], "both": [process.pid, *(w.pid for w in workers)]}
    targets["worker"] = [chance.choice(workers).pid] if workers else targets["driver"]
    if process.poll() is not None:
        return False
    for pid in targets[who]:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
    return True


def end(process: Any, report: Report, kind: str) -> None:
    """Wait for the driver and all its processes."""
    workers = warm_drivers.below(process.pid)
    process.wait(LIMIT)
    died = time.monotonic()
    while left := warm_drivers.alive(workers):
        if time.monotonic() - died > 10 * NOTICE:
            report.problems.append(f"{kind}: {len(left)} processes outlive their driver")
            for one in left:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
        time.sleep(0.02)
    report.slowest = max(report.slowest, time.monotonic() - died)


def play(job: str, number: int, work: Path, seed: int) -> Report:
    """One job that is killed several times."""
    chance = random.Random(f"{seed} {number}")
    report = Report(job, number)
    expected, seconds = reference(job, work)
    root = work / f"{job}-{seed}-{number}"
    shutil.rmtree(root, ignore_errors=True)
    printed = root.with_suffix(".txt")
    printed.unlink(missing_ok=True)
    cache = f"cache-{seed}-{number}" if chance.random() < 0.1 else "cache"
    command, environment = arguments(job, source(work), root), variables(work, cache)
    kills = chance.randint(5, 12)
    code = None
    for _ in range(3 * kills):
        if code == 0 or len(report.kills) == kills:
            break
        kind = chance.choice(KINDS)
        process = warm_drivers.driver(command, printed, environment)
        await_moment(process, root, seconds, chance, job)
        when = phase(root)
        if kill(process, kind, chance):
            report.kills.append({"kind": kind, "phase": when})
        end(process, report, kind)
        code = process.returncode
    for _ in range(3):
        if code != 0:
            process = warm_drivers.driver(command, printed, environment)
            code = process.wait(LIMIT)
    report.problems += [*_problems(root, expected, code, report.slowest)]
    if not report.problems:
        shutil.rmtree(root)
        printed.unlink()
    if cache != "cache":
        shutil.rmtree(work / cache, ignore_errors=True)
    return report


def _problems(root: Path, expected: Path, code: int | None, slowest: float) -> Iterator[str]:
    from cotbal.data.files import is_locked
    from cotbal.jobs.rundir import RunDir
    from cotbal.jobs.verify import verify

    if code != 0:
        yield f"ended with {code}"
        return
    if slowest > NOTICE:
        yield f"a process outlived its driver by {slowest:.1f} s"
    if wrong := difference(root, expected):
        yield wrong
    checked = verify(RunDir(root), lambda *_: None)
    for one in checked.differences:
        yield f"verify: {one.file.relative_to(root)}: {one.problem}"
    yield from (f"left: {path.relative_to(root)}" for path in checked.leftovers)
    yield from (f"locked: {path}" for path in root.glob("**/lock") if is_locked(path))


def done(out: Path) -> list[dict[str, Any]]:
    if not out.exists():
        return []
    return [json.loads(line) for line in out.read_text().splitlines()]


def summary(reports: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of a campaign."""
    kills = [one for report in reports for one in report["kills"]]
    return {
        "jobs": dict(Counter(report["job"] for report in reports)),
        "kills": len(kills),
        "kinds": dict(Counter(one["kind"] for one in kills)),
        "phases": dict(Counter(one["phase"] for one in kills)),
        "slowest": round(max((report["slowest"] for report in reports), default=0.0), 2),
        "problems": [
            f"{report['job']}-{report['number']}: {problem}"
            for report in reports
            for problem in report["problems"]
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=200, help="end after so many")
    parser.add_argument(
        "--jobs", nargs="+", choices=JOBS, default=[name for name in JOBS if name != "ranks"]
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("kills"))
    parser.add_argument("--out", type=Path, default=Path("kills.jsonl"))
    options = parser.parse_args()
    options.work = options.work.resolve()
    options.work.mkdir(parents=True, exist_ok=True)
    os.environ.update(variables(options.work))
    warm_drivers.preload()
    number = len(done(options.out))
    while summary(done(options.out))["kills"] < options.kills:
        job = options.jobs[number % len(options.jobs)]
        report = play(job, number, options.work, options.seed)
        with options.out.open("a") as file:
            file.write(json.dumps(asdict(report)) + "\n")
        print(
            f"{job}-{number}: {len(report.kills)} kills, {report.problems or 'as undisturbed'}",
            flush=True,
        )
        number += 1
    figures = summary(done(options.out))
    print(json.dumps(figures, indent=1))
    sys.exit(1 if figures["problems"] else 0)


if __name__ == "__main__":
    main()
