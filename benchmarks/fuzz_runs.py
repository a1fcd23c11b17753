"""What the fuzz campaign feeds of a run directory: every file that commands read, in a finished
job that is otherwise whole.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, overload
from unittest.mock import patch

from cotbal.data.files import write_json, write_sealed_rows
from cotbal.data.reading.image_states import read_states
from cotbal.data.sampling import read_manifest
from cotbal.errors import CotbalError
from cotbal.jobs import pipeline
from cotbal.jobs.execute import Options
from cotbal.jobs.executors import recorded_handle
from cotbal.jobs.kept_answers import KeptAnswers
from cotbal.jobs.response import plan_trials, read_response, run_trials
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.status import status
from cotbal.jobs.verify import verify
from cotbal.jobs.weigh import weigh
from cotbal.recipe.recipe import load_recipe
from cotbal.report import losses
from cotbal.report.contents import read_contents

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS)]
from helpers import pipeline_fakes  # noqa: E402
from helpers.pipeline_fakes import EXECUTOR, write_mixture  # noqa: E402

MINI = "probes/mini"
FILES = (
    *("plan.json", "weights.json", "balance.json", "scores.csv", "portions/a.csv"),
    *("images/a.train.npz", "response/design.json", "response/trials.csv"),
    *(f"{MINI}/job.json", f"{MINI}/outcome.json", f"{MINI}/trained.json", f"{MINI}/training.jsonl"),
    *(f"{MINI}/scores/a.validation.json", f"{MINI}/generations/a.validation.jsonl"),
    *(f"{MINI}/answers/kept.jsonl", "final/ew/handle.json"),
    *("final/ew/progress.json", "final/ew/failure.json"),
)


@cache
def template() -> Path:
    """A finished job of two tasks with trials, made of chance; a final run has failed."""
    home = Path(tempfile.mkdtemp(prefix="fuzz-run-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ.setdefault("COTBAL_CACHE", str(home / "cache"))
    few = {"bootstrap": 100, "replicates": 1}
    with patch.multiple(pipeline_fakes, VALIDATION=12, TEST=6):  # small: many inputs are read
        path = write_mixture(home / "data", ("a", "b"), train=16, unbalanced=False, balance=few)
    recipe = load_recipe(path)
    root = RunDir(home / "run")
    pipeline.run(pipeline.plan(recipe, root, ("ew", "cotbal")), Options(EXECUTOR))
    run_trials(plan_trials(recipe, root), Options(EXECUTOR))
    pipeline.run(pipeline.plan(recipe, root, ("ew", "cotbal")), Options(EXECUTOR))
    mini, failed = root.probe("mini"), root.final("ew")
    write_sealed_rows(mini.answers / "kept.jsonl", [["a.validation", 0, "text"]])
    write_json(failed.root / "handle.json", {"executor": "slurm", "id": "7"})
    failed.outcome.unlink()
    write_json(failed.failure, {"message": "ValueError: no frogs", "time": 0.0})
    progress = {"phase": "training", "done": 1, "total": 9, "fraction": 0.1, "detail": ""}
    write_json(failed.progress, {**progress, "loss": 1.5, "time": 0.0})
    return root.root


class Written(Sequence[bytes]):
    """The content of a file of the template, which is made when it is needed first; for JSON also
    the content without its digest, as somebody leaves it who edits it on purpose.
    """

    def __init__(self, file: str) -> None:
        self.file = file

    def __len__(self) -> int:
        return 2 if self.file.endswith(".json") else 1

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        content = (template() / self.file).read_bytes()
        contents = [content, _without_digest(content)] if len(self) == 2 else [content]
        return contents[index]


def _without_digest(content: bytes) -> bytes:
    values = json.loads(content)
    values.pop("sha256", None)
    return json.dumps(values).encode()


def read_run(file: str, path: Path) -> None:
    """Read a run directory in which `path` is that file, as commands do."""
    root = RunDir(path.parent / "run")
    trials = ("response", "trials", "seed-*")
    ignored = None if file.startswith("response") else shutil.ignore_patterns(*trials)
    shutil.copytree(template(), root.root, copy_function=os.link, ignore=ignored)
    (root.root / file).unlink()
    path.rename(root.root / file)
    uses: list[Callable[[], Any]] = [
        lambda: status(root),
        lambda: losses.probe_panels(read_contents(root.root)),
        lambda: verify(root, lambda *_: None),
        lambda: weigh(root),
        lambda: read_response(root),
        lambda: recorded_handle(root.final("ew").root),
        lambda: KeptAnswers(root.probe("mini").answers).read(),
        lambda: read_manifest(root.portions("a")),
        lambda: read_states(root.images / "a.train.npz"),
    ]
    for use in uses:
        with suppress(CotbalError):
            use()
