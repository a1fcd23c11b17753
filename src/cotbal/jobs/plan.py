"""The plan of a job: every run with its records, valid tokens, share of the final run's cost, and
seconds if known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from cotbal.data.files import as_written, read_json
from cotbal.data.reading.image_states import ImageStates
from cotbal.errors import RecipeError, RunError
from cotbal.jobs.checkpoint_files import checkpoint_digest
from cotbal.jobs.inputs import Inputs, sets_of
from cotbal.jobs.losses import read_losses
from cotbal.jobs.rundir import RunDir
from cotbal.recipe.mixture import TRAIN, set_name
from cotbal.recipe.ratios import passes
from cotbal.recipe.recipe import Recipe
from cotbal.recipe.runs import UNTRAINED, Run, cost, drawn, final_run, held
from cotbal.training.run_paths import RunPaths

Kind = Literal["probe", "final", "curve", "trial"]
STUDIED: Mapping[Kind, str] = {
    "probe": "probes",
    "curve": "all fractions together",
    "trial": "all trials together",
}

# An answered record against a trained one: measured at 0.58 of the time on a small model, about 1/3
# by FLOPs.
ANSWER_COST = 0.5


@dataclass(frozen=True)
class Planned:
    """One run of the plan.

    Attributes:
        run: what it is.
        kind: `probe`, `final`, `curve` (score against the fraction of the training data), or
            `trial` (of other weights).
        paths: its files.
        label: its name, with the seed where that is not the recipe's.
        records: training records seen in one epoch.
        tokens: valid tokens seen in one epoch, estimated from a sample; None without a tokenizer.
        answers: evaluation records to answer.
        options: that are scored for those of them whose answer is chosen.
        share: its training records over those of a final run.
        replicate: 2 and more for the further trainings of a probe that show the noise of training.
        seconds: measured, or estimated from runs of this directory that were timed; None before
            that.
    """

    run: Run
    kind: Kind
    paths: RunPaths
    label: str
    records: int
    tokens: float | None
    answers: int
    share: float
    seconds: float | None = None
    replicate: int = 1
    options: int = 0

    def work(self, epochs: float) -> float:
        """Relative length of the run, in trained records."""
        return self.records * epochs + ANSWER_COST * self.answers


@dataclass(frozen=True)
class Plan:
    """All runs of a job, and what the probes cost together."""

    form: str
    runs: tuple[Planned, ...]
    epochs: float
    final_records: int
    balanced_records: int

    @property
    def probe_share(self) -> float:
        """Training records of all probes over those of the final run."""
        return self._share("probe")

    @property
    def replicate_share(self) -> float:
        """The part of it that only shows the noise of training."""
        return sum(p.share for p in self.runs if p.replicate > 1)

    def _share(self, kind: Kind) -> float:
        return sum(p.share for p in self.runs if p.kind == kind)

    @property
    def untrained(self) -> tuple[Planned, ...]:
        """The base checkpoint on the tasks that are only evaluated, if there are any."""
        return tuple(p for p in self.runs if p.run.name == UNTRAINED)

    def named(self, name: str) -> Planned:
        """The run called `name`, of the first seed that it is planned for."""
        return next(p for p in self.runs if p.run.name == name)

    @property
    def balanced_share(self) -> float:
        """The same over the balanced tasks of the final run: `r_large + T * r_mini` for the
        standard form.
        """
        return self.probe_share * self.final_records / self.balanced_records

    def _costs(self) -> str:
        """What every kind of run that is studied costs."""
        shares = {words: self._share(kind) for kind, words in STUDIED.items()}
        studied = {words: share for words, share in shares.items() if share} or {"probes": 0.0}
        costs = [f"{words} cost {share:.2f} x the final run" for words, share in studied.items()]
        return ", ".join(costs)

    def sentence(self) -> str:
        """The cost in plain words."""
        text = f"{self._costs()} (in training records)"
        if abs(self.balanced_share - self.probe_share) > 0.005:
            text += f", {self.balanced_share:.2f} x of its balanced tasks"
        answers = [p.answers for p in self.runs if p.kind == "trial"]
        if answers:
            text += f"; trials answer {sum(answers)} validation records"
        options = sum(p.options for p in self.runs)
        if options:
            text += f"; {options:,} options of questions are scored"
        if self.replicate_share:
            text += f"; replicates are {self.replicate_share:.2f} x of the final run"
        known = [p.seconds for p in self.runs if p.seconds is not None]
        if len(known) == len(self.runs):
            text += f"; measured speed says {sum(known):.0f} s of worker time in all"
        return text

    def to_json(self) -> dict[str, Any]:
        """The plan as `plan.json` holds it."""
        return {
            "form": self.form,
            "probe_share": self.probe_share,
            "replicate_share": self.replicate_share,
            "sentence": self.sentence(),
            "runs": [
                {
                    "name": p.run.name,
                    "label": p.label,
                    "kind": p.kind,
                    "weighting": p.run.weighting,
                    "seed": p.run.seed,
                    "replicate": p.replicate,
                    "portions": dict(p.run.portions),
                    "ratios": None if p.run.sampled is None else dict(p.run.sampled),
                    "records": p.records,
                    "tokens": None if p.tokens is None else round(p.tokens),
                    "answers": p.answers,
                    "options": p.options,
                    "share": p.share,
                    "seconds": p.seconds,
                }
                for p in self.runs
            ],
        }


@dataclass(frozen=True)
class Prepared:
    """A recipe whose data was opened, with its plan and its run directory."""

    recipe: Recipe
    inputs: Inputs
    plan: Plan
    root: RunDir
    warnings: tuple[str, ...]

    def recipe_of(self, planned: Planned) -> Recipe:
        """What a run is trained by; probes may have settings of their own."""
        return self.recipe.for_probes if planned.kind == "probe" else self.recipe

    def checkpoint_of(self, planned: Planned) -> str:
        """Digest of the checkpoint that a run starts from."""
        return self._probe_checkpoint if planned.kind == "probe" else self._checkpoint

    @cached_property
    def images(self) -> ImageStates:
        """The states of the images, with those that an earlier command left in the directory."""
        file = self.recipe.file
        return ImageStates(self.recipe.images, self.root.images, file.digest_images)

    @cached_property
    def _checkpoint(self) -> str:
        return checkpoint_digest(self.recipe.checkpoint)  # reads all of its bytes: once is enough

    @cached_property
    def _probe_checkpoint(self) -> str:
        other = self.recipe.for_probes.checkpoint
        return self._checkpoint if other == self.recipe.checkpoint else checkpoint_digest(other)


def make_plan(
    recipe: Recipe, inputs: Inputs, runs: Sequence[tuple[Run, Kind]], root: RunDir
) -> Plan:
    """These runs with their costs and files; a run that is named twice is planned once.

    Raises:
        RecipeError: the sampling ratios of a run repeat records too often.
    """
    whole = cost(final_run(recipe.mixture, "ew"), inputs.sizes)
    own_seed = recipe.file.optimization.seed
    distinct = {
        (run.name, run.seed): (run, kind, paths_of(run, kind, root, own_seed)) for run, kind in runs
    }.values()
    pace = _pace([paths for _, _, paths in distinct])
    planned = []
    for run, kind, paths in distinct:
        _need_few_passes(recipe, run, inputs)
        records = cost(run, inputs.sizes)
        item = Planned(
            run=run,
            kind=kind,
            paths=paths,
            label=label_of(run, own_seed),
            records=records,
            tokens=_tokens(run, inputs),
            answers=_answers(recipe, run, inputs),
            share=records / whole,
            replicate=(recipe.replicate_of(run) or 1) if kind == "probe" else 1,
            options=_options(recipe, run, inputs),
        )
        processes = (recipe.for_probes if kind == "probe" else recipe).resources.processes
        estimate = pace * item.work(recipe.file.optimization.epochs) / processes if pace else None
        planned.append(replace(item, seconds=_seconds(paths) or estimate))
    balanced = sum(inputs.sizes[task.name]["full"] for task in recipe.mixture.balanced)
    return Plan(
        recipe.file.balance.form, tuple(planned), recipe.file.optimization.epochs, whole, balanced
    )


def label_of(run: Run, own_seed: int) -> str:
    """The name of a run, with its training seed where that is not that of the recipe."""
    return run.name if run.seed == own_seed else f"{run.name}, seed {run.seed}"


def paths_of(run: Run, kind: Kind, root: RunDir, own_seed: int) -> RunPaths:
    """The files of a run; runs of another training seed than that of the recipe have a folder of
    their own.
    """
    home = root if run.seed == own_seed else root.seeded(run.seed)
    folders = {
        "probe": home.probe,
        "final": home.final,
        "curve": home.curve,
        "trial": home.trial,
    }
    return folders[kind](run.name)


def _tokens(run: Run, inputs: Inputs) -> float | None:
    if not inputs.tokens:
        return None
    records = drawn(run, inputs.sizes)
    return sum(count * inputs.tokens[task] for task, count in records.items())


def _need_few_passes(recipe: Recipe, run: Run, inputs: Inputs) -> None:
    if run.sampled is None:
        return
    times = passes(run.sampled, held(run, inputs.sizes))
    most = max(times, key=lambda task: times[task])
    limit = recipe.file.optimization.max_passes
    if times[most] > limit * (1 + 1e-9):
        raise RecipeError(
            f"{run.name}: its sampling ratios would show every record of {most} {times[most]:.2f}"
            f" times per epoch, more than optimization.max_passes = {limit:g}; use ratios closer to"
            " each other, or raise optimization.max_passes",
            "too-many-passes",
        )


def _answers(recipe: Recipe, run: Run, inputs: Inputs) -> int:
    names = [set_name(task, "validation") for task in run.validation]
    for task in run.test:
        names += [set_name(task, split) for split in recipe.mixture[task].test]
    return sum(inputs.evaluation[name] for name in names)


def _options(recipe: Recipe, run: Run, inputs: Inputs) -> int:
    return sum(
        inputs.options[set_name(task, split)]
        for task, split in sets_of(recipe, run)
        if split != TRAIN and recipe.mixture[task].choose
    )


def _seconds(paths: RunPaths) -> float | None:
    if not paths.done:
        return None
    with as_written(paths.outcome):
        return float(read_json(paths.outcome)["seconds"]["total"])


def _pace(runs: Sequence[RunPaths]) -> float | None:
    """Seconds of a trained record in one process, from whatever was timed here; one logged step is
    enough.

    Several processes are taken to be as many times as fast.
    """
    for paths in runs:
        if (seconds := _seconds_per_record(paths)) is not None:
            return seconds
    for paths in runs:
        lines = _last_losses(paths)
        if lines and paths.job.exists():
            with as_written(paths.job):
                job = read_json(paths.job)
                ranks, records = job.get("ranks", 1), job["records"]
                return float(lines["seconds"]) * ranks / max(records * lines["epoch"], 1)
    return None


def _seconds_per_record(paths: RunPaths) -> float | None:
    """Of a finished training, in one process."""
    if not paths.done:
        return None
    with as_written(paths.outcome):
        facts = read_json(paths.outcome)
        if not facts["records"]:
            return None
        seconds = float(facts["seconds"]["training"])
        return seconds * facts.get("ranks", 1) / float(facts["records"])


def _last_losses(paths: RunPaths) -> dict[str, Any]:
    """The last line of `training.jsonl`; empty where there is none, or no sound one."""
    try:
        lines = read_losses(paths)
    except RunError:
        return {}
    return lines[-1] if lines and {"seconds", "epoch"} <= lines[-1].keys() else {}
