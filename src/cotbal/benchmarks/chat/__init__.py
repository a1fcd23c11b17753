"""The Chat Benchmark of CoTBal / VisATB: three kinds of LLaVA's instructions, judged against
GPT-4."""

from __future__ import annotations

from collections.abc import Sequence

from cotbal.benchmarks.chat.bench import WILD_FOLDER, coco_source, wild_source
from cotbal.benchmarks.chat.instruct import train_source
from cotbal.benchmarks.chat.settings import RECIPE
from cotbal.benchmarks.releases import benchmark
from cotbal.benchmarks.releases.benchmark import Places, Prepared, SplitPlan, TaskPlan
from cotbal.benchmarks.releases.sources import Choices
from cotbal.benchmarks.releases.visatb import visatb_source
from cotbal.benchmarks.releases.writing import Expected
from cotbal.data.checks.census import Progress

__all__ = ["Choices", "Places", "plans", "prepare"]

_FOLDERS = ("coco/train2017", "coco/val2017", "coco/train2014", "coco/val2014", WILD_FOLDER)


def plans() -> tuple[TaskPlan, ...]:
    """The three tasks, in the order of the published task ids."""
    return (
        _plan("conversation", "conversation_58k.json", 56_700, "conv", 17),
        _plan("detail", "detail_23k.json", 23_200, "detail", 15),
        _plan("complex_reasoning", "complex_reasoning_77k.json", 76_600, "complex", 28),
    )


def _plan(name: str, file: str, size: int, category: str, tests: int) -> TaskPlan:
    released = visatb_source("Chat", name, file=name.replace("_", "-"))
    splits = (
        SplitPlan("train", (train_source(file), released), Expected(size, rounded_to=100)),
        SplitPlan("validation", (coco_source(category),), Expected(30, 30)),
        SplitPlan("in_the_wild", (wild_source(category),), Expected(tests, tests)),
    )
    return TaskPlan(name, "judge", splits, folders=_FOLDERS)


def prepare(
    places: Places,
    choices: Choices,
    progress: Progress,
    *,
    tasks: Sequence[str] | None = None,
    model: str = "7b",
) -> Prepared:
    """Build the benchmark, or some of its tasks; tasks that are complete on disk are kept.

    Args:
        places: where the releases are, and where the benchmark goes.
        tasks: names of tasks; None means all.
        model: key of `cotbal.benchmarks.releases.paper.MODELS`.

    Raises:
        CotbalError: an unknown task or model, files that are absent, broken or of another version,
            missing images.
    """
    target = RECIPE.benchmark(plans(), tasks, model, choices)
    return benchmark.prepare(target, places, choices, progress)
