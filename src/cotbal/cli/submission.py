"""`cotbal submission`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cotbal.cli import console
from cotbal.cli.options import AsJson, JobOptions, Without, listed
from cotbal.errors import CotbalError


def submission(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Directories of final models: runs/academic/final/cotbal ...", show_default=False
        ),
    ],
    raw: Annotated[
        Path, typer.Option(help="Folder that holds vqav2/ with both files of test2015 questions.")
    ],
    images: Annotated[
        Path | None, typer.Option(help="Folder that holds coco/test2015; RAW/images by default.")
    ] = None,
    task: Annotated[str, typer.Option(help="Name of VQAv2 in the recipe.")] = "VQAv2",
    *,
    job: Annotated[JobOptions, Without("report_to", "keep_checkpoints")],
    ignore_keys: Annotated[
        str, typer.Option(help="Unknown keys of the questions to ignore, separated by commas.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Answer VQAv2 test-dev (Tables 1 and 12), in a file for the server of the challenge, which
    alone can score it.
    """
    from cotbal.benchmarks.academic.vqav2_server import read_questions
    from cotbal.benchmarks.submission.command import plan_submission, run_submission
    from cotbal.jobs import display

    options = job.to_options()
    image_root = images or raw / "images"
    for directory in (raw, image_root):
        if not directory.is_dir():
            raise CotbalError(
                f"expected a directory; found no directory {directory}", "missing-file"
            )
    with display.bar() as progress:
        questions = read_questions(raw, progress, listed(ignore_keys))
    candidates = plan_submission(runs, questions, image_root, task, job.restart_changed)
    written = run_submission(candidates, questions, options)
    if as_json:
        files = [
            {"name": file.name, "file": str(file.path), "answered": file.answered}
            for file in written
        ]
        console.print_json({"files": files, "warnings": list(questions.remarks)})
        return
    console.warn(questions.remarks)
    for file in written:
        print(
            f"{file.name}: answered {file.answered:,} of {len(questions.asked):,}, in {file.path}"
        )
    print(
        "Upload a file to the VQA challenge on EvalAI, phase test-dev; it gives back the accuracy."
    )
