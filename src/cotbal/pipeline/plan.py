"""The plan of a job: every run with its records, valid tokens, share of the final run's cost, and seconds if known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from cotbal.pipeline.inputs import Inputs, checkpoint_digest
from cotbal.recipe import Recipe
from cotbal.rundir import RunDir, RunPaths, read_json, read_jsonl
from cotbal.runs import Run, cost, final_run, plan_probes

# An answered record against a trained one: measured at 0.58 of the time on a small model, about 1/3 by FLOPs.
ANSWER_COST = 0.5


@dataclass(frozen=True)
class Planned:
    """One run of the plan.

    Attributes:
        run: what it is.
        kind: `probe` or `final`.
        records: training records seen in one epoch.
        tokens: valid tokens seen in one epoch, estimated from a sample; None without a tokenizer.
        answers: evaluation records to answer.
        share: its training records over those of a final run.
        seconds: measured, or estimated from runs of this directory that were timed; None before that.
    """

    run: Run
    kind: str
    records: int
    tokens: float | None
    answers: int
    share: float
    seconds: float | None

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
        return sum(p.share for p in self.runs if p.kind == "probe")

    @property
    def balanced_share(self) -> float:
        """The same over the balanced tasks of the final run: `r_large + T * r_mini` for the standard form."""
        return self.probe_share * self.final_records / self.balanced_records

    def sentence(self) -> str:
        """The cost in plain words."""
        text = f"probes cost {self.probe_share:.2f} x the final run (in training records)"
        if abs(self.balanced_share - self.probe_share) > 0.005:
            text += f", {self.balanced_share:.2f} x of its balanced tasks"
        known = [p.seconds for p in self.runs if p.seconds is not None]
        if len(known) == len(self.runs):
            text += f"; measured speed says {sum(known):.0f} s of worker time in all"
        return text

    def to_json(self) -> dict[str, Any]:
        """The plan as `plan.json` holds it."""
        return {
            "form": self.form,
            "probe_share": self.probe_share,
            "sentence": self.sentence(),
            "runs": [
                {
                    "name": p.run.name,
                    "kind": p.kind,
                    "weighting": p.run.weighting,
                    "seed": p.run.seed,
                    "portions": dict(p.run.portions),
                    "records": p.records,
                    "tokens": None if p.tokens is None else round(p.tokens),
                    "answers": p.answers,
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

    @cached_property
    def checkpoint(self) -> str:
        """Digest of the base checkpoint; reading all of its bytes is worth doing once."""
        return checkpoint_digest(self.recipe.checkpoint)


def make_plan(recipe: Recipe, inputs: Inputs, weightings: Sequence[str], root: RunDir) -> Plan:
    """The probes of the recipe's form and one final run a weighting."""
    seed = recipe.file.optimization.seed
    probes = plan_probes(recipe.mixture, recipe.file.balance.form, seed)
    finals = [final_run(recipe.mixture, weighting, seed) for weighting in weightings]
    whole = cost(final_run(recipe.mixture, "equal"), inputs.sizes)
    planned = [(run, "probe", root.probe(run.name)) for run in probes.runs]
    planned += [(run, "final", root.final(run.name)) for run in finals]
    epochs = recipe.file.optimization.epochs
    pace = _pace([paths for _, _, paths in planned])
    runs = []
    for run, kind, paths in planned:
        records = cost(run, inputs.sizes)
        item = Planned(run, kind, records, _tokens(run, inputs), _answers(recipe, run, inputs), records / whole, None)
        seconds = _seconds(paths) or (pace * item.work(epochs) if pace else None)
        runs.append(replace(item, seconds=seconds))
    balanced = sum(inputs.sizes[task.name]["full"] for task in recipe.mixture.balanced)
    return Plan(probes.form, tuple(runs), epochs, whole, balanced)


def _tokens(run: Run, inputs: Inputs) -> float | None:
    if not inputs.tokens:
        return None
    return sum(inputs.sizes[task][portion] * inputs.tokens[task] for task, portion in run.portions.items())


def _answers(recipe: Recipe, run: Run, inputs: Inputs) -> int:
    if run.split == "validation":
        return sum(inputs.evaluation[f"{task}.validation"] for task in run.portions)
    return sum(inputs.evaluation[f"{task}.{split}"] for task in run.portions for split in recipe.mixture[task].test)


def _seconds(paths: RunPaths) -> float | None:
    return float(read_json(paths.outcome)["seconds"]["total"]) if paths.done else None


def _pace(runs: Sequence[RunPaths]) -> float | None:
    """Seconds of a trained record, from whatever was timed in this directory; one logged step is enough."""
    for paths in runs:
        if paths.done:
            facts = read_json(paths.outcome)
            return float(facts["seconds"]["training"]) / max(facts["records"], 1)
    for paths in runs:
        lines = read_jsonl(paths.training)
        if lines and (paths.root / "job.json").exists():
            records = read_json(paths.job)["records"] * lines[-1]["epoch"]
            return float(lines[-1]["seconds"]) / max(records, 1)
    return None
