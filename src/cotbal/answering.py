"""`python -m cotbal.answering JOB`: a finished model answers questions that nobody here knows the answers to.

The job file names the recipe, the checkpoint, the pictures and a file of questions (`id`, `image`, `text` a line). The
answers grow line by line beside it, so that a job that was killed goes on where it was.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from cotbal import evaluation
from cotbal.data.collate import Row
from cotbal.data.conversations import IMAGE, Record, Turn
from cotbal.executors import STOPPED
from cotbal.ranks import Ranks, join, leave_with_parent, stop_signal
from cotbal.recipe import load_recipe
from cotbal.rundir import append_jsonl, locked, now, read_json, read_jsonl, write_json, write_jsonl

PIECE = 1024  # questions between two writes
LOCK_SECONDS = 30.0  # an orphan of a killed driver leaves within a second or two


def main(arguments: Sequence[str]) -> None:
    """Answer what is not answered yet; where a launcher started several ranks, all of them come here."""
    file = Path(arguments[0])
    leave_with_parent()
    stop = stop_signal()
    ranks = join()
    with locked(file.with_name("lock"), LOCK_SECONDS) if ranks.main else nullcontext():
        whole = _answer(read_json(file), file.with_name("answers.jsonl"), ranks, stop)
        ranks.wait()
    if not whole:
        sys.exit(STOPPED)


def _answer(job: dict[str, Any], answers: Path, ranks: Ranks, stop: Callable[[], bool]) -> bool:
    """Answer piece by piece; False if it was told to stop before the end."""
    asked = read_jsonl(Path(job["questions"]))
    kept = ranks.agreed(read_jsonl(answers) if ranks.main else [])
    if ranks.main:
        write_jsonl(answers, kept)  # without a line that was cut off
    if len(kept) == len(asked):
        return True
    recipe = load_recipe(Path(job["recipe"]))
    answer = evaluation.answerer(recipe, job["checkpoint"], ranks, Path(job["images"]))
    for start in range(len(kept), len(asked), PIECE):
        piece = asked[start : start + PIECE]
        rows = [_row(number, each, job) for number, each in enumerate(piece, start + 1)]
        said = answer(rows, _progress(answers.with_name("progress.json"), start, len(asked), ranks))
        for each, text in zip(piece, said, strict=True) if ranks.main else ():
            append_jsonl(answers, {"id": each["id"], "answer": text})
        if ranks.any(stop()) and start + PIECE < len(asked):
            return False
    return True


def _row(number: int, asked: dict[str, Any], job: dict[str, Any]) -> Row:
    turns = (Turn("user", f"{IMAGE}\n{asked['text']}"), Turn("assistant", ""))
    record = Record(str(asked["id"]), job["task"], (asked["image"],), turns, (), number)
    return Row(record, job["task"], job["instruction"])


def _progress(path: Path, before: int, total: int, ranks: Ranks) -> Callable[[int], None]:
    def report(given: int) -> None:
        done = before + given
        entry = {"phase": "generating", "done": done, "total": total, "fraction": round(done / total, 4)}
        if ranks.main:
            write_json(path, {**entry, "detail": "", "loss": None, "time": now()})

    return report


if __name__ == "__main__":
    main(sys.argv[1:])
