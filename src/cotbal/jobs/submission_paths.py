"""The files of a model's answers to VQAv2 test-dev: in a directory below that of its run."""

from __future__ import annotations

from pathlib import Path

from cotbal.jobs.rundir import RunDir
from cotbal.training.run_paths import Below, RunPaths

FOLDER = "vqav2_testdev"


class SubmissionPaths(RunPaths):
    """The files of one model that answers for a server; names shared with a run mean the same."""

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
    return SubmissionPaths(run / FOLDER)


def submissions(root: RunDir) -> list[SubmissionPaths]:
    """Those below a run directory that were begun and not archived, of the runs of all seeds."""
    jobs = (
        path
        for up in ("*/*", "seed-*/*/*")
        for path in sorted(root.root.glob(f"{up}/{FOLDER}/job.json"))
    )
    return [SubmissionPaths(path.parent) for path in jobs if ".old-" not in path.parent.parent.name]
