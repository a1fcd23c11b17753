"""Where the processor time of the whole demo goes: `cotbal demo --on inline` in a process with one
thread, by phase; or that of another command.

    python benchmarks/demo_profile.py WORK [demo|tiny]
    python benchmarks/demo_profile.py WORK response RECIPE [option ...]

WORK/run gets the run directory, WORK/cache the cache of records and image features, WORK/runs.jsonl
a line with the seconds of every run. The time of a phase is that of its functions less that of the
other phases within them; with GPUs or `dataloader_workers`, other processes make batches, and their
time is not measured.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PHASES = {  # phase -> functions, each `module:name`
    "draw the images of the benchmark": ("cotbal.benchmarks.pocket:prepare",),
    "plan, check and hash the data": (
        "cotbal.jobs.runs:prepare",
        "cotbal.jobs.execute:identity",
        "cotbal.jobs.unchanged:need_unchanged",
        "cotbal.jobs.checkpoint_files:checkpoint_state",
    ),
    "load models and processors": ("cotbal.training.vlm:load",),
    "images, texts and tokens of batches": (
        "cotbal.data.batches.collate:Collator.training",
        "cotbal.data.batches.collate:Collator.prompts",
        "cotbal.data.batches.questions:QuestionCollator.training",
        "cotbal.data.batches.questions:QuestionCollator.prompts",
        "cotbal.training.evaluation:prefixed",
        "cotbal.training.evaluation:prompts",
    ),
    "vision tower, with its cache": (
        "cotbal.training.features.tower:Tower._cached",
        "cotbal.training.features.images:ImageFeatures.attach",
        "cotbal.training.features.images:ImageFeatures.save",
    ),
    "training steps": ("cotbal.training.train:train",),
    "write models": (
        "cotbal.training.train:_save",
        "transformers:Trainer._save_checkpoint",
    ),
    "answers": (
        "cotbal.training.evaluation:Answerer.__call__",
        "cotbal.training.evaluation:write_generations",
    ),
    "scores": ("cotbal.jobs.scoring:write_scores",),
    "weights": ("cotbal.jobs.weigh:weigh", "cotbal.jobs.next_step:expected"),
    "report": ("cotbal.report.writing:write_report",),
}
IMPORTS, REST = "imports", "the rest: job files, progress, locks, the command line"


class Clock:
    """Processor time by phase."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self._phases = [IMPORTS]
        self._since = 0.0  # the process began

    def switch(self) -> None:
        """Give the time since the last switch to the phase that is under way."""
        now = time.process_time()
        self.seconds[self._phases[-1]] += now - self._since
        self._since = now

    def enter(self, phase: str) -> None:
        """Begin a phase, within the one that is under way."""
        self.switch()
        self._phases.append(phase)

    def leave(self) -> None:
        """Return to the phase around it."""
        self.switch()
        self._phases.pop()

    def timed(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose time counts for a phase."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls[phase] += 1
            self.enter(phase)
            try:
                return function(*args, **kwargs)
            finally:
                self.leave()

        return call


def main(work: Path, command: Sequence[str]) -> None:
    os.environ |= {"OMP_NUM_THREADS": "1", "COTBAL_CACHE": str(work / "cache")}
    clock = Clock()
    for phase, names in PHASES.items():
        for name in names:
            patch(clock, phase, name)
    importlib.import_module("cotbal.jobs.worker")
    inline: Any = importlib.import_module("cotbal.jobs.executors.inline")
    inline._run_module = recorded(clock, inline._run_module, work / "runs.jsonl")
    program = importlib.import_module("cotbal.cli.app")
    sys.argv = ["cotbal", *command, "--on", "inline", "--out", str(work / "run")]
    clock.enter(REST)
    try:
        program.main()
    except SystemExit as end:
        if end.code:
            raise
    clock.leave()
    show(clock)


def patch(clock: Clock, phase: str, name: str) -> None:
    """Time a function or method from now on; modules that have imported it by name keep theirs."""
    module, _, path = name.partition(":")
    *parents, last = path.split(".")
    owner: Any = importlib.import_module(module)
    for parent in parents:
        owner = getattr(owner, parent)
    setattr(owner, last, clock.timed(phase, getattr(owner, last)))


def recorded(clock: Clock, execute: Callable[[Any], None], file: Path) -> Callable[[Any], None]:
    """What executes a job, with a line in a file for every job."""

    def call(job: Any) -> None:
        clock.switch()
        before = clock.seconds.copy()
        execute(job)
        clock.switch()
        seconds = {phase: round(spent, 2) for phase, spent in (clock.seconds - before).items()}
        with file.open("a", encoding="utf-8") as lines:
            print(json.dumps({"run": job.name, "seconds": seconds}), file=lines)

    return call


def show(clock: Clock) -> None:
    total = sum(clock.seconds.values())
    print("\n| part | seconds of processor time | share | calls |")
    print("|---|---|---|---|")
    for phase in (IMPORTS, *PHASES, REST):
        seconds = clock.seconds[phase]
        print(f"| {phase} | {seconds:.1f} | {seconds / total:.1%} | {clock.calls[phase] or ''} |")
    print(f"| all | {total:.1f} | | |")


if __name__ == "__main__":
    folder, given = Path(sys.argv[1]).resolve(), sys.argv[2:] or ["demo"]
    main(folder, given if len(given) > 1 else ["demo", "--size", *given])
