"""`python -m cotbal.benchmarks.submission.worker JOB`: a finished model answers questions that
nobody here knows the answers to.

The job file names the recipe, the checkpoint, the pictures and a file of questions (`id`, `image`,
`text` a line). Answers are kept in pieces, `generations/<first question>.jsonl`, each whole or
absent, so that a job that was killed goes on with the next piece, and an executor sees that it
comes further.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cotbal.data.collate import Row
from cotbal.data.conversations import IMAGE, Record, Turn
from cotbal.data.files import now, read_json, read_jsonl, write_json, write_jsonl
from cotbal.jobs.entry import job_begun
from cotbal.recipe.recipe import load_recipe
from cotbal.training import evaluation
from cotbal.training.ranks import Ranks, Stopped
from cotbal.training.run_paths import RunPaths


def main(arguments: Sequence[str]) -> None:
    """Answer what is not answered yet; where a launcher started several ranks, all of them come
    here.
    """
    file = Path(arguments[0])
    with job_begun(RunPaths(file.parent)) as (ranks, stop):
        _answer(read_json(file), file.parent, ranks, stop)


def _answer(job: dict[str, Any], directory: Path, ranks: Ranks, stop: Callable[[], bool]) -> None:
    """Answer piece by piece.

    Raises:
        Stopped: it was told to stop before the end.
    """
    asked, size = read_jsonl(Path(job["questions"])), int(job["piece"])
    pieces = {
        start: directory / "generations" / f"{start:09d}.jsonl"
        for start in range(0, len(asked), size)
    }
    missing = ranks.agreed([start for start, path in pieces.items() if not path.exists()])
    if not missing:
        return
    answer = evaluation.answerer(
        load_recipe(Path(job["recipe"])), job["checkpoint"], ranks, Path(job["images"])
    )
    for start in missing:
        piece = asked[start : start + size]
        rows = [_row(number, question, job) for number, question in enumerate(piece, start + 1)]
        answers = answer(rows, _progress(directory / "progress.json", start, len(asked), ranks))
        if ranks.main:
            pairs = zip(piece, answers, strict=True)
            write_jsonl(
                pieces[start], ({"id": question["id"], "answer": text} for question, text in pairs)
            )
        if ranks.any(stop()) and start != missing[-1]:
            raise Stopped


def _row(number: int, asked: dict[str, Any], job: dict[str, Any]) -> Row:
    turns = (Turn("user", f"{IMAGE}\n{asked['text']}"), Turn("assistant", ""))
    record = Record(str(asked["id"]), job["task"], (asked["image"],), turns, (), number)
    return Row(record, job["task"], job["instruction"])


def _progress(path: Path, before: int, total: int, ranks: Ranks) -> Callable[[int], None]:
    def report(given: int) -> None:
        done = before + given
        entry = {
            "phase": "generating",
            "done": done,
            "total": total,
            "fraction": round(done / total, 4),
        }
        if ranks.main:
            write_json(path, {**entry, "detail": "", "loss": None, "time": now()})

    return report


if __name__ == "__main__":
    main(sys.argv[1:])
