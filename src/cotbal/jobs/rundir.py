"""The files of one job, by name: its recipe, plan, runs, weights and report."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cotbal.data.files import as_written, read_json
from cotbal.errors import RunError
from cotbal.training.run_paths import Below, RunPaths

SUBMISSION = "vqav2_testdev"


@dataclass(frozen=True)
class RunDir:
    """The files of one job."""

    root: Path

    recipe = Below("recipe.yaml")  # the resolved recipe
    plan = Below("plan.json")  # every run with its cost
    images = Below("images")  # sizes, times and states of the images, by file of records
    lock = Below("lock")  # held while a command works here
    driver = Below("driver.json")  # which process holds the lock
    score_table = Below("scores.csv")  # the score matrix
    balance = Below("balance.json")  # contribution, difficulty, weights, intervals, flags
    weights = Below("weights.json")  # unit -> weight, and task -> weight
    report = Below("report")
    comparison = Below("comparison")  # tables and numbers of `compare` and `ablate`
    curve_table = Below("curve/scores.csv")  # scores of every fraction, as a score matrix
    curve_numbers = Below("curve/curve.json")  # the same with intervals, records and shares
    trial_table = Below("response/trials.csv")  # weights and scores of every trial
    design = Below("response/design.json")  # which trials there are

    def seeded(self, seed: int) -> RunDir:
        """The same files for the runs of another training seed than that of the recipe."""
        return RunDir(self.root / f"seed-{seed}")

    def portions(self, task: str) -> Path:
        """Which portion holds each training record of `task`."""
        return self.root / "portions" / f"{task}.csv"

    def probe(self, run: str) -> RunPaths:
        """The files of one probe; `full:<unit>` is in `full-<unit>`."""
        return RunPaths(self.root / "probes" / _folder(run))

    def final(self, run: str) -> RunPaths:
        """The files of one final training, named after its method."""
        return RunPaths(self.root / "final" / _folder(run))

    def curve(self, run: str) -> RunPaths:
        """The files of one training of the curve; `alone:<task>:1/8` is in `alone-<task>-1_8`."""
        return RunPaths(self.root / "curve" / _folder(run))

    def trial(self, run: str) -> RunPaths:
        """The files of one trial of `cotbal response`; `trial:3` is in `trial-3`."""
        return RunPaths(self.root / "trials" / _folder(run))

    def steered(self, goal: str) -> Path:
        """Weights for a goal that `cotbal steer` wrote, such as `ocr+vqa`."""
        return self.trial_table.with_name(f"weights-{goal}.json")

    @property
    def seeds(self) -> list[RunDir]:
        """The files of the runs of other training seeds than that of the recipe."""
        return [RunDir(folder) for folder in sorted(self.root.glob("seed-*/"))]

    @property
    def trials(self) -> list[RunPaths]:
        """All trials on disk that were not archived, of all seeds."""
        folders = [*self.root.glob("trials/*/"), *self.root.glob("seed-*/trials/*/")]
        return [RunPaths(folder) for folder in sorted(folders) if ".old-" not in folder.name]

    def planned(self) -> list[dict[str, Any]]:
        """The entry of every run in the plan: its `label`, `kind`, `directory` and cost.

        Raises:
            RunError: the directory holds no plan.
        """
        if not self.plan.exists():
            raise RunError(
                f"{self.root}: expected a run directory with a plan.json; found none: start with"
                " `cotbal run RECIPE`",
                "no-run-directory",
            )
        with as_written(self.plan):
            runs = [dict(run) for run in read_json(self.plan)["runs"]]
            for run in runs:
                RunPaths(self.root / run["directory"]).root.exists()  # or is no name of a file
                texts = (run["label"], run["kind"], run.get("name", ""))
                if not all(isinstance(text, str) for text in texts):
                    raise TypeError("label, kind and name of a run are strings")
        return runs


def _folder(run: str) -> str:
    # No two runs of a kind share a folder: a fraction is what follows the last `-`, and a unit may
    # be called as if it were alone on its mini, or archived.
    plain = run.replace("solo:mini-", "solo:%6Dini-").replace(".old-", "%2Eold-")
    return plain.replace(":", "-").replace("/", "_")


def name_part(text: str) -> str:
    """A text as part of the name of a file or run: `-` in place of what names do not hold."""
    return re.sub(r"[^\w.+-]+", "-", text)


def ratios_run(variant: str) -> str:
    """Name of the final run whose tasks are sampled by the weights of the file
    `weights-<variant>.json`: `ratios:ocr`; `ratios` for `weights.json`.
    """
    return f"ratios:{variant}" if variant else "ratios"


class SubmissionPaths(RunPaths):
    """The files of one model that answers VQAv2 test-dev, in a directory below that of its run."""

    questions = Below("questions.jsonl")
    driver_lock = Below("driver.lock")  # held while a command works here
    driver = Below("driver.json")  # which process holds that lock
    file = Below("submission.json")  # for the server; written last

    @property
    def pieces(self) -> list[Path]:
        """Files of answers, in the order of the questions."""
        return sorted(self.root.glob("generations/*.jsonl"))

    @property
    def done(self) -> bool:
        """Whether there is a file for the server."""
        return self.file.exists()


def submission_of(run: Path) -> SubmissionPaths:
    """The answers of the model of a run directory, whether there are any or not."""
    return SubmissionPaths(run / SUBMISSION)


def submissions(root: RunDir) -> list[SubmissionPaths]:
    """Those below a run directory that were begun and not archived, of the runs of all seeds."""
    jobs: list[Path] = []
    for runs in ("*/*", "seed-*/*/*"):
        jobs += sorted(root.root.glob(f"{runs}/{SUBMISSION}/job.json"))
    return [SubmissionPaths(job.parent) for job in jobs if ".old-" not in job.parent.parent.name]
