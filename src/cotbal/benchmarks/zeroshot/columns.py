"""The eight columns of Table 2, and others on demand: which tasks of lmms-eval give them, and how a
number is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cotbal.benchmarks.zeroshot.values import Reading, graded, mean_f1, plain, relative
from cotbal.errors import CotbalError


@dataclass(frozen=True)
class ZeroShot:
    """One column.

    Attributes:
        name: as papers print it; the name of the task in a table of results.
        metric: what the number is.
        tasks: of lmms-eval; those that begin with `cotbal_` are files of ours.
        questions: how many each task asks; more than one where copies of the data differ.
        read: from what lmms-eval wrote to the number of the column.
        judged: whether another model scores the answers.
    """

    name: str
    metric: str
    tasks: tuple[str, ...]
    questions: tuple[int, ...]
    read: Callable[..., Reading]
    judged: bool = False


COLUMNS = (
    ZeroShot("TextVQA", "accuracy", ("cotbal_textvqa",), (5000,), plain("exact_match", 100)),
    ZeroShot("POPE", "f1", ("pope_adv", "pope_pop", "pope_random"), (3000,), mean_f1),
    ZeroShot("MME", "perception", ("mme",), (2374,), plain("mme_perception_score", 1)),
    ZeroShot("SQA", "accuracy", ("cotbal_scienceqa",), (4241,), plain("exact_match", 100)),
    ZeroShot(
        "MMBench", "accuracy", ("mmbench_en_dev_static",), (4329,), plain("gpt_eval_score", 1)
    ),
    ZeroShot(
        "SEED-IMG", "accuracy", ("cotbal_seed_image",), (14232, 14233), plain("seed_image", 100)
    ),
    ZeroShot("MM-Vet", "judge", ("cotbal_mmvet",), (218,), graded("gpt_eval_score"), judged=True),
    ZeroShot(
        "LLaVA-W",
        "judge",
        ("llava_in_the_wild",),
        (60,),
        relative("gpt_eval_llava_all"),
        judged=True,
    ),
)
# What other papers report as ScienceQA: no column of Table 2, so it is evaluated where it is named.
OTHERS = (
    ZeroShot("SQA-IMG", "accuracy", ("cotbal_scienceqa_img",), (2017,), plain("exact_match", 100)),
)


def columns_named(text: str) -> tuple[ZeroShot, ...]:
    """The columns that `text` names, separated by commas, in the paper's order; `all` for the
    paper's eight.

    Raises:
        CotbalError: an unknown name.
    """
    known = {column.name.lower(): column for column in (*COLUMNS, *OTHERS)}
    chosen = {name.strip().lower() for name in text.split(",")} - {""}
    if "all" in chosen:
        chosen.remove("all")
        chosen.update(column.name.lower() for column in COLUMNS)
    if not chosen or not chosen <= set(known):
        names = ", ".join(column.name for column in known.values())
        raise CotbalError(
            f"--columns: expected names of {names}, or all; found {text!r}", "invalid-option"
        )
    return tuple(column for name, column in known.items() if name in chosen)
