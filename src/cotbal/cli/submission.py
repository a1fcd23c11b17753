"""The verb that answers what only a server can score: `submission`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cotbal.cli.jobs import options_of
from cotbal.cli.options import Address, AsJson, On, Restart, Threads, Workers
from cotbal.errors import CotbalError


def submission(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Directories of final models: runs/academic/final/cotbal ...", show_default=False
        ),
    ],
    raw: Annotated[
        Path, typer.Option(help="Where vqav2/ lies, with both files of questions of test2015.")
    ],
    images: Annotated[
        Path | None, typer.Option(help="Where coco/test2015 lies; RAW/images by default.")
    ] = None,
    task: Annotated[str, typer.Option(help="Name of VQAv2 in the recipe.")] = "VQAv2",
    on: On = "processes",
    workers: Workers = None,
    threads: Threads = None,
    address: Address = None,
    ignore_keys: Annotated[
        str, typer.Option(help="Unknown keys of the questions that you know to be harmless.")
    ] = "",
    restart_changed: Restart = False,
    as_json: AsJson = False,
) -> None:
    """VQAv2 test-dev (Tables 1 and 12): answers for the server of the challenge, which alone can
    score them.
    """
    from cotbal.benchmarks.academic.vqav2_server import read_questions
    from cotbal.benchmarks.submission.command import plan_submission, run_submission
    from cotbal.jobs import display

    options = options_of(on, workers, threads, False, restart_changed, None, address)
    image_root = images or raw / "images"
    for directory in (raw, image_root):
        if not directory.is_dir():
            raise CotbalError(f"expected a directory; found no directory {directory}")
    with display.bar() as progress:
        questions = read_questions(raw, progress, [key.strip() for key in ignore_keys.split(",")])
    candidates = plan_submission(runs, questions, image_root, task, restart_changed)
    written = run_submission(candidates, questions, options)
    if as_json:
        files = [
            {"name": each.name, "file": str(each.path), "answered": each.answered}
            for each in written
        ]
        print(json.dumps({"files": files, "warnings": list(questions.remarks)}, indent=1))
        return
    for remark in questions.remarks:
        print(f"warning  {remark}")
    for each in written:
        print(f"{each.name}: {each.answered:,} answers of {len(questions.asked):,} in {each.path}")
    print(
        "Upload a file to the VQA challenge on EvalAI, phase test-dev; it gives back the accuracy."
    )
