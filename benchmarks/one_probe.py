"""Processor time of probes, beside separate scripts that do the same.

    PYTHONPATH=src python benchmarks/one_probe.py recipe.yaml                     # one probe: mini
    PYTHONPATH=src python benchmarks/one_probe.py recipe.yaml --probes mini full:caption
    PYTHONPATH=src python benchmarks/one_probe.py recipe.yaml --probes all        # a whole balance

In every round cotbal plans a `balance` with an empty cache and executes the named probes in one
process; then `separate_scripts.py` trains every probe with the stock Trainer and answers its
questions by `generate` in batches of 32, each in a process of its own. Both train on the same
records in the same order. Losses must agree over the first steps. The answers of the script are
those of the model that cotbal trained, and must be the same, byte for byte, but for ties: where the
logits of the first tokens that differ are as close as rounding, in float64. Times are those of the
processes with all that they import, with one thread. Probes that are not measured count as the mean
of the measured ones of their kind.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from cotbal.data.batches.chat import messages
from cotbal.data.batches.order import Mixed, Shuffled
from cotbal.data.files import default_cache, read_jsonl, read_sealed_rows, write_jsonl
from cotbal.data.reading.images import resolve
from cotbal.data.reading.record import Record
from cotbal.data.reading.records import open_records
from cotbal.data.sampling import read_manifest
from cotbal.jobs.evaluation_sets import evaluation_sets
from cotbal.jobs.execute import Options
from cotbal.jobs.executors import Outcome, Resources
from cotbal.jobs.plan import Planned
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.runs import do, prepare, probes
from cotbal.recipe.recipe import Recipe, load_recipe
from cotbal.training.trainers.arguments import arguments

SCRIPTS = Path(__file__).with_name("separate_scripts.py")
FIRST = 5  # lines of the log whose losses must agree
TOLERANCE = 1e-4
TIE = 1e-6  # of the largest logit, by which batches of other sizes change logits in float32
BATCH = 32  # questions of a batch of `generate`
COPIED = (
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "num_train_epochs",
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "weight_decay",
    "max_grad_norm",
    "logging_steps",
    "seed",
)
Seconds = dict[str, float]


@dataclass(frozen=True)
class Round:
    """Seconds of processor time.

    Attributes:
        before: imports and plan of cotbal, once per command.
        probes: label of a probe -> that of cotbal.
        scripts: the same of its two scripts.
    """

    before: float
    probes: Seconds
    scripts: Seconds

    @property
    def alone(self) -> float:
        """The first probe as the only one of its command, over its scripts."""
        label, spent = next(iter(self.probes.items()))
        return (self.before + spent) / self.scripts[label]

    def whole(self, labels: Sequence[str]) -> float | None:
        """A balance of these probes over its scripts; None if a kind is not measured."""
        if {kind(label) for label in labels} - {kind(label) for label in self.probes}:
            return None
        ours, theirs = (total(seconds, labels) for seconds in (self.probes, self.scripts))
        return (self.before + ours) / theirs


def kind(label: str) -> str:
    return label.partition(" ")[0].partition(":")[0]


def total(seconds: Seconds, labels: Sequence[str]) -> float:
    """Of all probes; the mean of its kind for one that is not measured."""
    of_kind: dict[str, list[float]] = {}
    for label, value in seconds.items():
        of_kind.setdefault(kind(label), []).append(value)
    return sum(seconds.get(label, statistics.mean(of_kind[kind(label)])) for label in labels)


# --- cotbal --------------------------------------------------------------------------------------


def planned(file: Path, out: Path) -> tuple[Any, list[Planned]]:
    recipe = load_recipe(file)
    prepared = prepare(recipe, RunDir(out), probes(recipe))
    return prepared, list(prepared.plan.runs)


def execute(file: Path, out: Path, labels: Sequence[str]) -> None:
    """Execute probes in this process, and write the seconds of each."""
    prepared, runs = planned(file, out)
    chosen = [run for label in labels for run in runs if run.label == label]
    ends: dict[str, float] = {}

    @contextmanager
    def watch(*_: object) -> Iterator[Callable[[Outcome], None]]:
        ends[""] = time.process_time()
        yield lambda outcome: ends.update({outcome.job.name: time.process_time()})

    resources = Resources(threads=1)
    do(prepared, chosen, Options("inline", resources, keep_checkpoints=True, watch=watch))
    times = list(ends.values())
    spent = [round(end - begin, 2) for begin, end in pairwise(times)]
    (out / "seconds.json").write_text(json.dumps(dict(zip(list(ends)[1:], spent, strict=True))))


# --- The scripts ---------------------------------------------------------------------------------


def row(recipe: Recipe, record: Record, instruction: str | None) -> dict[str, Any]:
    paths = [str(resolve(recipe.images, name)) for name in record.images]
    return {"messages": messages(record.turns, instruction), "images": paths}


def training_rows(recipe: Recipe, root: RunDir, probe: Planned) -> list[dict[str, Any]]:
    """The records of a probe in the order in which it sees them."""
    parts = []
    for name, portion in probe.run.portions.items():
        if portion != "none":
            task = recipe.mixture[name]
            records = open_records(task.train, default_cache())
            indices = read_manifest(root.portions(name)).of(portion)
            parts.append((name, records, indices, task.instruction))
    mixed = Mixed(parts)
    items = [mixed[i]["row"] for i in Shuffled(mixed, probe.run.seed).order]
    return [row(recipe, item.record, item.instruction) for item in items]


def settings_of(recipe: Recipe, root: RunDir, probe: Planned, folder: Path) -> dict[str, Any]:
    """What the scripts read; writes their rows into a folder."""
    parts = (recipe.model.vision, recipe.model.projector, recipe.model.language)
    assert parts == ("frozen", "full", "full"), "the scripts train projector and language model"
    folder.mkdir(parents=True)
    rows = training_rows(recipe, root, probe)
    write_jsonl(folder / "rows.jsonl", rows)
    questions = {}
    for i, answered in enumerate(evaluation_sets(recipe, probe.run)):
        file = folder / f"questions-{i}.jsonl"
        instruction = answered.task.instruction
        write_jsonl(file, [row(recipe, record, instruction) for record in answered.records])
        questions[answered.task.name] = str(file)
    chosen = arguments(recipe, len(rows), folder, probe.run.seed)
    return {
        "base": recipe.checkpoint,
        "arguments": {name: plain(getattr(chosen, name)) for name in COPIED},
        "rows": str(folder / "rows.jsonl"),
        "trained": str(folder / "trained"),
        "losses": str(folder / "losses.json"),
        "checkpoint": str(probe.paths.checkpoint),
        "questions": questions,
        "max_new_tokens": recipe.file.generation.max_new_tokens,
        "size": BATCH,
        "answers": str(folder / "answers.json"),
        "gaps": str(folder / "gaps.json"),
    }


def plain(value: Any) -> Any:
    """An enumeration as its value."""
    return getattr(value, "value", value)


def scripts(recipe: Recipe, root: RunDir, probe: Planned, folder: Path) -> float:
    """Run both scripts on what a finished probe did, and compare; seconds of both."""
    settings = settings_of(recipe, root, probe, folder)
    file = folder / "settings.json"
    file.write_text(json.dumps(settings))
    spent = sum(seconds([str(SCRIPTS), step, str(file)]) for step in ("train", "answer"))
    losses = json.loads(Path(settings["losses"]).read_text())
    expected = [line["loss"] for line in read_jsonl(probe.paths.training)]
    assert len(losses) == len(expected), "the scripts took other steps"
    for actual, loss in zip(losses[:FIRST], expected, strict=False):
        assert abs(actual - loss) <= TOLERANCE * loss, f"losses {actual} and {loss}"
    if pairs := differing(settings, probe):
        file.write_text(json.dumps({**settings, "pairs": pairs}))
        seconds([str(SCRIPTS), "gaps", str(file)])
        gaps = json.loads(Path(settings["gaps"]).read_text())
        print(f"{len(pairs)} answers differ, by ties of {max(gaps):.1e} or less", flush=True)
        assert max(gaps) <= TIE, f"answers differ beyond rounding: {pairs}, {gaps}"
    return spent


def differing(settings: dict[str, Any], probe: Planned) -> list[Any]:
    """Questions to which the answers differ, with both answers."""
    pairs = []
    for task, texts in json.loads(Path(settings["answers"]).read_text()).items():
        rows = list(read_sealed_rows(probe.paths.generations(task, "validation")))
        asked = read_jsonl(Path(settings["questions"][task]))
        for row, ours, theirs in zip(asked, rows, texts, strict=True):
            if ours["answer"] != theirs:
                pairs.append((row, (ours["answer"], theirs)))
    return pairs


def seconds(argv: Sequence[str]) -> float:
    """Processor time of a Python process and of all that it starts."""
    with subprocess.Popen([sys.executable, *argv], stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"the command failed: {argv}"
    return round(usage.ru_utime + usage.ru_stime, 2)


def measured(file: Path, labels: Sequence[str], folder: Path) -> Round:
    os.environ["COTBAL_CACHE"] = str(folder / "cache")
    out = folder / "out"
    spent = seconds([__file__, str(file), "--into", str(out), "--probes", *labels])
    ours = json.loads((out / "seconds.json").read_text())
    prepared, runs = planned(file, out)
    chosen = {run.label: run for run in runs if run.label in labels}
    theirs = {
        label: scripts(prepared.recipe, prepared.root, chosen[label], folder / f"scripts-{i}")
        for i, label in enumerate(labels)
    }
    return Round(round(spent - sum(ours.values()), 2), ours, theirs)


def labels_of(file: Path, wanted: Sequence[str]) -> tuple[list[str], list[str]]:
    """Labels of the wanted probes, and of all of a balance."""
    with tempfile.TemporaryDirectory() as folder:
        every = [run.label for run in planned(file, Path(folder))[1]]
    return every if list(wanted) == ["all"] else list(wanted), every


def show(rounds: Sequence[Round], every: Sequence[str]) -> None:
    print("\n| seconds of processor time | cotbal | scripts | quotient |\n|---|---|---|---|")
    before = statistics.median(spent.before for spent in rounds)
    print(f"| imports and plan of a command | {before:.1f} | in every script | |")
    for label in rounds[0].probes:
        pairs = [(spent.probes[label], spent.scripts[label]) for spent in rounds]
        ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"| {label} | {ours:.1f} | {theirs:.1f} | {quotient([a / b for a, b in pairs])} |")
    alone = quotient([spent.alone for spent in rounds])
    print(f"| **{next(iter(rounds[0].probes))}, imports and plan included** | | | {alone} |")
    wholes = [value for spent in rounds if (value := spent.whole(every)) is not None]
    if wholes:
        how = "measured" if set(every) == set(rounds[0].probes) else "estimated"
        print(f"| **a balance of {len(every)} probes, {how}** | | | {quotient(wholes)} |")


def quotient(ratios: Sequence[float]) -> str:
    """Median and range."""
    return f"{statistics.median(ratios):.3f} [{min(ratios):.3f}, {max(ratios):.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--probes", nargs="+", default=["mini"], help="labels, or `all`")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.into:
        execute(options.recipe, options.into, options.probes)
        return
    labels, every = labels_of(options.recipe, options.probes)
    if unknown := set(labels) - set(every):
        parser.error(f"no probe {min(unknown)}; expected {', '.join(every)}")
    rounds = []
    for turn in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            rounds.append(measured(options.recipe, labels, Path(folder)))
        print(turn + 1, f"equal, load {os.getloadavg()[0]:.1f}", rounds[-1], flush=True)
    show(rounds, every)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    main()
