"""Where the answers of a trained model to VQAv2 test-dev lie: in a directory of their own, in that
of its run.
"""

from __future__ import annotations

from pathlib import Path

from cotbal.jobs.rundir import RunDir, RunPaths

FOLDER = "vqav2_testdev"


class SubmissionPaths(RunPaths):
    """The files of one model that answers; what has the same name as a file of a run means the
    same.
    """

    @property
    def questions(self) -> Path:
        """What is asked."""
        return self.root / "questions.jsonl"

    @property
    def pieces(self) -> list[Path]:
        """Files of answers, in the order of the questions."""
        return sorted(self.root.glob("generations/*.jsonl"))

    @property
    def driver_lock(self) -> Path:
        """Held while a command works here."""
        return self.root / "driver.lock"

    @property
    def driver(self) -> Path:
        """Which process holds that lock."""
        return self.root / "driver.json"

    @property
    def file(self) -> Path:
        """What the server takes; written last."""
        return self.root / "submission.json"

    @property
    def done(self) -> bool:
        """Whether there is a file for the server."""
        return self.file.exists()


def submission_of(run: Path) -> SubmissionPaths:
    """The answers of the model of a run directory, whether there are any or not."""
    return SubmissionPaths(run / FOLDER)


def submissions(root: RunDir) -> list[SubmissionPaths]:
    """Those below a run directory that were begun and not moved aside, of the runs of all seeds."""
    jobs = (
        path
        for up in ("*/*", "seed-*/*/*")
        for path in sorted(root.root.glob(f"{up}/{FOLDER}/job.json"))
    )
    return [SubmissionPaths(path.parent) for path in jobs if ".old-" not in path.parent.parent.name]
