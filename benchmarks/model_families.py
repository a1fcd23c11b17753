"""Every model type that AutoModelForImageTextToText knows: supported, refused with a sentence, or
not tried and why.

    python benchmarks/model_families.py DIRECTORY [MODEL_TYPE ...]

A type with a tiny random checkpoint (`tests/helpers/all_families.py`) that the suite does not test
goes through the core of the contract (`tests/contracts/test_model_families.py`), in a process of
its own; of types without a checkpoint the configuration alone is offered, enough for what is
refused before weights are read. Rows are kept in DIRECTORY/rows.jsonl, and a type that has one is
not tried again. The table is printed at the end. Many of these processors need torchvision; rows
say whether it was there.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1] / "tests"
os.environ["HF_HUB_OFFLINE"] = "1"
sys.path[:0] = [str(TESTS), str(TESTS / "contracts")]

TIMM = "its vision tower comes from timm, which was not installed"
NOT_TRIED = {
    "gemma3n": TIMM,
    "perception_lm": TIMM,
    "fast_vlm": TIMM,
    "evolla": "reads proteins, not images",
    "instructblipvideo": "reads videos, not images",
    "mistral4": "text alone; images go through mistral3 and mistral_large4",
    "dots3_note": "images, videos and sound in one checkpoint",
    "muse_spark": "images, videos and sound in one checkpoint",
    "nemotron_h_omni": "images, videos and sound in one checkpoint",
    "inkling_mm_model": "images and sound in one checkpoint",
}
UNWRITTEN = "no tiny checkpoint was written"
SECONDS = 300


def main(directory: Path, wanted: list[str]) -> None:
    import test_model_families  # noqa: F401 - so that every process has it
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as KNOWN,
    )

    warnings.simplefilter("ignore")
    file = directory / "rows.jsonl"
    directory.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    done = {row["type"] for row in rows}
    for name in wanted or KNOWN:
        if name not in done:
            rows.append({"type": name, **outcome(name)})
            with file.open("a") as out:
                out.write(json.dumps(rows[-1]) + "\n")
            print(name, rows[-1]["status"], rows[-1]["detail"], file=sys.stderr, flush=True)
    print(table(rows, list(KNOWN)))


def outcome(name: str) -> dict[str, str]:
    from transformers.utils import is_timm_available

    from helpers.all_families import ALL, FULL, SHORT

    if name in FULL or name in SHORT:
        return {
            "status": "supported",
            "detail": f"in the suite: {'the whole contract' if name in FULL else 'its core'}",
        }
    if name in ALL and (NOT_TRIED.get(name) != TIMM or is_timm_available()):
        return in_a_process(name)
    with tempfile.TemporaryDirectory() as scratch:
        return offered(name, Path(scratch))


def in_a_process(name: str) -> dict[str, str]:
    """One type in a process that has everything imported already, so that the next starts fresh and
    none hangs.
    """
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=one, args=(name, answers))
    child.start()
    child.join(SECONDS)
    if child.is_alive():
        child.kill()
        return {"status": "not tried", "detail": f"not done in {SECONDS} s"}
    answer: dict[str, str] = (
        {"status": "fails", "detail": "the process died"} if answers.empty() else answers.get()
    )
    return answer


def one(name: str, answers: Any) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        try:
            answers.put(tried(name, Path(scratch)))
        except Exception as error:  # whatever it is, it is the result
            answers.put(
                {
                    "status": "fails",
                    "detail": " ".join(f"{type(error).__name__} {error}".split())[:300],
                }
            )


def tried(name: str, root: Path) -> dict[str, str]:
    import test_model_families as contract
    import torch
    from transformers.utils import is_torchvision_available

    from cotbal.errors import CotbalError

    torch.set_num_threads(1)
    contract.paint(root)
    try:
        case = contract.Case(name, root)
        case.collator.training(case.rows()[:1])
    except CotbalError as error:
        return {"status": "refused", "detail": str(error).replace(str(root), "…")}
    checks = (
        ("labels", lambda: contract.test_the_loss_touches_answers_and_their_ends_alone(case)),
        (
            "mixed batches",
            lambda: contract.test_a_row_has_the_losses_in_a_mixed_batch_that_it_has_alone(case),
        ),
        ("images are not cut", lambda: contract.test_images_are_never_cut(case)),
        ("generation", lambda: contract.test_answers_do_not_depend_on_the_batch(case)),
        (
            "training",
            lambda: contract.test_a_training_moves_what_it_should_and_leaves_a_checkpoint(
                case, root, made(root / "run")
            ),
        ),
    )
    failed = [f"{what}: {problem}" for what, check in checks if (problem := problem_of(check))]
    with_what = "with torchvision" if is_torchvision_available() else "without torchvision"
    if failed:
        return {"status": "fails", "detail": f"{with_what}; " + "; ".join(failed)}
    return {"status": "supported", "detail": f"{with_what}; {packing(case)}"}


def made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def problem_of(check: Any) -> str:
    try:
        check()
    except Exception as error:  # whatever it is, it is the result
        return " ".join(f"{type(error).__name__} {error}".split())[:200]
    return ""


def packing(case: Any) -> str:
    from cotbal.errors import CotbalError
    from cotbal.training.trainers.hf import with_task_ids
    from cotbal.training.trainers.packing_check import check_packing

    collate = with_task_ids(
        lambda batch: case.collator.training([item["row"] for item in batch]), ["t"]
    )
    items = [{"row": row, "task": "t"} for row in case.rows()]
    try:
        check_packing(case.model(), collate, items, case.processor.tokenizer.pad_token_id)
    except CotbalError:
        return "packing refused"
    return "packs"


def offered(name: str, root: Path) -> dict[str, str]:
    from transformers import AutoConfig

    from cotbal.errors import CotbalError
    from cotbal.training import vlm

    try:
        AutoConfig.for_model(name).save_pretrained(root)
        vlm.load(str(root), "float32", False)
    except CotbalError as error:
        if error.code == "unsupported-model":
            return {"status": "refused", "detail": str(error).replace(str(root), "…")}
    except Exception:  # no configuration by default: nothing is known of it
        pass
    return {"status": "not tried", "detail": NOT_TRIED.get(name, UNWRITTEN)}


def table(rows: list[dict[str, str]], known: list[str]) -> str:
    counts = {
        status: sum(row["status"] == status for row in rows)
        for status in sorted({r["status"] for r in rows})
    }
    lines = [
        ", ".join(f"{status}: {count}" for status, count in counts.items()),
        "",
        "| type | outcome | detail |",
        "|---|---|---|",
    ]
    ordered = sorted(
        rows, key=lambda row: known.index(row["type"]) if row["type"] in known else len(known)
    )
    lines += [
        f"| `{r['type']}` | {r['status']} |"
        f" {' '.join(r['detail'].split()).replace('|', chr(92) + '|')} |"
        for r in ordered
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
